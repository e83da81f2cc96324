//! What a rank's share of a stream takes in memory, reckoned before it starts.

use std::collections::BTreeSet;

use super::{BatchRule, Budget, OpenDataset, Opened, Share, StreamError};
use crate::error::ShardError;
use crate::graph::GraphSpec;
use crate::reader::{Columns, FOOTERS};

/// Row groups of a dataset whose sizes are looked up.
const LOOKED_AT: usize = 16;

/// Reckoned bytes of a rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// The windows of each lane and dataset that are in use at the same time.
    pub(super) windows: u64,
    /// Those and the ones after them, as far as they are decoded before the first are done.
    pub(super) windows_ahead: u64,
    /// Footers that are kept.
    pub(super) footers: u64,
    /// Batches in preparation and waiting.
    pub(super) batches: u64,
    /// Lanes of the rank.
    pub(super) lanes: usize,
}

impl Need {
    /// Without windows decoded ahead.
    pub(super) fn least(self) -> u64 {
        self.windows + self.footers + self.batches
    }

    /// With the next window of each lane and dataset.
    pub(super) fn ahead(self) -> u64 {
        self.windows_ahead + self.footers + self.batches
    }
}

impl Opened {
    /// Whether windows may be decoded ahead.
    ///
    /// # Errors
    /// When the memory allowed does not hold the windows in use.
    pub(super) fn check_memory(&self, share: Share) -> Result<bool, ShardError> {
        let Some(memory) = self.config.memory else { return Ok(true) };
        let need = self.need(share)?;
        if need.least() > memory {
            let window = self.order.window;
            return Err(
                StreamError::Memory { memory, needed: need.least(), lanes: need.lanes, window }.into()
            );
        }
        Ok(need.ahead() <= memory)
    }

    /// Micro-batches that a rank takes of a global batch, and their lanes.
    fn extent(&self, share: Share) -> (usize, usize) {
        let micro_batches = self.config.micro_batches as u64;
        let own = |i: &u64| i * u64::from(share.ranks) / micro_batches == u64::from(share.rank);
        let parts = (0..micro_batches).filter(own).count();
        let per_lane = self.order.per_lane as u64;
        let lanes = (0..micro_batches).filter(own).map(|i| i / per_lane).collect::<BTreeSet<_>>().len();
        (parts, lanes)
    }

    /// The rank of so many that needs most.
    pub(super) fn largest_share(&self, ranks: u32) -> Share {
        let shares = (0..ranks).map(|rank| Share { rank, ranks });
        let need = |share: &Share| {
            let (parts, lanes) = self.extent(*share);
            (lanes, parts)
        };
        shares.max_by_key(need).unwrap_or(Share::WHOLE)
    }

    /// What a rank needs.
    pub(super) fn need(&self, share: Share) -> Result<Need, ShardError> {
        let (parts, lanes) = self.extent(share);
        let mut need = Need { lanes, ..Need::default() };
        let (mut structure, mut structures) = (0.0f64, 0.0);
        for ((opened, split), expanded) in
            self.datasets.iter().zip(self.order.splits.iter()).zip(self.order.lanes.expanded())
        {
            let groups: Vec<u32> = split.groups().collect();
            let largest = largest_group(opened, &groups)?;
            let held = |windows: u64| {
                largest * (lanes as u64 * self.order.window as u64 * windows).min(groups.len() as u64)
            };
            let rows = split.len() as f64 / groups.len().max(1) as f64 * self.order.window as f64;
            let share = *expanded as f64 / self.order.lanes.total() as f64;
            let (now, ahead) = windows_together(share * self.order.together().unwrap_or(0) as f64, rows);
            (need.windows, need.windows_ahead) = (need.windows + held(now), need.windows_ahead + held(ahead));
            need.footers += footers(opened)?;
            structure += *expanded as f64 * batch_bytes(opened)?;
            structures += *expanded as f64;
        }
        let mean = structure / structures.max(1.0);
        let size = match self.config.batch {
            BatchRule::Structures(size) => size as f64,
            BatchRule::Budget(budget) => budgeted_structures(&budget, &self.datasets)?,
        };
        let waiting = (self.config.prefetch / parts.max(1)).max(1) + 2;
        need.batches = (mean * size * (parts * waiting + self.config.workers) as f64) as u64;
        Ok(need)
    }
}

/// How many windows of `rows` structures are in use at the same time, without and with the next one decoded ahead, if
/// `together` of a dataset's structures are: those at a border lie in two windows, and the next but one is decoded once half of
/// the second is done.
fn windows_together(together: f64, rows: f64) -> (u64, u64) {
    let now = (together / rows.max(1.0)).ceil() as u64 + 1;
    (now.max(2), if 2.0 * together <= rows { 2 } else { now + 1 })
}

/// Bytes of a dataset's footers, as far as they are kept.
fn footers(opened: &OpenDataset) -> Result<u64, ShardError> {
    let groups = opened.dataset.row_groups();
    let Some(first) = groups.first() else { return Ok(0) };
    let of_a_group =
        opened.dataset.footer_bytes(first)? / groups.iter().filter(|g| g.part == first.part).count().max(1);
    Ok((of_a_group * groups.len()).min(FOOTERS) as u64)
}

/// Bytes of the largest of some row groups spread over a split, decoded.
fn largest_group(opened: &OpenDataset, groups: &[u32]) -> Result<u64, ShardError> {
    let step = groups.len().div_ceil(LOOKED_AT).max(1);
    let columns = Columns::training(opened.stored);
    let mut largest = 0;
    for &group in groups.iter().step_by(step) {
        let group = &opened.dataset.row_groups()[group as usize];
        largest = largest.max(opened.dataset.decoded_bytes(group, columns)?);
    }
    Ok(largest)
}

/// Structures that fill a budget; one where only graphs are limited.
fn budgeted_structures(budget: &Budget, datasets: &[OpenDataset]) -> Result<f64, ShardError> {
    let mut least = f64::INFINITY;
    for opened in datasets {
        least = least.min(mean_atoms(opened)?);
    }
    let by_atoms = budget.atoms.map_or(f64::INFINITY, |atoms| (atoms as f64 / least.max(1.0)).max(1.0));
    let by_count = budget.structures.map_or(f64::INFINITY, |structures| structures as f64);
    let most = by_atoms.min(by_count);
    Ok(if most.is_finite() { most } else { 1.0 })
}

fn mean_atoms(opened: &OpenDataset) -> Result<f64, ShardError> {
    let manifest = opened.dataset.manifest();
    let statistics = &manifest.split(opened.dataset.dir(), &opened.entry.split)?.statistics;
    Ok(statistics.atoms as f64 / statistics.structures.max(1) as f64)
}

/// Bytes of a mean structure in a batch.
fn batch_bytes(opened: &OpenDataset) -> Result<f64, ShardError> {
    let atoms = mean_atoms(opened)?;
    let flat = 200.0 + 60.0 * atoms;
    Ok(opened.entry.graph.as_ref().map_or(flat, |spec| flat + graph_bytes(spec, atoms)))
}

/// Bytes of a structure's index arrays (`GraphBatch`), its atoms having as many neighbours as the limits let them; of the
/// atom-atom graph as many as a sphere of the cutoff holds at a tenth of an atom an Å³.
fn graph_bytes(spec: &GraphSpec, atoms: f64) -> f64 {
    let sphere = 4.0 / 3.0 * std::f64::consts::PI * spec.cutoff.powi(3) * 0.1;
    let degree = |limit: u32| f64::from(limit).min(sphere);
    let (main, wide) = (degree(spec.main), degree(spec.quadruplet));
    // Numbers an edge: source, target, shift, row and place; pairs; three for each quadruplet edge of a receiving edge.
    let numbers = 8.0 * main
        + 7.0 * degree(spec.atom_edge)
        + 7.0 * wide
        + 8.0 * degree(spec.atom_atom)
        + 2.0 * main * wide;
    8.0 * numbers * atoms
}
