//! Which elements datasets share, on the page.

use std::collections::BTreeMap;

use crate::coverage::Coverage;
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::svg::{matrix, periodic_table};

/// More pairs than this are shown when they are asked for.
const SHOWN_OPEN: usize = 12;
/// Elements named in a cell of the table.
const NAMED: usize = 8;

/// Renders the comparison of elements.
pub fn render(document: &mut Document, coverage: &Coverage) {
    document.open_section("elements", "Elements of all datasets");
    let counts: BTreeMap<u8, u64> =
        coverage.elements.iter().map(|e| (e.atomic_number, e.datasets())).collect();
    let plot = periodic_table::draw_levels(&counts, "datasets", coverage.datasets.len() as u64);
    document.wide_figure("Datasets that have each element", &plot, "Shaded by the number of datasets.");
    let names: Vec<&str> = coverage.datasets.iter().map(String::as_str).collect();
    document.open_grid();
    let shares = matrix::Shares { rows: &names, columns: &names, values: &coverage.shared };
    document.figure(
        "Share of a dataset's atoms whose element another has",
        &matrix::draw(&shares, "atoms of", "with an element of"),
        "Row: the dataset whose atoms are counted. Column: the dataset whose elements are looked for.",
    );
    document.close_grid();
    let pairs = table(coverage);
    if pairs.rows().count() > SHOWN_OPEN {
        document.open_details("Elements that one dataset has and another lacks", false);
        document.table(&pairs);
        document.close_details();
    } else {
        document.table(&pairs);
    }
    document.close_section();
}

fn table(coverage: &Coverage) -> Table {
    let columns = ["atoms of", "with an element of", "share of atoms", "elements that are missing"];
    let mut table = Table::new("Elements that one dataset has and another lacks", columns);
    for (a, first) in coverage.datasets.iter().enumerate() {
        for (b, second) in coverage.datasets.iter().enumerate().filter(|&(b, _)| b != a) {
            let missing = &coverage.missing[a][b];
            let mut named: Vec<&str> = missing.iter().take(NAMED).map(String::as_str).collect();
            let rest = missing.len().saturating_sub(NAMED);
            let more = format!("and {rest} more");
            if rest > 0 {
                named.push(&more);
            }
            let share = coverage.shared[a][b];
            let share = if share.is_finite() { Cell::percent(share) } else { Cell::text("–") };
            let named = if named.is_empty() { "none".to_string() } else { named.join(" ") };
            table.row(vec![Cell::text(first), Cell::text(second), share, Cell::text(&named)]);
        }
    }
    table
}
