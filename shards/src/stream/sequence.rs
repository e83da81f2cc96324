//! The one global sequence of structures: which dataset's turn it is and which of its rows.

use std::sync::Arc;

use super::mix::Interleave;
use super::order::{Pass, Place, SplitRows};
use super::random::KeyedRng;

/// Positions whose turns are shuffled together. Part of the order.
const BLOCK: u64 = 1024;

/// A structure of the sequence.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Dataset.
    pub(crate) task: u32,
    /// The window of row groups it belongs to.
    pub(crate) window: WindowId,
    /// Where it lies.
    pub(crate) place: Place,
    /// Its position in the epoch.
    pub(crate) position: u64,
}

/// A window of one dataset: the unit that is decoded ahead and kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowId {
    pub(crate) pass: u64,
    pub(crate) window: usize,
}

/// Walks an epoch of the sequence from any position.
#[derive(Debug)]
pub(crate) struct Sequence {
    splits: Arc<Vec<SplitRows>>,
    mix: Interleave,
    seed: u64,
    window: usize,
    epoch: u64,
    position: u64,
    /// Number of the block whose turns are held.
    block: u64,
    turns: Vec<u32>,
    /// Structures that each dataset has given before `position`.
    given: Vec<u64>,
    tracks: Vec<Option<Track>>,
}

/// Where one dataset's order stands.
#[derive(Debug)]
struct Track {
    number: u64,
    pass: Pass,
    window: usize,
    places: Arc<[Place]>,
}

impl Sequence {
    pub(crate) fn new(
        splits: Arc<Vec<SplitRows>>,
        mix: Interleave,
        seed: u64,
        window: usize,
        epoch: u64,
        position: u64,
    ) -> Self {
        let tracks = splits.iter().map(|_| None).collect();
        let mut sequence = Self {
            splits,
            mix,
            seed,
            window,
            epoch,
            position,
            block: u64::MAX,
            turns: vec![],
            given: vec![],
            tracks,
        };
        sequence.enter_block();
        sequence
    }

    /// Draws the turns of the block that `position` lies in and counts what was given before it.
    fn enter_block(&mut self) {
        let block = self.position / BLOCK;
        let start = block * BLOCK;
        let end = (start + BLOCK).min(self.mix.total());
        let (before, after) = (self.mix.counts(start), self.mix.counts(end));
        self.turns.clear();
        for (dataset, (b, a)) in before.iter().zip(&after).enumerate() {
            self.turns.extend(std::iter::repeat_n(dataset as u32, (a - b) as usize));
        }
        KeyedRng::new("turns", &[self.seed, self.epoch, block]).shuffle(&mut self.turns);
        self.given = before;
        for &turn in &self.turns[..(self.position - start) as usize] {
            self.given[turn as usize] += 1;
        }
        self.block = block;
    }

    fn place(&mut self, dataset: usize, k: u64) -> (WindowId, Place) {
        let split = &self.splits[dataset];
        let (number, within) = (k / split.len(), k % split.len());
        let (seed, epoch, size) = (self.seed, self.epoch, self.window);
        let slot = &mut self.tracks[dataset];
        slot.take_if(|track| track.number != number);
        let track = slot.get_or_insert_with(|| {
            let pass = Pass::new(split, seed, dataset as u64, epoch, number, size);
            Track { number, pass, window: usize::MAX, places: Arc::new([]) }
        });
        let (window, at) = track.pass.locate(within);
        if track.window != window {
            track.places = track.pass.shuffled(split, window);
            track.window = window;
        }
        (WindowId { pass: number, window }, track.places[at])
    }

    /// The row groups of a window, and the window that follows it in this epoch.
    pub(crate) fn window_groups(&self, dataset: usize, id: WindowId) -> Vec<u32> {
        let split = &self.splits[dataset];
        let pass = Pass::new(split, self.seed, dataset as u64, self.epoch, id.pass, self.window);
        let mut groups: Vec<u32> = pass.shuffled(split, id.window).iter().map(|p| p.group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The window after the given one, if the epoch reaches it.
    pub(crate) fn next_window(&self, dataset: usize, id: WindowId) -> Option<WindowId> {
        let split = &self.splits[dataset];
        let expanded = self.mix.expanded()[dataset];
        let windows = self.tracks[dataset].as_ref().map_or(1, |t| t.pass.windows());
        let next = match id.window + 1 {
            w if w < windows => WindowId { pass: id.pass, window: w },
            _ => WindowId { pass: id.pass + 1, window: 0 },
        };
        let first = if next.pass == id.pass {
            let pass = &self.tracks[dataset].as_ref()?.pass;
            next.pass * split.len() + pass.start(next.window)
        } else {
            next.pass * split.len()
        };
        (first < expanded).then_some(next)
    }
}

impl Iterator for Sequence {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        if self.position >= self.mix.total() {
            return None;
        }
        if self.position / BLOCK != self.block {
            self.enter_block();
        }
        let dataset = self.turns[(self.position % BLOCK) as usize] as usize;
        let k = self.given[dataset];
        let (window, place) = self.place(dataset, k);
        let sample = Sample { task: dataset as u32, window, place, position: self.position };
        self.given[dataset] += 1;
        self.position += 1;
        Some(sample)
    }
}
