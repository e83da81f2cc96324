//! One lane's sequence of structures: which dataset's turn it is and which of its rows.

use std::sync::Arc;

use super::lanes::LanePart;
use super::order::{Pass, PassKey, Place};
use super::planner::Order;
use super::random::KeyedRng;
use super::sizes::{GroupSizes, RowSize};
use crate::error::ShardError;

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
    /// Its position in the epoch, unlike any other's.
    pub(crate) position: u64,
    /// Whether it lies in the second half of its window.
    pub(crate) late: bool,
    /// What it costs and which labels it has.
    pub(crate) size: RowSize,
}

/// A window of one dataset: the unit that is decoded ahead and kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WindowId {
    pub(crate) pass: u64,
    pub(crate) window: usize,
}

/// Walks a lane's part of an epoch from any position.
#[derive(Debug)]
pub(crate) struct LaneSequence {
    order: Arc<Order>,
    lane: u64,
    epoch: u64,
    part: LanePart,
    /// Structures of the lane before the next.
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
    pass: Arc<Pass>,
    window: usize,
    places: Box<[Place]>,
    /// Sizes of the window's row groups, ascending by group.
    sizes: Vec<(u32, Arc<GroupSizes>)>,
}

impl Track {
    fn new(order: &Order, dataset: usize, epoch: u64, number: u64) -> Self {
        let key = PassKey { dataset: dataset as u32, epoch, number };
        let pass = order.pass(key);
        Self { number, pass, window: usize::MAX, places: Box::default(), sizes: Vec::new() }
    }

    fn enter(&mut self, order: &Order, dataset: usize, window: usize) -> Result<(), ShardError> {
        if self.window == window {
            return Ok(());
        }
        let split = &order.splits[dataset];
        let groups = self.pass.groups(split, window);
        let held = std::mem::take(&mut self.sizes);
        let is_held = |group: &u32| held.binary_search_by_key(group, |(g, _)| *g).is_ok();
        let fresh: Vec<u32> = groups.iter().copied().filter(|group| !is_held(group)).collect();
        order.sizes.ahead(dataset, &fresh);
        for group in groups {
            let sizes = match held.binary_search_by_key(&group, |(g, _)| *g) {
                Ok(at) => held[at].1.clone(),
                Err(_) => order.sizes.sizes(dataset, group)?,
            };
            self.sizes.push((group, sizes));
        }
        self.places = self.pass.shuffled(split, window);
        self.window = window;
        if window + 1 < self.pass.windows() {
            order.sizes.ahead(dataset, &self.pass.groups(split, window + 1));
        }
        Ok(())
    }

    fn size(&self, place: Place) -> RowSize {
        let at = self.sizes.partition_point(|(group, _)| *group < place.group);
        self.sizes[at].1.of(place.index as usize)
    }
}

impl LaneSequence {
    /// The sequence of a lane from its `position`-th structure.
    pub(crate) fn new(order: Arc<Order>, lane: u64, epoch: u64, position: u64) -> Self {
        let part = order.lanes.part(lane);
        let tracks = order.splits.iter().map(|_| None).collect();
        let mut sequence = Self {
            order,
            lane,
            epoch,
            part,
            position,
            block: u64::MAX,
            turns: vec![],
            given: vec![],
            tracks,
        };
        sequence.enter_block();
        sequence
    }

    /// Structures of the lane in an epoch.
    pub(crate) fn total(&self) -> u64 {
        self.part.mix.total()
    }

    /// Structures of the lane before the next.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The window that each dataset's sequence is in; `None` where it has not begun.
    pub(crate) fn windows(&self) -> Vec<Option<WindowId>> {
        let window = |track: &Track| WindowId { pass: track.number, window: track.window };
        self.tracks.iter().map(|track| track.as_ref().map(window)).collect()
    }

    /// Draws the turns of the block that `position` lies in and counts what was given before it.
    fn enter_block(&mut self) {
        let mix = &self.part.mix;
        let block = self.position / BLOCK;
        let start = (block * BLOCK).min(mix.total());
        let end = (start + BLOCK).min(mix.total());
        let (before, after) = (mix.counts(start), mix.counts(end));
        self.turns.clear();
        for (dataset, (b, a)) in before.iter().zip(&after).enumerate() {
            self.turns.extend(std::iter::repeat_n(dataset as u32, (a - b) as usize));
        }
        let words = [self.order.seed, self.epoch, self.lane, block];
        KeyedRng::new("turns", &words).shuffle(&mut self.turns);
        self.given = before;
        for &turn in &self.turns[..(self.position - start) as usize] {
            self.given[turn as usize] += 1;
        }
        self.block = block;
    }

    /// The next structure; `None` at the end of the epoch.
    pub(crate) fn next(&mut self) -> Result<Option<Sample>, ShardError> {
        if self.position >= self.part.mix.total() {
            return Ok(None);
        }
        if self.position / BLOCK != self.block {
            self.enter_block();
        }
        let dataset = self.turns[(self.position % BLOCK) as usize] as usize;
        let k = self.part.first[dataset] + self.given[dataset];
        let rows = self.order.splits[dataset].len();
        let (number, within) = (k / rows, k % rows);
        let slot = &mut self.tracks[dataset];
        slot.take_if(|track| track.number != number);
        let track = slot.get_or_insert_with(|| Track::new(&self.order, dataset, self.epoch, number));
        let (window, at) = track.pass.locate(within);
        track.enter(&self.order, dataset, window)?;
        let place = track.places[at];
        let sample = Sample {
            task: dataset as u32,
            window: WindowId { pass: number, window },
            place,
            position: self.part.start + self.position,
            late: 2 * at >= track.places.len(),
            size: track.size(place),
        };
        self.given[dataset] += 1;
        self.position += 1;
        Ok(Some(sample))
    }
}
