//! The page of `jmp-tools element-similarity`.

use super::similarity::{ElementRow, SimilarityReport};
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::number::fixed;
use crate::svg::element_shades::{self, Shade};

/// How many of the most similar elements the table names.
const NAMED: usize = 8;

/// The page and its numbers.
pub fn document(report: &SimilarityReport) -> Document {
    let mut document = Document::new("Similarity of elements");
    document.open_section("elements", "Cosine similarity of atom embeddings");
    document.paragraph("note", READING);
    document.table(&nearest(report));
    for row in &report.elements {
        figure(&mut document, row);
    }
    document.open_details("All numbers", false);
    document.table(&all(report));
    document.close_details();
    document.close_section();
    document
}

const READING: &str = "The cosine of the angle between the learned vectors of two elements: 1 where they point the same way, 0 where \
    they have nothing in common (paper Figure 6). Elements that do not occur in the training data keep the random \
    vectors they began with and are left out.";

/// The elements beside one whose likeness means something.
fn learned(row: &ElementRow) -> impl Iterator<Item = &super::similarity::Similarity> {
    row.others.iter().filter(|s| s.trained != Some(false))
}

/// A cosine with so many decimals; what rounds to zero has no sign.
fn shown(cosine: f64, decimals: usize) -> String {
    let least = 0.5 * 10f64.powi(-(decimals as i32));
    fixed(if cosine.abs() < least { 0.0 } else { cosine }, decimals)
}

fn nearest(report: &SimilarityReport) -> Table {
    let mut table = Table::new("Most similar", ["element", "most similar elements (cosine)"]);
    for row in &report.elements {
        let mut others: Vec<_> = learned(row).collect();
        others.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
        let texts: Vec<String> = others
            .iter()
            .take(NAMED)
            .map(|s| format!("{}\u{a0}({})", s.symbol, shown(s.cosine, 2)))
            .collect();
        table.row(vec![Cell::text(row.symbol), Cell::text(&texts.join(", "))]);
    }
    table
}

fn figure(document: &mut Document, row: &ElementRow) {
    let shades = learned(row)
        .map(|s| (s.atomic_number, Shade { value: s.cosine, text: shown(s.cosine, 2) }))
        .collect();
    let chosen = shards::element::atomic_number(row.symbol);
    let plot = element_shades::draw(&shades, chosen, &format!("cosine with {}", row.symbol));
    let note = match row.trained {
        Some(false) => format!("{} does not occur in the training data: its vector is random.", row.symbol),
        _ => element_shades::scale_note(&shades),
    };
    document.wide_figure(&format!("Cosine with {}", row.symbol), &plot, &note);
}

fn all(report: &SimilarityReport) -> Table {
    let columns = ["element".to_string(), "Z".into(), "in the training data".into()];
    let chosen = report.elements.iter().map(|row| format!("cosine with {}", row.symbol));
    let mut table = Table::new("Cosines", columns.into_iter().chain(chosen));
    for z in 1..=shards::element::MAX_ATOMIC_NUMBER {
        let found: Vec<_> =
            report.elements.iter().map(|r| r.others.iter().find(|s| s.atomic_number == z)).collect();
        let Some(known) = found.iter().flatten().next() else { continue };
        let trained = match known.trained {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not told",
        };
        let mut cells = vec![Cell::text(known.symbol), Cell::integer(u64::from(z)), Cell::text(trained)];
        cells.extend(found.iter().map(|s| match s {
            Some(s) => Cell::shown(&shown(s.cosine, 3), s.cosine),
            None => Cell::number(None, 1),
        }));
        table.row(cells);
    }
    table
}
