//! The order of one dataset's rows: row groups permuted, windows of several row groups shuffled.
//!
//! A pure function of (seed, dataset, epoch, pass, window). The window's size is part of the order, not of the machine.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::random::KeyedRng;
use crate::row_set::RowSet;

/// Rows of a split by the row group they lie in.
#[derive(Debug, Clone)]
pub(crate) struct SplitRows {
    rows: RowSet,
    /// Row groups with at least one row: index in the dataset and the rows below it in the split.
    groups: Vec<GroupRows>,
}

#[derive(Debug, Clone)]
struct GroupRows {
    group: u32,
    first_row: u64,
    end_row: u64,
    count: u32,
}

/// One structure to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the row group in the dataset.
    pub(crate) group: u32,
    /// Index in the row group.
    pub(crate) index: u32,
}

impl SplitRows {
    /// The split `rows` of a dataset whose row groups hold the given rows.
    pub(crate) fn new<'a>(row_groups: impl Iterator<Item = &'a Range<u64>>, rows: RowSet) -> Self {
        let groups = row_groups
            .enumerate()
            .map(|(group, range)| GroupRows {
                group: group as u32,
                first_row: range.start,
                end_row: range.end,
                count: (rows.rank(range.end) - rows.rank(range.start)) as u32,
            })
            .filter(|g| g.count > 0)
            .collect();
        Self { rows, groups }
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.len()
    }

    /// The dataset's row at a place of the split.
    pub(crate) fn row(&self, place: Place) -> u64 {
        let at = self.groups.partition_point(|g| g.group < place.group);
        self.groups.get(at).map_or(0, |g| g.first_row) + u64::from(place.index)
    }

    /// Row groups with rows of the split, by their index in the dataset, ascending.
    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.groups.iter().map(|g| g.group)
    }

    /// Rows of the split in a row group, as indices in it, ascending.
    pub(crate) fn indices(&self, group: u32) -> Vec<u32> {
        let found = self.groups.binary_search_by_key(&group, |g| g.group);
        found.map_or_else(|_| Vec::new(), |at| self.places(&self.groups[at]).map(|p| p.index).collect())
    }

    /// All rows in ascending order.
    pub(crate) fn ascending(&self) -> impl Iterator<Item = Place> + '_ {
        self.groups.iter().flat_map(|g| self.places(g))
    }

    fn places<'a>(&'a self, g: &'a GroupRows) -> impl Iterator<Item = Place> + 'a {
        self.rows
            .within(g.first_row..g.end_row)
            .map(|row| Place { group: g.group, index: (row - g.first_row) as u32 })
    }
}

/// Which pass over which dataset in which epoch: what a permutation of row groups is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PassKey {
    pub(crate) dataset: u32,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

/// One pass over a split: every row once.
#[derive(Debug)]
pub(crate) struct Pass {
    seed: u64,
    key: PassKey,
    /// Permuted positions in `SplitRows::groups`.
    order: Vec<u32>,
    /// Rows before each window; the total at the end.
    starts: Vec<u64>,
    window: usize,
}

impl Pass {
    pub(crate) fn new(split: &SplitRows, seed: u64, key: PassKey, window: usize) -> Self {
        let mut order: Vec<u32> = (0..split.groups.len() as u32).collect();
        let PassKey { dataset, epoch, number } = key;
        KeyedRng::new("row groups", &[seed, u64::from(dataset), epoch, number]).shuffle(&mut order);
        let mut starts = vec![0];
        let mut total = 0;
        for chunk in order.chunks(window) {
            total += chunk.iter().map(|&g| u64::from(split.groups[g as usize].count)).sum::<u64>();
            starts.push(total);
        }
        Self { seed, key, order, starts, window }
    }

    /// How many windows there are.
    pub(crate) fn windows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Rows before a window.
    pub(crate) fn start(&self, window: usize) -> u64 {
        self.starts[window]
    }

    /// The window of the `k`-th structure, and its place in it.
    pub(crate) fn locate(&self, k: u64) -> (usize, usize) {
        let window = self.starts.partition_point(|&s| s <= k) - 1;
        (window, (k - self.starts[window]) as usize)
    }

    /// The row groups of a window, as indices in the dataset, ascending.
    pub(crate) fn groups(&self, split: &SplitRows, window: usize) -> Vec<u32> {
        let mut groups: Vec<u32> =
            self.chunk(window).iter().map(|&g| split.groups[g as usize].group).collect();
        groups.sort_unstable();
        groups
    }

    /// The shuffled structures of a window.
    pub(crate) fn shuffled(&self, split: &SplitRows, window: usize) -> Box<[Place]> {
        let chunk = self.chunk(window);
        let mut places: Vec<Place> =
            chunk.iter().flat_map(|&g| split.places(&split.groups[g as usize])).collect();
        let PassKey { dataset, epoch, number } = self.key;
        let words = [self.seed, u64::from(dataset), epoch, number, window as u64];
        KeyedRng::new("window", &words).shuffle(&mut places);
        places.into()
    }

    fn chunk(&self, window: usize) -> &[u32] {
        let first = window * self.window;
        &self.order[first..(first + self.window).min(self.order.len())]
    }
}

/// Passes in use, so that lanes share them.
#[derive(Debug, Default)]
pub(crate) struct Passes(Mutex<BTreeMap<PassKey, Weak<Pass>>>);

impl Passes {
    /// The pass of a key, made if no one has it.
    pub(crate) fn get(&self, split: &SplitRows, seed: u64, key: PassKey, window: usize) -> Arc<Pass> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pass) = held.get(&key).and_then(Weak::upgrade) {
            return pass;
        }
        held.retain(|_, pass| pass.strong_count() > 0);
        let pass = Arc::new(Pass::new(split, seed, key, window));
        held.insert(key, Arc::downgrade(&pass));
        pass
    }
}
