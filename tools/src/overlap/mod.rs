//! `jmp-tools overlap`: which structures of some sets occur in others (paper, Appendix G; method in docs/overlap.md).
//!
//! The checked sets (fine-tuning, or held out) are kept in memory by their keys; the reference sets (pre-training, or
//! training) stream by, the smallest columns first. What is found goes to masks, lists, a matrix and a page.

pub mod composition;
pub mod fingerprint;
pub mod index;
#[cfg(test)]
mod invariance;
pub mod lists;
pub mod page;
pub mod scan;
pub mod sets;

use std::collections::BTreeMap;

use serde::Serialize;
use shards::{Dataset, RowSet};

use crate::error::ReportError;
use index::Index;
use scan::{Found, Lookup, Reader};
use sets::{Datasets, Set};

/// By what structures are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// How many atoms of each element: the paper's Appendix G.
    Composition,
    /// The reduced formula: Fe₂O₃ is Fe₄O₆.
    Formula,
    /// Composition (of a periodic structure: reduced formula) and a fingerprint of distances.
    Structure,
    /// The same atoms in the same order at the same places to 10⁻³ Å, shifted or not.
    Exact,
}

impl By {
    /// The name on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Composition => "composition",
            Self::Formula => "formula",
            Self::Structure => "structure",
            Self::Exact => "exact",
        }
    }

    fn needs_geometry(self) -> bool {
        matches!(self, Self::Structure | Self::Exact)
    }
}

/// What is compared with what.
#[derive(Debug)]
pub struct Request {
    /// The sets that are searched.
    pub references: Vec<Set>,
    /// The sets whose structures are looked for in them.
    pub checked: Vec<Set>,
    /// By what structures are compared.
    pub by: By,
    /// Largest difference of a fingerprint's components, Å.
    pub tolerance: f64,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// `pretrain-finetune` or `within`.
    pub kind: String,
    /// By what structures were compared.
    pub by: By,
    /// The sets that were searched.
    pub references: Vec<SetSummary>,
    /// The sets whose structures were looked for.
    pub checked: Vec<CheckedSet>,
}

/// A set of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetSummary {
    /// Dataset and split.
    pub name: String,
    /// The dataset.
    pub dataset: String,
    /// The split.
    pub split: String,
    /// Structures.
    pub structures: u64,
}

/// A set whose structures were looked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckedSet {
    /// The set.
    pub set: SetSummary,
    /// Distinct compositions, formulas or contents; for structures their number.
    pub distinct: u64,
    /// Structures that occur in any reference set.
    pub overlapping: u64,
    /// The same as a share.
    pub share: f64,
    /// Against each reference set, in their order.
    pub against: Vec<Against>,
    /// The formulas with most overlapping structures: formula, structures.
    pub formulas: Vec<(String, u64)>,
    /// Where ids are listed.
    pub list: String,
    /// Where the mask is, if one was asked for.
    pub mask: Option<String>,
}

/// A checked set against one reference set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Against {
    /// The reference set.
    pub reference: String,
    /// Structures of the checked set that occur in it.
    pub overlapping: u64,
    /// The same as a share.
    pub share: f64,
    /// Distinct compositions, formulas, contents or structures that occur in it.
    pub distinct: u64,
    /// Structures of the reference set that occur in the checked one.
    pub reference_structures: u64,
}

/// A comparison with all that lists and masks need.
pub struct Outcome {
    /// What was asked.
    pub request: Request,
    /// For each checked set, the slot of each of its rows in their order.
    pub slots: Vec<Vec<u32>>,
    /// What the pass over the reference sets found.
    pub found: Found,
}

/// Row groups that [`compare`] goes through.
pub fn work(datasets: &Datasets, request: &Request) -> u64 {
    let of = |sets: &[Set]| -> u64 {
        let mut places: Vec<usize> = sets.iter().map(|s| s.dataset).collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().map(|p| datasets.open[p].row_groups().len() as u64).sum()
    };
    of(&request.references) + of(&request.checked)
}

/// Compares; `done` is told after each row group.
pub fn compare(
    datasets: &Datasets,
    request: Request,
    done: &(dyn Fn() + Sync),
) -> Result<Outcome, ReportError> {
    let reader = Reader::default();
    let (index, slots) = checked_slots(&reader, &datasets.open, &request, done)?;
    let mut members: Vec<Vec<u32>> = vec![vec![]; index.slots()];
    for (set, slots) in slots.iter().enumerate() {
        for &slot in slots {
            let sets = &mut members[slot as usize];
            if sets.last() != Some(&(set as u32)) {
                sets.push(set as u32);
            }
        }
    }
    let tolerance = (request.tolerance / fingerprint::STEP).round().clamp(0.0, f64::from(u16::MAX - 1));
    let lookup = Lookup {
        by: request.by,
        // Each of two components is rounded by at most half a step.
        tolerance: tolerance as u16 + 1,
        index: &index,
        members: &members,
        checked: slots.len(),
    };
    let found = scan::search(&reader, &datasets.open, &request.references, &lookup, done)?;
    Ok(Outcome { request, slots, found })
}

/// The index of all checked structures; rows that several splits share are read once and have one slot.
fn checked_slots(
    reader: &Reader,
    datasets: &[Dataset],
    request: &Request,
    done: &(dyn Fn() + Sync),
) -> Result<(Index, Vec<Vec<u32>>), ReportError> {
    let mut signatures = vec![];
    // Dataset → its rows, and where their signatures begin.
    let mut places: BTreeMap<usize, (RowSet, usize)> = BTreeMap::new();
    for (place, dataset) in datasets.iter().enumerate() {
        let sets = request.checked.iter().filter(|s| s.dataset == place);
        let rows: Vec<u64> = sets.flat_map(|s| s.rows.iter()).collect();
        if rows.is_empty() {
            continue;
        }
        let rows = RowSet::from_rows(rows);
        let begin = signatures.len();
        signatures.extend(reader.signatures(dataset, &rows, request.by, done)?);
        places.insert(place, (rows, begin));
    }
    let (index, slots) = Index::build(&signatures);
    let of_set = |set: &Set| -> Vec<u32> {
        let Some((rows, begin)) = places.get(&set.dataset) else { return vec![] };
        set.rows.iter().map(|row| slots[begin + rows.rank(row) as usize]).collect()
    };
    let slots = request.checked.iter().map(of_set).collect();
    Ok((index, slots))
}

impl Outcome {
    /// Structures of a reference set like the given row of a checked set.
    fn structures(&self, reference: usize, slot: u32) -> u64 {
        self.found.structures(reference, slot)
    }

    /// Whether any reference set has the slot.
    pub fn overlaps(&self, slot: u32) -> bool {
        (0..self.request.references.len()).any(|r| self.structures(r, slot) > 0)
    }

    /// A checked set in numbers.
    pub fn summary(&self, checked: usize) -> CheckedSet {
        let slots = &self.slots[checked];
        let mut distinct = slots.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let count =
            |slots: &[u32], has: &dyn Fn(u32) -> bool| slots.iter().filter(|&&s| has(s)).count() as u64;
        let share = |n: u64| if slots.is_empty() { 0.0 } else { n as f64 / slots.len() as f64 };
        let against = |(r, set): (usize, &Set)| {
            let has = |slot| self.structures(r, slot) > 0;
            let overlapping = count(slots, &has);
            Against {
                reference: set.name.clone(),
                overlapping,
                share: share(overlapping),
                distinct: count(&distinct, &has),
                reference_structures: self.found.shared(r, checked),
            }
        };
        let overlapping = count(slots, &|slot| self.overlaps(slot));
        CheckedSet {
            set: summary(&self.request.checked[checked]),
            distinct: distinct.len() as u64,
            overlapping,
            share: share(overlapping),
            against: self.request.references.iter().enumerate().map(against).collect(),
            formulas: vec![],
            list: String::new(),
            mask: None,
        }
    }
}

/// A set in numbers.
pub fn summary(set: &Set) -> SetSummary {
    SetSummary {
        name: set.name.clone(),
        dataset: set.dataset_name.clone(),
        split: set.split.clone(),
        structures: set.rows.len(),
    }
}
