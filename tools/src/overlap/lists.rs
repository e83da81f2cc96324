//! Masks and lists of ids as Parquet files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use polars::prelude::*;
use shards::Dataset;
use shards::element;
use shards::reader::Columns;

use super::sets::{Datasets, Set};
use super::{CheckedSet, Outcome};
use crate::error::ReportError;

/// Formulas that are told on the page.
const LISTED: usize = 20;

/// Where files of one comparison go.
pub struct Place<'a> {
    /// The output directory.
    pub dir: &'a Path,
    /// `pretrain-finetune` or `within`.
    pub kind: &'a str,
    /// Whether masks are written.
    pub masks: bool,
}

/// Overlapping structures of a checked set, a line for each reference set that has one.
#[derive(Default)]
struct Lines {
    ids: Vec<String>,
    rows: Vec<u64>,
    formulas: Vec<String>,
    references: Vec<usize>,
    structures: Vec<u64>,
    first: Vec<u64>,
}

/// Writes list and mask of a checked set and adds to its summary what they tell.
pub fn write(
    datasets: &Datasets,
    outcome: &Outcome,
    checked: usize,
    place: &Place,
) -> Result<CheckedSet, ReportError> {
    let set = &outcome.request.checked[checked];
    let mut summary = outcome.summary(checked);
    let (mut lines, mut ids, mut mask) = (Lines::default(), vec![], vec![]);
    let mut formulas: BTreeMap<String, u64> = BTreeMap::new();
    each_row(&datasets.open[set.dataset], set, |k, row, id, numbers| {
        let slot = outcome.slots[checked][k];
        let overlaps = outcome.overlaps(slot);
        ids.push(id.to_string());
        mask.push(overlaps);
        if overlaps {
            let formula = element::hill_formula(numbers);
            lines.push(outcome, slot, (row, id), &formula);
            *formulas.entry(formula).or_default() += 1;
        }
    })?;
    let first = first_ids(datasets, &outcome.request.references, &lines)?;
    let name = format!("{}-{}-{}-{}", place.kind, outcome.request.by.name(), set.dataset_name, set.split);
    let name = name.replace(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)), "-");
    summary.list = format!("lists/{name}.parquet");
    let names = outcome.request.references.iter().map(|s| s.name.as_str()).collect::<Vec<_>>();
    parquet(&place.dir.join(&summary.list), lines.columns(&names, first))?;
    if place.masks {
        let file = format!("masks/{name}.parquet");
        let columns = vec![Column::new("id".into(), ids), Column::new("overlapping".into(), mask)];
        parquet(&place.dir.join(&file), columns)?;
        summary.mask = Some(file);
    }
    let mut formulas: Vec<(String, u64)> = formulas.into_iter().collect();
    formulas.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    formulas.truncate(LISTED);
    summary.formulas = formulas;
    Ok(summary)
}

impl Lines {
    fn push(&mut self, outcome: &Outcome, slot: u32, (row, id): (u64, &str), formula: &str) {
        for reference in 0..outcome.request.references.len() {
            let Some(first) = outcome.found.first(reference, slot) else { continue };
            self.ids.push(id.to_string());
            self.rows.push(row);
            self.formulas.push(formula.to_string());
            self.references.push(reference);
            self.structures.push(outcome.structures(reference, slot));
            self.first.push(first);
        }
    }

    fn columns(self, names: &[&str], first: Vec<String>) -> Vec<Column> {
        let references: Vec<&str> = self.references.iter().map(|&r| names[r]).collect();
        vec![
            Column::new("id".into(), self.ids),
            Column::new("row".into(), self.rows),
            Column::new("formula".into(), self.formulas),
            Column::new("reference".into(), references),
            Column::new("structures".into(), self.structures),
            Column::new("first_row".into(), self.first),
            Column::new("first_id".into(), first),
        ]
    }
}

/// Tells place within the set, row, id and atomic numbers of each of a set's rows.
fn each_row(
    dataset: &Dataset,
    set: &Set,
    mut tell: impl FnMut(usize, u64, &str, &[u8]),
) -> Result<(), ReportError> {
    let mut k = 0;
    for group in dataset.row_groups() {
        let mut wanted = set.rows.within(group.rows.clone()).peekable();
        if wanted.peek().is_none() {
            continue;
        }
        let block = dataset.read_columns(group, Columns::identity().and(Columns::numbers()))?;
        for row in wanted {
            let view = block.row((row - group.rows.start) as usize);
            tell(k, row, view.id, view.atomic_numbers);
            k += 1;
        }
    }
    Ok(())
}

/// The ids of the reference rows that the lines name; each row group is read once.
fn first_ids(datasets: &Datasets, references: &[Set], lines: &Lines) -> Result<Vec<String>, ReportError> {
    let place = |k: usize| (references[lines.references[k]].dataset, lines.first[k]);
    let mut wanted: Vec<(usize, u64)> = (0..lines.first.len()).map(place).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut known: BTreeMap<(usize, u64), String> = BTreeMap::new();
    let mut rest = wanted.as_slice();
    while let Some(&(at, row)) = rest.first() {
        let dataset = &datasets.open[at];
        let group = &dataset.row_groups()[dataset.row_group_of(row)];
        let count = rest.partition_point(|&(d, r)| d == at && group.rows.contains(&r));
        let block = dataset.read_columns(group, Columns::identity())?;
        for &(_, row) in &rest[..count] {
            known.insert((at, row), block.row((row - group.rows.start) as usize).id.to_string());
        }
        rest = &rest[count..];
    }
    Ok((0..lines.first.len()).map(|k| known.get(&place(k)).cloned().unwrap_or_default()).collect())
}

/// Writes a Parquet file beside its place and renames it there.
fn parquet(path: &Path, columns: Vec<Column>) -> Result<(), ReportError> {
    let temporary = path.with_extension("parquet.tmp");
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(ReportError::write(parent))?;
    }
    let file = File::create(&temporary).map_err(ReportError::write(&temporary))?;
    let written = DataFrame::new_infer_height(columns)
        .and_then(|mut frame| ParquetWriter::new(file).finish(&mut frame));
    written.map_err(|e| ReportError::write(&temporary)(std::io::Error::other(e.to_string())))?;
    std::fs::rename(&temporary, path).map_err(ReportError::write(path))
}
