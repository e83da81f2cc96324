//! The page of `jmp-tools compare`.

use std::collections::BTreeSet;

use super::measure::Key;
use super::{CompareReport, FinalRow};
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::number::{integer, significant};
use crate::run_report::{Quantity, RunReport};
use crate::series::{Point, coarse, scaled};
use crate::settings::Difference;
use crate::svg::SERIES;
use crate::svg::axis::Axis;
use crate::svg::bars::{self, Bar};
use crate::svg::line::{self, Curve, Vertical};

/// More settings that differ than this are shown when they are asked for.
const SHOWN_OPEN: usize = 12;
/// Points of a curve among others: noise of single steps would hide them behind one another.
const POINTS: usize = 60;

const SHIFTED_NOTE: &str = "Shifted: only forces were learnt; energies were judged after a constant was \
    fitted on the training split, and do not compare with those of a run that learnt energies.";

/// The page and its numbers.
pub fn document(report: &CompareReport) -> Document {
    let mut document = Document::new("Runs side by side");
    if !report.runs.is_empty() {
        document.open_section("runs", "Runs");
        document.table(&runs(&report.runs));
        finals(&mut document, report);
        let names: Vec<&str> = report.runs.iter().map(|r| r.name.as_str()).collect();
        let table = differences("Settings that differ", &names, &report.differences);
        if report.differences.len() > SHOWN_OPEN {
            let summary = format!("{} settings that differ", report.differences.len());
            document.open_details(&summary, false);
            document.table(&table);
            document.close_details();
        } else {
            document.table(&table);
        }
        document.close_section();
        curves(&mut document, &report.runs);
    }
    if !report.matches.is_empty() {
        time_to_match(&mut document, report);
    }
    if !report.ablation.is_empty() {
        ablation(&mut document, report);
    }
    document
}

fn runs(runs: &[RunReport]) -> Table {
    let columns = [
        "run",
        "steps",
        "epochs",
        "hours / h",
        "ended",
        "best validation metric",
        "at step",
        "structures / s",
    ];
    let mut table = Table::new("How far and how fast", columns);
    for run in runs {
        table.row(vec![
            Cell::text(&run.name),
            Cell::integer(run.steps),
            Cell::number(run.epochs, 4),
            Cell::number(run.minutes.map(|m| m / 60.0), 4),
            Cell::text(run.ending.as_deref().unwrap_or("not yet, or killed")),
            Cell::number(run.best.map(|b| b.metric), 5),
            run.best.map_or(Cell::number(None, 1), |b| Cell::integer(b.step)),
            Cell::number(run.samples_per_second, 4),
        ]);
    }
    table
}

/// An error as it is shown: its name with the unit, and the factor to it.
fn shown(key: &Key) -> (String, f64) {
    match (key.quantity.as_str(), key.unit.as_str()) {
        ("energy", _) => ("energy MAE / meV".into(), 1e3),
        ("forces", _) => ("force MAE / (meV/Å)".into(), 1e3),
        (target, "1") => (format!("MAE of {target}"), 1.0),
        (target, unit) => (format!("MAE of {target} / {unit}"), 1.0),
    }
}

/// In which runs an energy was judged after fitting a constant.
fn shifted(row: &FinalRow, runs: &[RunReport]) -> String {
    let marked = runs.iter().zip(&row.shifted).filter(|(_, shifted)| **shifted);
    let names: Vec<&str> = marked.map(|(run, _)| run.name.as_str()).collect();
    match names.len() {
        0 => String::new(),
        n if n == row.errors.iter().flatten().count() => ", shifted".into(),
        _ => format!(", shifted in {}", names.join(", ")),
    }
}

fn finals(document: &mut Document, report: &CompareReport) {
    let head = |(run, split): (&RunReport, &Option<String>)| {
        format!("{} ({})", run.name, split.as_deref().unwrap_or("no errors"))
    };
    let mut columns = vec!["task".to_string(), "error".into()];
    columns.extend(report.runs.iter().zip(&report.splits).map(head));
    let improves = |index: usize| report.finals.iter().any(|row| row.improvements[index].is_some());
    let improved: Vec<usize> = (1..report.runs.len()).filter(|index| improves(*index)).collect();
    columns.extend(improved.iter().map(|index| format!("{}: improvement / %", report.runs[*index].name)));
    let mut table = Table::new("Final errors", columns);
    for row in &report.finals {
        let FinalRow { key, errors, improvements, .. } = row;
        let (name, factor) = shown(key);
        let name = name + &shifted(row, &report.runs);
        let mut cells = vec![Cell::text(&key.task), Cell::text(&name)];
        cells.extend(errors.iter().map(|e| Cell::number(e.map(|v| v * factor), 4)));
        cells.extend(improved.iter().map(|i| Cell::fixed(improvements[*i].map(|v| 100.0 * v), 1)));
        table.row(cells);
    }
    document.table(&table);
    if report.finals.iter().any(|row| row.shifted.contains(&true)) {
        document.paragraph("note", SHIFTED_NOTE);
    }
    let splits: BTreeSet<_> = report.splits.iter().flatten().collect();
    if splits.len() > 1 {
        let text = "The runs were judged on different splits: their errors and improvements do not compare. Run \
            `jmp-train evaluate --split` for all of them, or choose a split with --split.";
        document.paragraph("warning", text);
    } else if !improved.is_empty() {
        let text = format!(
            "Improvement: (error of {0} − error) / error of {0}, as the paper's Figure 2.",
            report.runs[0].name
        );
        document.paragraph("note", &text);
    }
}

fn differences(caption: &str, names: &[&str], differences: &[Difference]) -> Table {
    let columns = std::iter::once("setting").chain(names.iter().copied());
    let mut table = Table::new(caption, columns);
    for difference in differences {
        let values = difference.values.iter().map(|v| Cell::text(v.as_deref().unwrap_or("–")));
        table.row(std::iter::once(Cell::text(&difference.setting)).chain(values).collect());
    }
    table
}

fn curves(document: &mut Document, runs: &[RunReport]) {
    document.open_section("curves", "Curves");
    if runs.len() > SERIES {
        let text = format!("Runs beyond the first {SERIES} have the colours and dashes of earlier ones.");
        document.paragraph("note", &text);
    }
    document.open_grid();
    validations_by_hour(document, runs);
    let kinds: BTreeSet<(Quantity, &str)> = runs
        .iter()
        .flat_map(|run| &run.curves)
        .flat_map(|(quantity, names)| names.keys().map(|name| (*quantity, name.as_str())))
        .collect();
    for (quantity, name) in kinds {
        curve_figure(document, runs, quantity, name);
    }
    document.close_grid();
    document.close_section();
}

fn curve_figure(document: &mut Document, runs: &[RunReport], quantity: Quantity, name: &str) {
    let style = quantity.style();
    let drawn: Vec<Drawn> = runs
        .iter()
        .map(|run| {
            let points = run.curves.get(&quantity).and_then(|names| names.get(name));
            let last = run.last.get(&quantity).and_then(|names| names.get(name));
            Drawn {
                name: &run.name,
                points: points.map(|p| coarse(&scaled(p, style.factor), POINTS)).unwrap_or_default(),
                last: last.map(|value| value * style.factor),
            }
        })
        .collect();
    let steps = runs.iter().map(|r| r.steps).max().unwrap_or(1).max(1);
    let title = if name.is_empty() { style.title.to_string() } else { format!("{}, {name}", style.title) };
    let axis = Axis::whole("optimiser steps", 0.0, steps as f64);
    overlay(document, &title, &drawn, (axis, style.axis, style.vertical));
}

/// A run's curve.
struct Drawn<'a> {
    name: &'a str,
    points: Vec<Point>,
    last: Option<f64>,
}

fn validations_by_hour(document: &mut Document, runs: &[RunReport]) {
    let point = |x: f64, value: f64| Point { x, mean: value, min: value, max: value, count: 1 };
    let drawn: Vec<Drawn> = runs
        .iter()
        .map(|run| {
            let timed = run.validations.iter().filter_map(|v| Some(point(v.minutes? / 60.0, v.metric)));
            let points: Vec<Point> = timed.collect();
            Drawn { name: &run.name, last: points.last().map(|p| p.mean), points }
        })
        .collect();
    let hours = drawn.iter().flat_map(|d| &d.points).map(|p| p.x).fold(0.0, f64::max);
    if hours > 0.0 {
        let axis = Axis::linear("hours since the start / h", 0.0, hours);
        let y = "metric (lower is better)";
        overlay(document, "Validation metric by time", &drawn, (axis, y, Vertical::Fitted));
    }
}

/// A curve of each run; runs without points keep their colour and are left out.
fn overlay(document: &mut Document, title: &str, drawn: &[Drawn], (x, y, vertical): (Axis, &str, Vertical)) {
    let curves: Vec<Curve> =
        drawn.iter().map(|d| Curve { name: d.name, points: &d.points, last: d.last }).collect();
    for curve in &curves {
        document.curve(title, x.title(), curve);
    }
    let plot = line::draw(&curves, x, y, vertical) + &line::legend(&curves);
    let merged = drawn.iter().flat_map(|d| &d.points).map(|p| p.count).max().unwrap_or(1);
    let note = if merged > 1 { format!("Means of up to {} steps.", integer(merged)) } else { String::new() };
    document.figure(title, &plot, &note);
}

fn time_to_match(document: &mut Document, report: &CompareReport) {
    document.open_section("match", "Time to match");
    let columns = [
        "from scratch",
        "fine-tuned",
        "best metric of scratch",
        "hours to it / h",
        "hours of scratch / h",
        "hours to match / h",
        "at step",
        "times faster",
        "remark",
    ];
    let mut table = Table::new("Hours until the fine-tuned run is as good as the other gets", columns);
    for m in &report.matches {
        table.row(vec![
            Cell::text(&m.scratch),
            Cell::text(&m.tuned),
            Cell::number(m.best, 5),
            Cell::number(m.scratch_best_hours, 3),
            Cell::number(m.scratch_hours, 3),
            Cell::number(m.matched_hours, 3),
            m.matched_step.map_or(Cell::number(None, 1), Cell::integer),
            Cell::number(m.factor, 3),
            Cell::text(m.problem.as_deref().unwrap_or_default()),
        ]);
    }
    document.table(&table);
    let named: Vec<(String, f64, usize)> = report
        .matches
        .iter()
        .flat_map(|m| {
            let bar = |name: &str, hours: Option<f64>, what: &str, series| {
                hours.map(|h| (format!("{name}: {what}"), h, series))
            };
            [
                bar(&m.scratch, m.scratch_hours, "whole run", 0),
                bar(&m.tuned, m.matched_hours, "until it matches", 1),
            ]
        })
        .flatten()
        .collect();
    let drawn: Vec<Bar> =
        named.iter().map(|(name, value, series)| Bar { name, value: *value, series: *series }).collect();
    document.open_grid();
    document.figure("As the paper's Figure 4", &bars::draw(&drawn, "hours / h"), TIME_NOTE);
    document.close_grid();
    for (m, different) in report.matches.iter().zip(&report.pair_differences) {
        let caption = format!("Settings that differ between {} and {}", m.scratch, m.tuned);
        document.table(&differences(&caption, &[&m.scratch, &m.tuned], different));
    }
    document.close_section();
}

const TIME_NOTE: &str = "Hours of the clock, validations included; only runs on the same, otherwise idle machine compare. \
    The paper: 3,300 GPU hours of scratch runs against 275, 12 times faster.";

fn ablation(document: &mut Document, report: &CompareReport) {
    document.open_section("ablation", "Ablation");
    let columns = [
        "method",
        "mean improvement / %",
        "tasks",
        "paper, Table 6 / %",
        "paper, Table 12 / %",
        "no run for",
    ];
    let mut table = Table::new("Mean relative improvement over the first method", columns);
    for row in &report.ablation {
        table.row(vec![
            Cell::text(&row.method),
            Cell::fixed(row.improvement.map(|m| 100.0 * m.share), 1),
            Cell::integer(row.improvement.map_or(0, |m| m.tasks)),
            Cell::fixed(row.table_6, 1),
            Cell::fixed(row.table_12, 2),
            Cell::text(&row.missing.join(", ")),
        ]);
    }
    document.table(&table);
    let ours = report.ablation.iter().filter_map(|row| Some((row.method.as_str(), row.improvement?.share)));
    let drawn: Vec<Bar> = ours.map(|(name, share)| Bar { name, value: 100.0 * share, series: 0 }).collect();
    document.open_grid();
    let plot = bars::draw(&drawn, "mean relative improvement / %");
    let note = format!(
        "Over {} tasks of the first method; of tasks with forces, the force error counts.",
        integer(report.ablation.first().and_then(|r| r.improvement).map_or(0, |m| m.tasks))
    );
    document.figure("Ours", &plot, &note);
    document.close_grid();
    document.close_section();
}

/// A line about a pair for the terminal.
pub fn match_line(m: &super::time_to_match::TimeToMatch) -> String {
    match (&m.problem, m.matched_hours, m.factor) {
        (None, Some(hours), Some(factor)) => format!(
            "{} matches {} after {} h, {} times faster",
            m.tuned,
            m.scratch,
            significant(hours, 3),
            significant(factor, 3)
        ),
        (problem, ..) => {
            format!("{} and {}: {}", m.tuned, m.scratch, problem.as_deref().unwrap_or("no match"))
        }
    }
}
