//! The page of `jmp-tools results`.

use std::collections::{BTreeMap, BTreeSet};

use super::ours::Ours;
use super::rows::{Error, FOLDS, Part, ResultRow};
use super::variant::Model;
use super::{ResultsReport, figures_page};
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::number::significant;
use crate::paper::{Paper, Printed};

const ERRORS_NOTE: &str = "Mean absolute errors on test splits; lower is better. “Over” is (theirs − ours) / \
    theirs: below zero, ours is worse. The paper's columns are its printed numbers; a model of JMP-S's or \
    JMP-L's size is compared with those of its size. Only runs that differ by seed or fold are averaged. The \
    scratch run beside a fine-tuned one is of the same model and, where there are several, of the same \
    settings; of several with other settings none is its baseline.";

/// The page and its numbers.
pub fn document(report: &ResultsReport, paper: &Paper) -> Document {
    let mut document = Document::new("Results beside the paper");
    if !report.rows.is_empty() {
        ours(&mut document, report, paper);
    }
    figures_page::render(&mut document, report, paper);
    document
}

/// All models that there are runs of.
pub(super) fn models(report: &ResultsReport) -> BTreeSet<&Model> {
    report.tuned.iter().chain(&report.scratch).map(|ours| &ours.model).collect()
}

fn ours(document: &mut Document, report: &ResultsReport, paper: &Paper) {
    document.open_section("results", "Errors");
    let mut datasets: Vec<&str> = paper.tasks.iter().map(|t| t.dataset.as_str()).collect();
    datasets.dedup();
    let models = models(report);
    for few_shot in [false, true] {
        for dataset in &datasets {
            let own = |r: &&ResultRow| {
                r.few_shot == few_shot && paper.task(&r.task).is_some_and(|t| t.dataset == *dataset)
            };
            let rows: Vec<&ResultRow> = report.rows.iter().filter(own).collect();
            let name = if *dataset == "MD17" { "rMD17" } else { dataset };
            let trained = if few_shot { ", trained on 50 structures" } else { "" };
            document.table(&errors(&format!("{name}{trained}"), &rows, &models, paper));
        }
    }
    document.paragraph("note", ERRORS_NOTE);
    document.table(&overlap(report, paper));
    document.table(&runs(report));
    document.table(&differing(report));
    document.close_section();
}

fn errors(caption: &str, rows: &[&ResultRow], models: &BTreeSet<&Model>, paper: &Paper) -> Table {
    let columns = [
        "task (unit)",
        "our model",
        "ours, fine-tuned",
        "ours, scratch",
        "JMP-S",
        "JMP-L",
        "GN-OC-S",
        "GN-OC-L",
        "best other in the paper",
        "over our scratch / %",
        "over JMP-S / %",
        "over JMP-L / %",
        "scratch over GN-OC-S / %",
        "scratch over GN-OC-L / %",
    ];
    let mut table = Table::new(caption, columns);
    for row in rows {
        let Some(task) = paper.task(&row.task) else { continue };
        let percent = |share: Option<f64>| Cell::fixed(share.map(|s| 100.0 * s), 1);
        let [scratch_s, scratch_l, jmp_s, jmp_l] = row.paper;
        table.row(vec![
            Cell::text(&with_unit(&named(&task.label, row), &task.unit)),
            Cell::text(&row.model.label(models)),
            own(row.tuned),
            own(row.scratch),
            printed(jmp_s),
            printed(jmp_l),
            printed(scratch_s),
            printed(scratch_l),
            row.best_other.as_ref().map_or(Cell::number(None, 1), |(model, value)| {
                Cell::shown(&format!("{value} ({model})"), value.value)
            }),
            percent(row.improvement),
            percent(row.over_paper[0]),
            percent(row.over_paper[1]),
            percent(row.scratch_over_paper[0]),
            percent(row.scratch_over_paper[1]),
        ]);
    }
    table
}

fn named(label: &str, row: &ResultRow) -> String {
    let count = row.tuned.or(row.scratch).map_or(0, |e| e.count);
    let mut words = vec![label.to_owned()];
    words.extend(row.trained.as_ref().map(|split| format!("trained on {split}")));
    words.extend(row.judged.as_ref().map(|split| format!("judged on {split}")));
    words.extend(row.settings.as_ref().map(|settings| format!("with {settings}")));
    words.extend(row.scratch_settings.as_ref().map(|settings| format!("scratch with {settings}")));
    words.extend(match row.part {
        Part::Fold(fold) => Some(format!("fold {fold}")),
        Part::Mean if count == FOLDS => Some("mean of folds".into()),
        Part::Mean => Some(format!("mean of {count} of {FOLDS} folds")),
        Part::Whole => None,
    });
    if row.part != Part::Mean && count > 1 {
        words.push(format!("mean of {count} runs"));
    }
    words.join(", ")
}

pub(super) fn with_unit(name: &str, unit: &str) -> String {
    if unit == "1" { name.into() } else { format!("{name} ({unit})") }
}

fn own(error: Option<Error>) -> Cell {
    Cell::number(error.map(|e| e.value), 4)
}

pub(super) fn printed(value: Option<Printed>) -> Cell {
    value.map_or(Cell::number(None, 1), |v| Cell::shown(&v.to_string(), v.value))
}

/// Errors on the parts of a test split that a mask tells apart, beside Table 16.
fn overlap(report: &ResultsReport, paper: &Paper) -> Table {
    let columns = [
        "run",
        "task (unit)",
        "overlapping",
        "non-overlapping",
        "combined",
        "JMP-L overlapping",
        "JMP-L non-overlapping",
        "JMP-L combined",
    ];
    let mut table = Table::new("By overlap with the pre-training data (as Table 16)", columns);
    for ours in report.tuned.iter().chain(&report.scratch).filter(|o| !o.by_overlap.is_empty()) {
        let Some(task) = paper.task(&ours.task) else { continue };
        let own = |part: &str| Cell::number(ours.by_overlap.get(part).copied(), 4);
        let told = |model: &str| printed(paper.table("16").and_then(|t| t.entry(&task.id, model)?.first));
        let label = with_unit(&task.label, &task.unit);
        let mut cells = vec![Cell::text(&ours.run), Cell::text(&label)];
        cells.extend(["overlapping", "non_overlapping", "combined"].map(own));
        cells.extend(["JMP-L overlapping", "JMP-L non-overlapping", "JMP-L combined"].map(told));
        table.row(cells);
    }
    table
}

/// What each run was.
fn runs(report: &ResultsReport) -> Table {
    let columns =
        ["run", "kind", "model", "task", "trained on", "judged on", "structures judged", "error", "unit"];
    let mut table = Table::new("Runs", columns);
    let models = models(report);
    let mut add = |kind: &str, ours: &Ours| {
        table.row(vec![
            Cell::text(&ours.run),
            Cell::text(kind),
            Cell::text(&ours.model.label(&models)),
            Cell::text(&ours.task),
            Cell::text(ours.trained.as_deref().unwrap_or("–")),
            Cell::text(&ours.split),
            ours.structures.map_or(Cell::number(None, 1), Cell::integer),
            Cell::number(Some(ours.error), 4),
            Cell::text(&ours.unit),
        ]);
    };
    report.tuned.iter().for_each(|o| add("fine-tuned", o));
    report.scratch.iter().for_each(|o| add("scratch", o));
    table
}

/// In what runs differ from the paper's: runs that differ in the same are told together.
fn differing(report: &ResultsReport) -> Table {
    let mut table = Table::new("How runs differ from the paper's", ["runs", "difference"]);
    let mut runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let all = || report.tuned.iter().chain(&report.scratch);
    for ours in all() {
        let names = if ours.differs.is_empty() {
            vec!["in nothing that is recorded"]
        } else {
            ours.differs.iter().map(String::as_str).collect()
        };
        names.into_iter().for_each(|text| runs.entry(text).or_default().push(&ours.run));
    }
    let most = all().count();
    for (text, names) in runs {
        let who = if names.len() == most { "all".into() } else { names.join(", ") };
        table.row(vec![Cell::text(&who), Cell::text(text)]);
    }
    table
}

/// Lines about the rows for the terminal.
pub fn lines(report: &ResultsReport, paper: &Paper) -> Vec<String> {
    let models = models(report);
    report.rows.iter().map(|row| line(row, &row.model.label(&models), paper)).collect()
}

fn line(row: &ResultRow, model: &str, paper: &Paper) -> String {
    let Some(task) = paper.task(&row.task) else { return row.task.clone() };
    let own = |e: Option<Error>| e.map_or("–".into(), |e| significant(e.value, 4));
    let told = |p: Option<Printed>| p.map_or("–".into(), |p| p.to_string());
    format!(
        "{}, {model}: fine-tuned {}, scratch {}, JMP-S {}, JMP-L {} ({})",
        named(&row.task, row),
        own(row.tuned),
        own(row.scratch),
        told(row.paper[2]),
        told(row.paper[3]),
        task.unit
    )
}
