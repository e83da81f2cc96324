//! Figures 2 and 3 on the page of `jmp-tools results`, and the paper's own comparisons.

use std::collections::BTreeSet;

use super::ResultsReport;
use super::figures::{DatasetMean, Scaling, from_tables};
use super::page::{models, printed, with_unit};
use super::variant::Model;
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::number::integer;
use crate::paper::Paper;
use crate::paper::improvement::Mean;
use crate::svg::bars::{self, Bar};

const IMPROVEMENT_NOTE: &str = "Of each task (scratch − fine-tuned) / scratch, then the mean over a \
    dataset's tasks (Figure 2c, App. C.1). Printed numbers differ from those of the tables because the \
    tables' entries are rounded. A mean over few of our tasks does not compare with one over all. A task \
    counts once: trained on several splits or with several settings, with the mean of these improvements; \
    without a baseline, not at all.";

const SCALING_NOTE: &str = "Of each task that has runs of jmp-s and of jmp-l (small − large) / small, then \
    the mean over a dataset's tasks (Figure 2a and 2b, App. C.1); below zero, the large model is worse. \
    MatBench counts by fold 0 in (a) and by the mean over the five folds in (b), as in the paper; where we \
    have no such folds, by those that both models have.";

const TRANSFER_NOTE: &str = "ET-OREO is TorchMD-Net's network, pre-trained: TorchMD-Net in Table 2 is taken \
    as its scratch baseline; the paper does not say what Figure 3 takes. GNS+TAT+NN (Table 2) and ET+NN \
    (Table 8) are left out: no table has the same networks with noisy nodes (and TAT) from scratch.";

/// Renders the sections after that of the errors.
pub(super) fn render(document: &mut Document, report: &ResultsReport, paper: &Paper) {
    improvements(document, report);
    scaling(document, report);
    of_the_paper(document, paper);
}

fn percent(mean: Option<Mean>) -> Cell {
    Cell::fixed(mean.map(|m| 100.0 * m.share), 1)
}

fn count(mean: Option<Mean>) -> Cell {
    Cell::integer(mean.map_or(0, |m| m.tasks))
}

/// A dataset's row, or that over all below the others.
fn add(table: &mut Table, dataset: &str, cells: Vec<Cell>) {
    if dataset == "all" { table.total(cells) } else { table.row(cells) }
}

fn improvements(document: &mut Document, report: &ResultsReport) {
    let labels = models(report);
    // Only those that have both runs.
    let models: BTreeSet<&Model> = report.means.iter().flat_map(|m| &m.ours).map(|o| &o.model).collect();
    let mut columns = vec!["dataset".to_owned()];
    for model in &models {
        let label = model.label(&labels);
        columns.extend([format!("ours, {label} / %"), format!("our tasks, {label}")]);
    }
    columns.extend(
        [
            "JMP-L over GN-OC-L, printed / %",
            "the same from the tables / %",
            "JMP-S over GN-OC-S, from the tables / %",
            "tasks of the paper",
        ]
        .map(String::from),
    );
    let mut table = Table::new("Mean relative improvement over training from scratch", columns);
    for mean in &report.means {
        let mut cells = vec![Cell::text(&mean.dataset)];
        for model in &models {
            let own = mean.ours.iter().find(|o| o.model == **model).map(|o| o.mean);
            cells.extend([percent(own), count(own)]);
        }
        cells.extend([printed(mean.printed), percent(mean.large), percent(mean.small), count(mean.large)]);
        add(&mut table, &mean.dataset, cells);
    }
    document.open_section("improvement", "Improvement by pre-training");
    document.table(&table);
    document.paragraph("note", IMPROVEMENT_NOTE);
    document.open_grid();
    document.figure("As the paper's Figure 2c", &improvement_bars(&report.means, &labels), "");
    document.close_grid();
    document.table(&figure_3(report));
    document.paragraph("note", TRANSFER_NOTE);
    document.close_section();
}

fn improvement_bars(means: &[DatasetMean], labels: &BTreeSet<&Model>) -> String {
    let mut named: Vec<(String, f64, usize)> = vec![];
    for mean in means {
        let name = &mean.dataset;
        named.extend(mean.printed.map(|p| (format!("{name}: JMP-L over GN-OC-L, paper"), p.value, 0)));
        for own in &mean.ours {
            // A model has one colour, whichever datasets have it.
            let series = 1 + labels.iter().position(|model| **model == own.model).unwrap_or(0);
            let text = format!("{name}: ours, {}, {}", own.model.label(labels), tasks(own.mean.tasks));
            named.push((text, 100.0 * own.mean.share, series));
        }
    }
    draw(&named)
}

fn draw(named: &[(String, f64, usize)]) -> String {
    let drawn: Vec<Bar> =
        named.iter().map(|(name, value, series)| Bar { name, value: *value, series: *series }).collect();
    bars::draw(&drawn, "mean relative improvement / %")
}

fn tasks(count: u64) -> String {
    if count == 1 { "1 task".into() } else { format!("{} tasks", integer(count)) }
}

fn figure_3(report: &ResultsReport) -> Table {
    let columns = ["model", "over", "ε LUMO / %", "ε HOMO / %"];
    let mut table =
        Table::new("Figure 3: relative improvement over scratch on QM9, the paper's from Table 2", columns);
    for row in &report.figure_3 {
        let percent = |share: Option<f64>| Cell::fixed(share.map(|s| 100.0 * s), 1);
        table.row(vec![
            Cell::text(&row.method),
            Cell::text(&row.baseline),
            percent(row.lumo),
            percent(row.homo),
        ]);
    }
    table
}

/// What our large models gain over our small ones, where there are both.
fn scaling(document: &mut Document, report: &ResultsReport) {
    if report.scaling.is_empty() {
        return;
    }
    let columns = [
        "dataset",
        "(a) ours from scratch, large over small / %",
        "our tasks, scratch",
        "GN-OC-L over GN-OC-S, printed / %",
        "GN-OC-L over GN-OC-S, from the tables / %",
        "(b) ours fine-tuned, large over small / %",
        "our tasks, fine-tuned",
        "JMP-L over JMP-S, printed / %",
        "JMP-L over JMP-S, from the tables / %",
    ];
    let mut table = Table::new("Mean relative improvement of the large model over the small one", columns);
    for Scaling { dataset, scratch, tuned } in &report.scaling {
        let mut cells = vec![Cell::text(dataset)];
        for beside in [scratch, tuned] {
            cells.extend([percent(beside.ours), count(beside.ours)]);
            cells.extend([printed(beside.printed), percent(beside.tables)]);
        }
        add(&mut table, dataset, cells);
    }
    document.open_section("scaling", "Large over small");
    document.table(&table);
    document.paragraph("note", SCALING_NOTE);
    document.open_grid();
    document.figure("As the paper's Figure 2a and 2b", &scaling_bars(&report.scaling), "");
    document.close_grid();
    document.close_section();
}

fn scaling_bars(means: &[Scaling]) -> String {
    let mut named: Vec<(String, f64, usize)> = vec![];
    for Scaling { dataset, scratch, tuned } in means {
        let kinds = [("scratch", scratch, 0), ("fine-tuned", tuned, 2)];
        // A dataset of which we have nothing says nothing about ours.
        for (kind, beside, series) in kinds.into_iter().filter(|(_, beside, _)| beside.ours.is_some()) {
            let paper = beside.printed.map(|p| (format!("{dataset}: {kind}, paper"), p.value, series));
            let ours = beside.ours.map(|m| {
                (format!("{dataset}: {kind}, ours, {}", tasks(m.tasks)), 100.0 * m.share, series + 1)
            });
            named.extend([paper, ours].into_iter().flatten());
        }
    }
    draw(&named)
}

fn of_the_paper(document: &mut Document, paper: &Paper) {
    document.open_section("paper", "The paper's own comparisons");
    document.open_details("Figure 2, Tables 10, 13 and 16", false);
    document.table(&figure_2(paper));
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
        for (dataset, told) in &comparison.means {
            table.row(vec![
                Cell::text(&comparison.what),
                Cell::text(dataset),
                printed(Some(*told)),
                percent(from_tables(paper, comparison, Some(dataset))),
            ]);
        }
        table.row(vec![
            Cell::text(&comparison.what),
            Cell::text("all 40 tasks"),
            printed(Some(comparison.average)),
            percent(from_tables(paper, comparison, None)),
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
