//! Going through datasets, row group by row group on all threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rayon::prelude::*;
use shards::graph::{Geometry, GraphError};
use shards::reader::{Block, Columns, RowGroup, RowView};
use shards::{Dataset, RowSet, checks};

use super::By;
use super::composition::{Hasher, Key};
use super::fingerprint::Fingerprint;
use super::index::{Index, Signature};
use super::sets::Set;
use crate::error::ReportError;

/// No row yet.
const NONE: u64 = u64::MAX;

/// Reads what rows are compared by.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    hasher: Hasher,
}

impl Reader {
    /// The key that a row is looked up by. Needs its atomic numbers, and for [`By::Structure`] and [`By::Exact`] its geometry.
    fn key(&self, by: By, row: &RowView) -> Key {
        match by {
            By::Formula => self.hasher.formula(row.atomic_numbers),
            // The cell of a crystal is a choice, so its atoms are not counted; a molecule's are.
            By::Structure if row.pbc().contains(&true) => !self.hasher.formula(row.atomic_numbers),
            By::Composition | By::Structure => self.hasher.composition(row.atomic_numbers),
            By::Exact => Key::from_le_bytes(checks::structure_hash(&row.to_structure())),
        }
    }

    /// Whether a row may be found at all, told from its atomic numbers alone.
    fn may_match(&self, by: By, numbers: &[u8], index: &Index) -> bool {
        let has = |key: Key| !index.of_key(key).is_empty();
        match by {
            By::Composition => has(self.hasher.composition(numbers)),
            By::Formula => has(self.hasher.formula(numbers)),
            By::Structure => has(self.hasher.composition(numbers)) || has(!self.hasher.formula(numbers)),
            By::Exact => true,
        }
    }

    /// The signatures of the rows of a set, in their order.
    pub fn signatures(
        &self,
        dataset: &Dataset,
        rows: &RowSet,
        by: By,
        done: &(dyn Fn() + Sync),
    ) -> Result<Vec<Signature>, ReportError> {
        let columns = if by.needs_geometry() { Columns::geometry() } else { Columns::numbers() };
        let each = |group: &RowGroup| -> Result<Vec<Signature>, ReportError> {
            let mut wanted = rows.within(group.rows.clone()).peekable();
            let mut found = vec![];
            if wanted.peek().is_some() {
                let block = dataset.read_columns(group, columns.and(Columns::identity()))?;
                for row in wanted {
                    let view = block.row((row - group.rows.start) as usize);
                    let print = (by == By::Structure).then(|| fingerprint(&view)).transpose();
                    let fingerprint = print.map_err(|e| bad(dataset, view.id, &e))?;
                    found.push(Signature { key: self.key(by, &view), fingerprint });
                }
            }
            done();
            Ok(found)
        };
        let parts: Vec<Vec<Signature>> =
            dataset.row_groups().par_iter().map(each).collect::<Result<_, _>>()?;
        Ok(parts.into_iter().flatten().collect())
    }
}

/// What a pass over the reference sets finds.
#[derive(Debug)]
pub struct Found {
    slots: usize,
    /// Structures of each reference set that fall into each slot.
    structures: Vec<AtomicU64>,
    /// The first row of each reference set in each slot.
    first: Vec<AtomicU64>,
    /// For each reference set and each checked set: its structures that fall into a slot of the checked set.
    shared: Vec<Vec<AtomicU64>>,
    /// Distinct row groups whose positions were read.
    pub decoded: AtomicU64,
}

impl Found {
    fn new(slots: usize, references: usize, checked: usize) -> Self {
        let numbers = |count: usize, value: u64| (0..count).map(|_| AtomicU64::new(value)).collect();
        Self {
            slots,
            structures: numbers(slots * references, 0),
            first: numbers(slots * references, NONE),
            shared: (0..references).map(|_| numbers(checked, 0)).collect(),
            decoded: AtomicU64::new(0),
        }
    }

    /// Structures of a reference set in a slot.
    pub fn structures(&self, reference: usize, slot: u32) -> u64 {
        self.structures[reference * self.slots + slot as usize].load(Relaxed)
    }

    /// The first row of a reference set in a slot.
    pub fn first(&self, reference: usize, slot: u32) -> Option<u64> {
        Some(self.first[reference * self.slots + slot as usize].load(Relaxed)).filter(|&row| row != NONE)
    }

    /// Structures of a reference set that occur in a checked set.
    pub fn shared(&self, reference: usize, checked: usize) -> u64 {
        self.shared[reference][checked].load(Relaxed)
    }
}

/// What rows are looked up in.
pub struct Lookup<'a> {
    /// By what structures are compared.
    pub by: By,
    /// Components of fingerprints may differ by this, in units of [`super::fingerprint::STEP`].
    pub tolerance: u16,
    /// The checked structures.
    pub index: &'a Index,
    /// For each slot, the checked sets that have it.
    pub members: &'a [Vec<u32>],
    /// How many checked sets there are.
    pub checked: usize,
}

/// Looks up all rows of the reference sets; each dataset is read once.
pub fn search(
    reader: &Reader,
    datasets: &[Dataset],
    references: &[Set],
    lookup: &Lookup,
    done: &(dyn Fn() + Sync),
) -> Result<Found, ReportError> {
    let found = Found::new(lookup.index.slots(), references.len(), lookup.checked);
    for (place, dataset) in datasets.iter().enumerate() {
        let sets: Vec<(usize, &Set)> =
            references.iter().enumerate().filter(|(_, s)| s.dataset == place).collect();
        if sets.is_empty() {
            continue;
        }
        dataset.row_groups().par_iter().try_for_each(|group| -> Result<(), ReportError> {
            if sets.iter().any(|(_, s)| s.rows.within(group.rows.clone()).next().is_some()) {
                group_of(reader, dataset, group, &sets, lookup, &found)?;
            }
            done();
            Ok(())
        })?;
    }
    Ok(found)
}

fn group_of(
    reader: &Reader,
    dataset: &Dataset,
    group: &RowGroup,
    sets: &[(usize, &Set)],
    lookup: &Lookup,
    found: &Found,
) -> Result<(), ReportError> {
    let mut block = None;
    let mut wanted: Vec<usize> = vec![];
    if lookup.by == By::Exact {
        wanted.extend(0..(group.rows.end - group.rows.start) as usize);
    } else {
        let numbers = dataset.read_columns(group, Columns::numbers())?;
        let may = |i: &usize| reader.may_match(lookup.by, numbers.row(*i).atomic_numbers, lookup.index);
        wanted.extend((0..numbers.rows()).filter(may));
        block = Some(numbers);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    if lookup.by.needs_geometry() {
        block = Some(dataset.read_columns(group, Columns::geometry().and(Columns::identity()))?);
        found.decoded.fetch_add(1, Relaxed);
    }
    let Some(block) = block else { return Ok(()) };
    for index in wanted {
        let row = group.rows.start + index as u64;
        let slots = slots(reader, dataset, &block, index, lookup)?;
        if slots.is_empty() {
            continue;
        }
        for (set, _) in sets.iter().filter(|(_, s)| s.rows.contains(row)) {
            count(found, *set, row, &slots, lookup);
        }
    }
    Ok(())
}

/// The slots that a row falls into.
fn slots(
    reader: &Reader,
    dataset: &Dataset,
    block: &Block,
    index: usize,
    lookup: &Lookup,
) -> Result<Vec<usize>, ReportError> {
    let row = block.row(index);
    let key = reader.key(lookup.by, &row);
    let slots = lookup.index.of_key(key);
    if lookup.by != By::Structure || slots.is_empty() {
        return Ok(slots.collect());
    }
    let print = fingerprint(&row).map_err(|e| bad(dataset, row.id, &e))?;
    Ok(lookup.index.alike(key, &print, lookup.tolerance).collect())
}

fn count(found: &Found, set: usize, row: u64, slots: &[usize], lookup: &Lookup) {
    let mut checked: Vec<u32> = vec![];
    for &slot in slots {
        found.structures[set * found.slots + slot].fetch_add(1, Relaxed);
        found.first[set * found.slots + slot].fetch_min(row, Relaxed);
        checked.extend(&lookup.members[slot]);
    }
    checked.sort_unstable();
    checked.dedup();
    for c in checked {
        found.shared[set][c as usize].fetch_add(1, Relaxed);
    }
}

fn fingerprint(row: &RowView) -> Result<Fingerprint, GraphError> {
    let positions: Vec<[f64; 3]> = row.positions.iter().collect();
    let cell = row.cell().map(|c| [[c[0], c[1], c[2]], [c[3], c[4], c[5]], [c[6], c[7], c[8]]]);
    let geometry = Geometry { positions: &positions, cell, pbc: row.pbc(), tags: None };
    Fingerprint::of(&geometry, row.atomic_numbers)
}

fn bad(dataset: &Dataset, id: &str, problem: &GraphError) -> ReportError {
    ReportError::Structure { dir: dataset.dir().to_path_buf(), id: id.into(), problem: problem.to_string() }
}
