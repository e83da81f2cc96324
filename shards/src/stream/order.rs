//! The order of one dataset's rows: row groups permuted, windows of several row groups shuffled.
//!
//! A pure function of (seed, dataset, epoch, pass, window). The window's size is part of the order, not of the machine.

use std::sync::Arc;

use super::random::KeyedRng;
use crate::reader::Dataset;
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
    pub(crate) fn new(dataset: &Dataset, rows: RowSet) -> Self {
        let groups = dataset
            .row_groups()
            .iter()
            .enumerate()
            .map(|(group, g)| GroupRows {
                group: group as u32,
                first_row: g.rows.start,
                end_row: g.rows.end,
                count: (rows.rank(g.rows.end) - rows.rank(g.rows.start)) as u32,
            })
            .filter(|g| g.count > 0)
            .collect();
        Self { rows, groups }
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.len()
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

/// One pass over a split: every row once.
#[derive(Debug)]
pub(crate) struct Pass {
    key: [u64; 4],
    /// Permuted positions in `SplitRows::groups`.
    order: Vec<u32>,
    /// Rows before each window; the total at the end.
    starts: Vec<u64>,
    window: usize,
}

impl Pass {
    pub(crate) fn new(
        split: &SplitRows,
        seed: u64,
        dataset: u64,
        epoch: u64,
        pass: u64,
        window: usize,
    ) -> Self {
        let key = [seed, dataset, epoch, pass];
        let mut order: Vec<u32> = (0..split.groups.len() as u32).collect();
        KeyedRng::new("row groups", &key).shuffle(&mut order);
        let mut starts = vec![0];
        let mut total = 0;
        for chunk in order.chunks(window) {
            total += chunk.iter().map(|&g| u64::from(split.groups[g as usize].count)).sum::<u64>();
            starts.push(total);
        }
        Self { key, order, starts, window }
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

    /// The shuffled structures of a window.
    pub(crate) fn shuffled(&self, split: &SplitRows, window: usize) -> Arc<[Place]> {
        let first = window * self.window;
        let chunk = &self.order[first..(first + self.window).min(self.order.len())];
        let mut places: Vec<Place> =
            chunk.iter().flat_map(|&g| split.places(&split.groups[g as usize])).collect();
        let [seed, dataset, epoch, pass] = self.key;
        KeyedRng::new("window", &[seed, dataset, epoch, pass, window as u64]).shuffle(&mut places);
        places.into()
    }
}
