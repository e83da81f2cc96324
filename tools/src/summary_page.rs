//! The page's head: all datasets in one table (as Table 1 of the paper), the mix, and where to find the rest.

use std::fmt::Write as _;

use crate::coverage_page;
use crate::dataset_report::{DatasetReport, SplitSummary};
use crate::document::Document;
use crate::html::{self, Cell, Table, escape};
use crate::mix::Mix;
use crate::number;
use crate::report::Report;
use crate::svg::share;

/// Splits named in the table; datasets with more list them in their own section.
const NAMED_SPLITS: usize = 4;

/// Renders the head.
pub fn render(document: &mut Document, report: &Report) {
    document.html(&contents(report));
    if !report.datasets.is_empty() {
        document.table(&datasets(&report.datasets));
    }
    if report.datasets.len() > 1 {
        coverage_page::render(document, &report.coverage);
    }
    if !report.mix.is_empty() {
        mix(document, &report.mix);
    }
}

fn contents(report: &Report) -> String {
    let datasets = report.datasets.iter().enumerate().map(|(i, d)| (html::dataset_anchor(i), &d.name));
    let runs = report.runs.iter().enumerate().map(|(i, r)| (html::run_anchor(i), &r.name));
    let mut html = String::from("<nav><ul>");
    for (anchor, name) in datasets.chain(runs) {
        let _ = write!(html, "<li><a href=\"#{anchor}\">{}</a></li>", escape(name));
    }
    html + "</ul></nav>\n"
}

fn datasets(datasets: &[DatasetReport]) -> Table {
    let columns = [
        "dataset",
        "domain",
        "level of theory",
        "labels",
        "structures",
        "atoms: mean (min–max)",
        "elements",
        "structures a split",
    ];
    let mut table = Table::new("Datasets (as Table 1 of the paper)", columns);
    for (index, dataset) in datasets.iter().enumerate() {
        let overview = dataset.split(dataset.overview_split.as_deref());
        table.row(vec![
            Cell::link(&dataset.name, &html::dataset_anchor(index)),
            Cell::text(&dataset.domain),
            Cell::text(&dataset.level_of_theory),
            Cell::text(&dataset.labels.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
            Cell::integer(dataset.rows),
            overview.map_or(Cell::text("–"), sizes),
            Cell::integer(dataset.elements.len() as u64),
            Cell::text(&splits(dataset)),
        ]);
    }
    table
}

/// Mean, fewest and most atoms of a split's structures.
pub(crate) fn sizes(split: &SplitSummary) -> Cell {
    match split.atoms_mean {
        Some(mean) => Cell::shown(
            &format!("{} ({}–{})", number::fixed(mean, 1), split.atoms_min, split.atoms_max),
            mean,
        ),
        None => Cell::text("–"),
    }
}

fn splits(dataset: &DatasetReport) -> String {
    let named = dataset.splits.iter().take(NAMED_SPLITS);
    let mut texts: Vec<String> = named.map(|s| format!("{}: {}", s.name, number::integer(s.rows))).collect();
    if dataset.splits.len() > NAMED_SPLITS {
        texts.push(format!("{} more", dataset.splits.len() - NAMED_SPLITS));
    }
    texts.join(", ")
}

fn mix(document: &mut Document, mixes: &[Mix]) {
    let first = mixes.iter().take(1).flat_map(|m| &m.datasets);
    let names: Vec<&str> = first.clone().map(|c| c.dataset.as_str()).collect();
    let mut columns: Vec<String> = ["dataset", "split", "rows"].map(String::from).to_vec();
    for mix in mixes {
        let t = symbol(&mix.temperature);
        columns.extend([
            format!("T = {t}: an epoch"),
            format!("T = {t}: share"),
            format!("T = {t}: repeats"),
        ]);
    }
    let mut table = Table::new("Structures drawn in an epoch of joint training, by temperature T", columns);
    for (index, contribution) in first.enumerate() {
        let mut row = vec![
            Cell::text(&contribution.dataset),
            Cell::text(&contribution.split),
            Cell::integer(contribution.rows),
        ];
        for mix in mixes {
            let c = &mix.datasets[index];
            row.extend([Cell::integer(c.drawn), Cell::percent(c.share), Cell::fixed(Some(c.repeats), 2)]);
        }
        table.row(row);
    }
    let bars: Vec<share::Bar> = mixes
        .iter()
        .map(|mix| share::Bar {
            name: format!("T = {}", symbol(&mix.temperature)),
            segments: mix.datasets.iter().map(|c| (c.dataset.as_str(), c.drawn)).collect(),
        })
        .collect();
    let plot = share::draw(&bars, "structures") + &share::legend(&names);
    let note = "Share of an epoch, pᵢ ∝ (nᵢ/Σn)^(1/T). Each row is seen at least once an epoch.";
    document.open_section("mix", "Temperature mix");
    document.open_grid();
    document.figure("What an epoch consists of", &plot, note);
    document.close_grid();
    document.table(&table);
    document.close_section();
}

fn symbol(temperature: &str) -> &str {
    if temperature == "inf" { "∞" } else { temperature }
}
