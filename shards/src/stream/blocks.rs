//! Decoded row groups in use: decoded once, by whoever needs them first, and dropped with their last user.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

use super::lanes::LanePart;
use super::order::PassKey;
use super::planner::{Order, Planner};
use super::sequence::{Sample, WindowId};
use crate::error::ShardError;
use crate::reader::Block;

/// A row group that may or may not be decoded yet.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) dataset: usize,
    pub(super) group: u32,
    block: Mutex<Option<Arc<Block>>>,
}

impl Slot {
    pub(super) fn new(dataset: usize, group: u32) -> Self {
        Self { dataset, group, block: Mutex::new(None) }
    }

    /// The decoded row group. Waits if another thread is decoding it; decodes it if no one has.
    pub(super) fn get(
        &self,
        decode: impl FnOnce(&Self) -> Result<Block, ShardError>,
    ) -> Result<Arc<Block>, ShardError> {
        // A thread that panicked while decoding left nothing behind.
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = &*block {
            return Ok(block.clone());
        }
        let decoded = Arc::new(decode(self)?);
        *block = Some(decoded.clone());
        Ok(decoded)
    }

    /// Decodes it unless it is decoded or being decoded.
    pub(super) fn fill(
        &self,
        decode: impl FnOnce(&Self) -> Result<Block, ShardError>,
    ) -> Result<(), ShardError> {
        let mut block = match self.block.try_lock() {
            Ok(block) => block,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        if block.is_none() {
            *block = Some(Arc::new(decode(self)?));
        }
        Ok(())
    }
}

/// A window's row groups, ascending.
#[derive(Debug)]
struct Window {
    id: WindowId,
    slots: Vec<Arc<Slot>>,
    /// Whether the window after it has been asked for.
    followed: bool,
}

/// The windows that a rank's lanes are in: of each lane and dataset those that have structures to come, and the next one where
/// it was asked for ahead.
#[derive(Debug)]
pub(super) struct Windows {
    order: Arc<Order>,
    epoch: u64,
    parts: BTreeMap<u64, LanePart>,
    held: BTreeMap<(u64, u32), Vec<Window>>,
    slots: BTreeMap<(usize, u32), Weak<Slot>>,
    /// Row groups that no one had asked for before, by dataset and number.
    fresh: Vec<(usize, u32)>,
    sweep_at: usize,
}

impl Windows {
    pub(super) fn new(order: Arc<Order>, epoch: u64) -> Self {
        Self {
            order,
            epoch,
            parts: BTreeMap::new(),
            held: BTreeMap::new(),
            slots: BTreeMap::new(),
            fresh: Vec::new(),
            sweep_at: 64,
        }
    }

    /// Leaves the windows of an epoch for those of another.
    pub(super) fn enter_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.parts.clear();
        self.held.clear();
    }

    /// The row group of a lane's sample.
    pub(super) fn slot(&mut self, lane: u64, sample: &Sample) -> Arc<Slot> {
        let track = (lane, sample.task);
        if !self.holds(track, sample.window) {
            self.hold(track, sample.window);
        }
        let windows = self.held.get(&track).into_iter().flatten();
        let slots = windows.filter(|w| w.id == sample.window).flat_map(|w| &w.slots);
        let found = slots.into_iter().find(|slot| slot.group == sample.place.group).cloned();
        found.unwrap_or_else(|| self.shared(sample.task as usize, sample.place.group))
    }

    /// Row groups to decode ahead: those of the window after the sample's, when asked for the first time.
    pub(super) fn ahead(&mut self, lane: u64, sample: &Sample) -> Vec<Arc<Slot>> {
        let track = (lane, sample.task);
        let windows = self.held.get_mut(&track).into_iter().flatten();
        let Some(window) = windows.into_iter().find(|w| w.id == sample.window && !w.followed) else {
            return Vec::new();
        };
        window.followed = true;
        let Some(next) = self.next_window(lane, sample) else { return Vec::new() };
        if !self.holds(track, next) {
            self.hold(track, next);
        }
        let windows = self.held.get(&track).into_iter().flatten();
        windows.filter(|w| w.id == next).flat_map(|w| w.slots.clone()).collect()
    }

    /// The row groups that have come into use since the last call, by dataset and number.
    pub(super) fn take_fresh(&mut self) -> Vec<(usize, u32)> {
        std::mem::take(&mut self.fresh)
    }

    fn holds(&self, track: (u64, u32), id: WindowId) -> bool {
        self.held.get(&track).is_some_and(|windows| windows.iter().any(|w| w.id == id))
    }

    fn hold(&mut self, track: (u64, u32), id: WindowId) {
        let dataset = track.1 as usize;
        let pass = self.order.pass(self.key(track.1, id.pass));
        let groups = pass.groups(&self.order.splits[dataset], id.window);
        let slots = groups.into_iter().map(|group| self.shared(dataset, group)).collect();
        self.held.entry(track).or_default().push(Window { id, slots, followed: false });
    }

    /// Lets go of windows that no structure to come lies in.
    pub(super) fn leave_done(&mut self, planner: &Planner) {
        let mut lane_needs = (u64::MAX, Vec::new());
        for ((lane, dataset), windows) in &mut self.held {
            if lane_needs.0 != *lane {
                lane_needs = (*lane, planner.needed(*lane));
            }
            if let Some(first) = lane_needs.1[*dataset as usize] {
                windows.retain(|window| window.id >= first);
            }
        }
    }

    fn key(&self, dataset: u32, number: u64) -> PassKey {
        PassKey { dataset, epoch: self.epoch, number }
    }

    /// The slot that all lanes of the rank share.
    fn shared(&mut self, dataset: usize, group: u32) -> Arc<Slot> {
        if let Some(slot) = self.slots.get(&(dataset, group)).and_then(Weak::upgrade) {
            return slot;
        }
        if self.slots.len() >= self.sweep_at {
            self.slots.retain(|_, slot| slot.strong_count() > 0);
            self.sweep_at = 2 * self.slots.len() + 64;
        }
        let slot = Arc::new(Slot::new(dataset, group));
        self.slots.insert((dataset, group), Arc::downgrade(&slot));
        self.fresh.push((dataset, group));
        slot
    }

    /// The window after the sample's, if the lane comes to it in this epoch.
    fn next_window(&mut self, lane: u64, sample: &Sample) -> Option<WindowId> {
        let (dataset, id) = (sample.task as usize, sample.window);
        let rows = self.order.splits[dataset].len();
        let pass = self.order.pass(self.key(sample.task, id.pass));
        let (next, first) = if id.window + 1 < pass.windows() {
            let next = WindowId { pass: id.pass, window: id.window + 1 };
            (next, id.pass * rows + pass.start(next.window))
        } else {
            (WindowId { pass: id.pass + 1, window: 0 }, (id.pass + 1) * rows)
        };
        let part = self.parts.entry(lane).or_insert_with(|| self.order.lanes.part(lane));
        (first < part.first[dataset] + part.mix.expanded()[dataset]).then_some(next)
    }
}
