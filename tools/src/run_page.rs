//! A run's section of the page.

use std::collections::BTreeMap;

use crate::document::Document;
use crate::evaluation::{SHIFTED, TaskErrors};
use crate::html::{Cell, Table};
use crate::number::{integer, significant};
use crate::run_report::{Quantity, RunReport};
use crate::series::{Point, scaled};
use crate::sessions::Session;
use crate::svg::axis::Axis;
use crate::svg::line::{self, Curve, Vertical};

/// How a quantity is drawn.
pub(crate) struct Style {
    /// Above the plot.
    pub(crate) title: &'static str,
    /// The vertical axis, with its unit.
    pub(crate) axis: &'static str,
    /// From the recorded unit to the axis'.
    pub(crate) factor: f64,
    /// What the vertical axis is.
    pub(crate) vertical: Vertical,
}

impl Quantity {
    /// How it is drawn.
    pub(crate) fn style(self) -> Style {
        use Vertical::{Fitted, FromZero};
        let style = |title, axis, factor, vertical| Style { title, axis, factor, vertical };
        match self {
            Self::Loss => style("Training loss", "loss, normalised units", 1.0, Fitted),
            Self::EnergyLoss => {
                style("Energy part of the loss", "energy loss, normalised units", 1.0, Fitted)
            }
            Self::ForceLoss => style("Force part of the loss", "force loss, normalised units", 1.0, Fitted),
            Self::EnergyMae => style("Energy MAE, validation", "energy MAE / meV", 1e3, Fitted),
            Self::ForceMae => style("Force MAE, validation", "force MAE / (meV/Å)", 1e3, Fitted),
            Self::ValidationMetric => style("Validation metric", "metric (lower is better)", 1.0, Fitted),
            Self::LearningRate => style("Learning rate", "largest learning rate", 1.0, FromZero),
            Self::GradientNorm => style("Gradient norm before clipping", "L2 norm", 1.0, Fitted),
            Self::SamplesPerSecond => {
                style("Throughput since the session began", "structures per second", 1.0, FromZero)
            }
            Self::Waiting => style("Waiting for data", "share of the time", 1.0, FromZero),
        }
    }
}

/// Renders a run.
pub fn render(document: &mut Document, run: &RunReport, anchor: &str) {
    document.open_section(anchor, &format!("Run {}", run.name));
    facts(document, run);
    if run.unreadable_lines > 0 {
        let text = format!(
            "{} lines of metrics.jsonl are not JSON and were left out (a killed run cuts its last line short).",
            run.unreadable_lines
        );
        document.paragraph("warning", &text);
    }
    document.table(&evaluations(run));
    if run.curves.is_empty() {
        document.paragraph("warning", "metrics.jsonl tells of no step: there are no curves.");
    }
    document.open_grid();
    for (quantity, curves) in &run.curves {
        curves_figure(document, run, *quantity, curves);
    }
    document.close_grid();
    document.close_section();
}

fn facts(document: &mut Document, run: &RunReport) {
    let text = |value: Option<f64>, digits| value.map(|v| significant(v, digits)).unwrap_or_default();
    let best = run.best.map(|b| format!("{} at step {}", significant(b.metric, 4), integer(b.step)));
    document.facts(&[
        ("optimiser steps", integer(run.steps)),
        ("structures consumed", run.samples.map(integer).unwrap_or_default()),
        ("epochs", text(run.epochs, 4)),
        ("ended", ending(run.ending.as_deref()).into()),
        ("minutes", text(run.minutes, 4)),
        ("ran on", run.sessions.last().map(Session::words).unwrap_or_default()),
        ("structures per second", text(run.samples_per_second, 4)),
        ("best validation metric", best.unwrap_or_default()),
        ("directory", run.directory.clone()),
    ]);
}

/// Why a run ended, in words.
fn ending(name: Option<&str>) -> &str {
    match name {
        None => "not yet (still running, or killed)",
        Some("max-steps") => "at its limit of steps",
        Some("patience") => "no better validation for too long",
        Some("min-lr") => "learning rate at its floor",
        Some("minutes") => "at its limit of time",
        Some("signal") => "stopped by someone",
        Some(other) => other,
    }
}

fn evaluations(run: &RunReport) -> Table {
    let columns = [
        "split",
        "task",
        "structures",
        "mean absolute error of",
        "error",
        "error of a constant guess",
        "force cosine",
        "file",
    ];
    let mut table = Table::new("Evaluation", columns);
    for evaluation in &run.evaluations {
        for (task, errors) in &evaluation.tasks {
            for (mut what, [error, constant, cosine]) in told(errors) {
                if let Some(diverged) = errors.not_finite {
                    let without = format!(", without {diverged} structures whose predictions are not finite");
                    what.push_str(&without);
                }
                table.row(vec![
                    Cell::text(&evaluation.split),
                    Cell::text(task),
                    errors.structures.map_or(Cell::number(None, 1), Cell::integer),
                    Cell::text(&what),
                    Cell::number(error, 4),
                    Cell::number(constant, 4),
                    Cell::number(cosine, 3),
                    Cell::text(&evaluation.file),
                ]);
            }
        }
    }
    table
}

/// Errors with their unit: of the model, of always predicting zero force or the mean property, and the mean cosine of forces.
fn told(errors: &TaskErrors) -> Vec<(String, [Option<f64>; 3])> {
    let milli = |value: Option<f64>| value.map(|v| 1e3 * v);
    let scalar = errors.scalar.as_ref();
    let mark = if errors.energy_shifted { SHIFTED } else { "" };
    let rows = [
        (format!("energy / meV{mark}"), [milli(errors.energy_mae), None, None]),
        (format!("energy per atom / (meV/atom){mark}"), [milli(errors.energy_mae_per_atom), None, None]),
        (
            "force components / (meV/Å)".into(),
            [milli(errors.force_mae), milli(errors.force_mae_of_zero), errors.force_cosine],
        ),
        (
            scalar.map(|s| format!("{} / {}", s.target, s.unit)).unwrap_or_default(),
            [scalar.and_then(|s| s.mae), scalar.and_then(|s| s.mae_of_zero), None],
        ),
    ];
    rows.into_iter().filter(|(_, [error, ..])| error.is_some()).collect()
}

fn curves_figure(
    document: &mut Document,
    run: &RunReport,
    quantity: Quantity,
    curves: &BTreeMap<String, Vec<Point>>,
) {
    let last = run.last.get(&quantity);
    let style = quantity.style();
    let scaled: Vec<(&str, Vec<Point>)> =
        curves.iter().map(|(name, points)| (name.as_str(), scaled(points, style.factor))).collect();
    let drawn: Vec<Curve> = scaled
        .iter()
        .map(|(name, points)| Curve {
            name: if name.is_empty() { "last:" } else { name },
            points,
            last: last.and_then(|l| l.get(*name)).map(|v| v * style.factor),
        })
        .collect();
    // All plots of a run have one horizontal axis, so that they can be compared.
    let steps = Axis::whole("optimiser steps", 0.0, run.steps.max(1) as f64);
    let plot = line::draw(&drawn, steps, style.axis, style.vertical) + &line::legend(&drawn);
    for curve in &drawn {
        document.curve(style.title, "optimiser step", curve);
    }
    let merged = scaled.iter().flat_map(|(_, points)| points).map(|p| p.count).max().unwrap_or(1);
    let note = match merged {
        0 | 1 => String::new(),
        n => format!("Each point is the mean of {} steps; the band holds their extremes.", integer(n)),
    };
    document.figure(style.title, &plot, &note);
}
