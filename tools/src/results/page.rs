//! The page of `jmp-tools results`.

use std::collections::BTreeMap;

use super::ResultsReport;
use super::ours::Ours;
use super::rows::{DatasetMean, Error, FOLDS, Part, ResultRow};
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::number::{integer, significant};
use crate::paper::improvement::{self, Mean, compared, relative};
use crate::paper::{Comparison, Paper, Printed};
use crate::svg::bars::{self, Bar};

/// The page and its numbers.
pub fn document(report: &ResultsReport, paper: &Paper) -> Document {
    let mut document = Document::new("Results beside the paper");
    if !report.rows.is_empty() {
        ours(&mut document, report, paper);
    }
    improvements(&mut document, report);
    of_the_paper(&mut document, paper);
    document
}

fn ours(document: &mut Document, report: &ResultsReport, paper: &Paper) {
    document.open_section("results", "Errors");
    let mut datasets: Vec<&str> = paper.tasks.iter().map(|t| t.dataset.as_str()).collect();
    datasets.dedup();
    for few_shot in [false, true] {
        for dataset in &datasets {
            let own = |r: &&ResultRow| {
                r.few_shot == few_shot && paper.task(&r.task).is_some_and(|t| t.dataset == *dataset)
            };
            let rows: Vec<&ResultRow> = report.rows.iter().filter(own).collect();
            let name = if *dataset == "MD17" { "rMD17" } else { dataset };
            let trained = if few_shot { ", trained on 50 structures" } else { "" };
            document.table(&errors(&format!("{name}{trained}"), &rows, paper));
        }
    }
    let note = "Mean absolute errors on test splits; lower is better. “Over” is (theirs − ours) / theirs: below zero, ours is \
        worse. The paper's columns are its printed numbers.";
    document.paragraph("note", note);
    document.table(&overlap(report, paper));
    document.table(&runs(report));
    document.table(&differing(report));
    document.close_section();
}

fn errors(caption: &str, rows: &[&ResultRow], paper: &Paper) -> Table {
    let columns = [
        "task (unit)",
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
    ];
    let mut table = Table::new(caption, columns);
    for row in rows {
        let Some(task) = paper.task(&row.task) else { continue };
        let percent = |share: Option<f64>| Cell::fixed(share.map(|s| 100.0 * s), 1);
        let [scratch_s, scratch_l, jmp_s, jmp_l] = row.paper;
        table.row(vec![
            Cell::text(&with_unit(&named(&task.label, row), &task.unit)),
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
        ]);
    }
    table
}

fn named(label: &str, row: &ResultRow) -> String {
    let count = row.tuned.or(row.scratch).map_or(0, |e| e.count);
    let label = row.trained.as_ref().map_or(label.into(), |split| format!("{label}, trained on {split}"));
    match row.part {
        Part::Whole if count > 1 => format!("{label}, mean of {count} runs"),
        Part::Whole => label,
        Part::Fold(fold) => format!("{label}, fold {fold}"),
        Part::Mean if count == FOLDS => format!("{label}, mean of folds"),
        Part::Mean => format!("{label}, mean of {count} of {FOLDS} folds"),
    }
}

fn with_unit(name: &str, unit: &str) -> String {
    if unit == "1" { name.into() } else { format!("{name} ({unit})") }
}

fn own(error: Option<Error>) -> Cell {
    Cell::number(error.map(|e| e.value), 4)
}

fn printed(value: Option<Printed>) -> Cell {
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
    let columns = ["run", "kind", "task", "trained on", "judged on", "structures judged", "error", "unit"];
    let mut table = Table::new("Runs", columns);
    let mut add = |kind: &str, ours: &Ours| {
        table.row(vec![
            Cell::text(&ours.run),
            Cell::text(kind),
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

fn improvements(document: &mut Document, report: &ResultsReport) {
    document.open_section("improvement", "Improvement by pre-training");
    let columns = [
        "dataset",
        "ours / %",
        "our tasks",
        "JMP-L over GN-OC-L, printed / %",
        "the same from the tables / %",
        "JMP-S over GN-OC-S, from the tables / %",
        "tasks of the paper",
    ];
    let mut table = Table::new("Mean relative improvement over training from scratch", columns);
    for mean in &report.means {
        let percent = |m: Option<Mean>| Cell::fixed(m.map(|m| 100.0 * m.share), 1);
        let cells = vec![
            Cell::text(&mean.dataset),
            percent(mean.ours),
            Cell::integer(mean.ours.map_or(0, |m| m.tasks)),
            printed(mean.printed),
            percent(mean.large),
            percent(mean.small),
            Cell::integer(mean.large.map_or(0, |m| m.tasks)),
        ];
        if mean.dataset == "all" { table.total(cells) } else { table.row(cells) }
    }
    document.table(&table);
    let note = "Of each task (scratch − fine-tuned) / scratch, then the mean over a dataset's tasks (Figure 2c, App. C.1). Printed \
        numbers differ from those of the tables because the tables' entries are rounded. A mean over few of our tasks \
        does not compare with one over all.";
    document.paragraph("note", note);
    document.open_grid();
    document.figure("As the paper's Figure 2c", &improvement_bars(&report.means), "");
    document.close_grid();
    document.close_section();
}

fn improvement_bars(means: &[DatasetMean]) -> String {
    let named: Vec<(String, f64, usize)> = means
        .iter()
        .flat_map(|m| {
            let paper = m.printed.map(|p| (format!("{}: JMP-L over GN-OC-L, paper", m.dataset), p.value, 0));
            let ours =
                m.ours.map(|o| (format!("{}: ours, {}", m.dataset, tasks(o.tasks)), 100.0 * o.share, 1));
            [paper, ours]
        })
        .flatten()
        .collect();
    let drawn: Vec<Bar> =
        named.iter().map(|(name, value, series)| Bar { name, value: *value, series: *series }).collect();
    bars::draw(&drawn, "mean relative improvement / %")
}

fn tasks(count: u64) -> String {
    if count == 1 { "1 task".into() } else { format!("{} tasks", integer(count)) }
}

fn of_the_paper(document: &mut Document, paper: &Paper) {
    document.open_section("paper", "The paper's own comparisons");
    document.open_details("Figures 2 and 3, Tables 10, 13 and 16", false);
    document.table(&figure_2(paper));
    document.table(&figure_3(paper));
    for id in ["10", "16"] {
        document.table(&as_printed(paper, id));
    }
    let mut schedules =
        Table::new("Table 13: schedules, aspirin", ["schedule", "force MAE, validation / (meV/Å)"]);
    for schedule in &paper.schedules {
        schedules.row(vec![Cell::text(&schedule.label), Cell::number(Some(schedule.force_mae), 3)]);
    }
    document.table(&schedules);
    document.close_details();
    document.close_section();
}

fn figure_2(paper: &Paper) -> Table {
    let columns = ["comparison", "dataset", "printed in App. C.1 / %", "from the tables / %"];
    let mut table = Table::new("Figure 2: mean relative improvements", columns);
    for comparison in &paper.comparisons {
        let pairs = compared(paper, comparison);
        for (dataset, told) in &comparison.means {
            table.row(vec![
                Cell::text(&comparison.what),
                Cell::text(dataset),
                printed(Some(*told)),
                Cell::fixed(mean_of(&pairs, Some(dataset)), 1),
            ]);
        }
        let fold_0 = compared(paper, &Comparison { matbench_mean: false, ..comparison.clone() });
        table.row(vec![
            Cell::text(&comparison.what),
            Cell::text("all 40 tasks"),
            printed(Some(comparison.average)),
            Cell::fixed(mean_of(&fold_0, None), 1),
        ]);
    }
    table
}

/// Mean relative improvement of a dataset's tasks, or of all, per cent.
fn mean_of(pairs: &[(&str, Printed, Printed)], dataset: Option<&str>) -> Option<f64> {
    let chosen = pairs.iter().filter(|(d, ..)| dataset.is_none_or(|wanted| *d == wanted));
    let shares = chosen.filter_map(|(_, b, m)| relative(b.value, m.value));
    improvement::mean(shares).map(|m| 100.0 * m.share)
}

fn figure_3(paper: &Paper) -> Table {
    let columns = ["model", "ε LUMO / %", "ε HOMO / %"];
    let mut table = Table::new("Figure 3: relative improvement over scratch on QM9, from Table 2", columns);
    for (model, baseline) in [("JMP-S", "GN-OC-S"), ("JMP-L", "GN-OC-L")] {
        let share = |task: &str| {
            let value = |name: &str| Some(paper.error(task, name)?.first?.value);
            relative(value(baseline)?, value(model)?).map(|s| 100.0 * s)
        };
        table.row(vec![
            Cell::text(&format!("{model} over {baseline}")),
            Cell::fixed(share("qm9/eps_LUMO"), 1),
            Cell::fixed(share("qm9/eps_HOMO"), 1),
        ]);
    }
    table
}

fn as_printed(paper: &Paper, id: &str) -> Table {
    let Some(printed_table) = paper.table(id) else { return Table::new::<&str>("", []) };
    let columns = std::iter::once("task (unit)").chain(printed_table.models.iter().map(String::as_str));
    let mut table = Table::new(&format!("Table {id}: {}", printed_table.what), columns);
    for row in &printed_table.rows {
        let Some(task) = paper.task(&row.task) else { continue };
        let values = row.values.iter().map(|e| printed(e.first));
        table.row(std::iter::once(Cell::text(&with_unit(&task.label, &task.unit))).chain(values).collect());
    }
    table
}

/// A line about a row for the terminal.
pub fn line(row: &ResultRow, paper: &Paper) -> String {
    let Some(task) = paper.task(&row.task) else { return row.task.clone() };
    let own = |e: Option<Error>| e.map_or("–".into(), |e| significant(e.value, 4));
    let told = |p: Option<Printed>| p.map_or("–".into(), |p| p.to_string());
    format!(
        "{}: fine-tuned {}, scratch {}, JMP-S {}, JMP-L {} ({})",
        named(&row.task, row),
        own(row.tuned),
        own(row.scratch),
        told(row.paper[2]),
        told(row.paper[3]),
        task.unit
    )
}
