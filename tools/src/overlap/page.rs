//! The page of `jmp-tools overlap`.

use serde::Serialize;

use super::{By, CheckedSet, Comparison, SetSummary};
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::number::{integer, significant};
use crate::svg::matrix;

/// All that the page says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverlapReport {
    /// Program and version.
    pub tool: String,
    /// Largest difference of fingerprints, Å, where structures were compared.
    pub tolerance: f64,
    /// One comparison after another.
    pub comparisons: Vec<Comparison>,
}

impl OverlapReport {
    /// The numbers, for machines.
    pub fn to_json(&self) -> String {
        // Strings and numbers: serialising cannot fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The page.
    pub fn to_document(&self) -> Document {
        let mut document = Document::new("Overlap of datasets");
        document.paragraph(
            "",
            "Which structures of the checked sets occur in the reference sets. Only what is in both can have been memorised; \
             compare a model's errors on the overlapping and on the other part of a test set (paper, Appendix G).",
        );
        for (index, comparison) in self.comparisons.iter().enumerate() {
            self.comparison(&mut document, comparison, index);
        }
        document
    }

    fn comparison(&self, document: &mut Document, comparison: &Comparison, index: usize) {
        let (checked, references) = words(&comparison.kind);
        let heading = format!("{checked} in {references}, by {}", comparison.by.name());
        document.open_section(&format!("comparison-{index}"), &heading);
        document.paragraph("note", &self.meaning(comparison.by));
        document.open_grid();
        matrix_figure(document, comparison);
        document.close_grid();
        pairs(document, comparison);
        document.table(&sets(comparison));
        document.table(&formulas(comparison));
        document.close_section();
    }

    fn meaning(&self, by: By) -> String {
        match by {
            By::Composition => {
                "Two structures are the same if they have as many atoms of each element: the strictest case.".into()
            }
            By::Formula => "Two structures are the same if they have the same reduced formula.".into(),
            By::Structure => format!(
                "Two structures are the same if they have the same composition (periodic ones: reduced formula) and no \
                 component of their fingerprints differs by more than {} Å. Copies in which no atom moved by more than half \
                 of that are always found; mirror images are the same.",
                significant(self.tolerance, 3)
            ),
            By::Exact => "Two structures are the same if the same atoms in the same order lie at the same places to 10⁻³ Å, \
                          shifted or not."
                .into(),
        }
    }
}

/// What checked and reference sets are called.
fn words(kind: &str) -> (&'static str, &'static str) {
    if kind == "within" {
        ("Held-out sets", "training sets of the same dataset")
    } else {
        ("Fine-tuning sets", "pre-training sets")
    }
}

fn matrix_figure(document: &mut Document, comparison: &Comparison) {
    let name = |s: &SetSummary| s.name.clone();
    let rows: Vec<String> = comparison.checked.iter().map(|c| name(&c.set)).collect();
    let mut columns: Vec<String> = comparison.references.iter().map(name).collect();
    let several = columns.len() > 1;
    if several {
        columns.push("any of them".into());
    }
    let values = |c: &CheckedSet| -> Vec<f64> {
        let shares = c.against.iter().map(|a| a.share);
        if several { shares.chain([c.share]).collect() } else { shares.collect() }
    };
    let values: Vec<Vec<f64>> = comparison.checked.iter().map(values).collect();
    let (rows, columns): (Vec<&str>, Vec<&str>) =
        (rows.iter().map(String::as_str).collect(), columns.iter().map(String::as_str).collect());
    let shares = matrix::Shares { rows: &rows, columns: &columns, values: &values };
    let plot = matrix::draw(&shares, "structures of", "found in");
    document.figure("Share of each checked set that a reference set has", &plot, "");
}

/// The pairs with an overlap; the others are zeros in the matrix and in the JSON.
fn pairs(document: &mut Document, comparison: &Comparison) {
    let what = match comparison.by {
        By::Composition => "compositions",
        By::Formula => "formulas",
        By::Structure | By::Exact => "distinct structures",
    };
    let columns = [
        "checked set".to_string(),
        "reference set".into(),
        "structures found".into(),
        "share".into(),
        format!("{what} found"),
        "structures of the reference set like them".into(),
    ];
    let mut table = Table::new("Pairs of sets with an overlap", columns);
    let mut without = 0;
    for checked in &comparison.checked {
        for against in &checked.against {
            if against.overlapping == 0 {
                without += 1;
                continue;
            }
            table.row(vec![
                Cell::text(&checked.set.name),
                Cell::text(&against.reference),
                Cell::integer(against.overlapping),
                Cell::percent(against.share),
                Cell::integer(against.distinct),
                Cell::integer(against.reference_structures),
            ]);
        }
    }
    document.table(&table);
    let text = match without {
        0 => return,
        1 => "One pair of sets has nothing in common.".into(),
        n => format!("{} pairs of sets have nothing in common.", integer(n)),
    };
    document.paragraph("note", &text);
}

fn sets(comparison: &Comparison) -> Table {
    let columns =
        ["checked set", "structures", "distinct", "overlapping", "non-overlapping", "share", "ids", "mask"];
    let mut table =
        Table::new("Checked sets against all reference sets together (as Table 16 divides QM9)", columns);
    for c in &comparison.checked {
        table.row(vec![
            Cell::text(&c.set.name),
            Cell::integer(c.set.structures),
            Cell::integer(c.distinct),
            Cell::integer(c.overlapping),
            Cell::integer(c.set.structures - c.overlapping),
            Cell::percent(c.share),
            Cell::text(&c.list),
            Cell::text(c.mask.as_deref().unwrap_or("–")),
        ]);
    }
    table
}

fn formulas(comparison: &Comparison) -> Table {
    let mut table = Table::new(
        "Compositions with most overlapping structures",
        ["checked set", "composition", "structures"],
    );
    for checked in &comparison.checked {
        for (formula, structures) in &checked.formulas {
            table.row(vec![Cell::text(&checked.set.name), Cell::text(formula), Cell::integer(*structures)]);
        }
    }
    table
}
