//! Global batches, one after the other, as every rank plans them for itself.
//!
//! Planning knows nothing of other ranks' progress and reads no rows: every rank walks all lanes, so that it knows who takes
//! which micro-batch and what the whole global batch amounts to.

use std::collections::VecDeque;
use std::sync::Arc;

use super::lanes::Lanes;
use super::order::{Pass, PassKey, Passes, SplitRows};
use super::partition;
use super::random::KeyedRng;
use super::sequence::{LaneSequence, Sample, WindowId};
use super::sizes::{Load, SizeSource};
use super::{BatchRule, Cursor, Oversize, StreamError, Totals};
use crate::batch::RowId;
use crate::error::ShardError;

/// Structures of a lane that are levelled over its next steps together. Part of the order.
const LEVELLED: u64 = 512;

/// All that fixes the order.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) seed: u64,
    /// Where the datasets lie, for messages.
    pub(crate) names: Vec<String>,
    pub(crate) splits: Arc<Vec<SplitRows>>,
    pub(crate) lanes: Lanes,
    /// Row groups of a lane's window.
    pub(crate) window: usize,
    pub(crate) rule: BatchRule,
    /// Micro-batches that each lane gives to a global batch.
    pub(crate) per_lane: usize,
    pub(crate) sizes: Box<dyn SizeSource>,
    pub(crate) passes: Passes,
}

impl Order {
    pub(crate) fn pass(&self, key: PassKey) -> Arc<Pass> {
        self.passes.get(&self.splits[key.dataset as usize], self.seed, key, self.window)
    }

    /// Where a structure lies.
    pub(crate) fn row(&self, sample: &Sample) -> RowId {
        RowId { dataset: sample.task, row: self.splits[sample.task as usize].row(sample.place) }
    }

    /// The lane that a micro-batch, by its place in the global batch, is of.
    pub(crate) fn lane_of(&self, index: u32) -> u64 {
        u64::from(index) / self.per_lane as u64
    }

    /// Micro-batches of a global batch.
    pub(crate) fn micro_batches(&self) -> usize {
        self.per_lane * self.lanes.count() as usize
    }

    /// Structures that a lane gives to a full global batch, where that is fixed.
    fn step(&self) -> Option<u64> {
        match self.rule {
            BatchRule::Structures(size) => Some((size * self.per_lane) as u64),
            BatchRule::Budget(_) => None,
        }
    }

    /// Structures of a lane that are in use at the same time; `None` where batches are filled to a budget.
    pub(crate) fn together(&self) -> Option<u64> {
        Some(self.step()? * self.levelled())
    }

    /// Steps whose structures are levelled together.
    fn levelled(&self) -> u64 {
        match self.step() {
            Some(step) if self.lanes.count() > 1 => (LEVELLED / step).max(1),
            _ => 1,
        }
    }
}

/// A global batch before anything is read.
#[derive(Debug)]
pub(crate) struct Planned {
    /// All micro-batches that are not empty.
    pub(crate) parts: Vec<Part>,
    pub(crate) totals: Totals,
    /// Structures left out for their size.
    pub(crate) skipped: Vec<RowId>,
    /// The position after it.
    pub(crate) cursor: Cursor,
}

/// A micro-batch before anything is read.
#[derive(Debug)]
pub(crate) struct Part {
    /// Place in the global batch.
    pub(crate) index: u32,
    /// The rank that takes it.
    pub(crate) owner: u32,
    pub(crate) samples: Vec<Sample>,
}

/// Walks the global batches of one epoch.
#[derive(Debug)]
pub(crate) struct Planner {
    order: Arc<Order>,
    lanes: Vec<Lane>,
    cursor: Cursor,
}

#[derive(Debug)]
struct Lane {
    number: u64,
    sequence: LaneSequence,
    /// Steps that are planned already.
    ready: VecDeque<Vec<Sample>>,
    /// The structure that did not fit into the micro-batch before it.
    next: Option<Sample>,
    skipped: Vec<RowId>,
}

impl Planner {
    /// Global batches from `start` to the end of its epoch.
    pub(crate) fn new(order: Arc<Order>, start: Cursor) -> Result<Self, ShardError> {
        for (lane, &done) in (0..).zip(&start.lanes) {
            let total = order.lanes.part(lane).mix.total();
            if done > total {
                return Err(StreamError::Cursor { found: start.clone(), total: order.lanes.total() }.into());
            }
        }
        let lanes = (0..order.lanes.count())
            .map(|number| Lane::new(&order, number, &start))
            .collect::<Result<_, _>>()?;
        Ok(Self { order, lanes, cursor: start })
    }

    /// The next global batch, shared among `ranks`; `None` when the epoch is over.
    pub(crate) fn next(&mut self, ranks: u32) -> Result<Option<Planned>, ShardError> {
        let mut parts: Vec<Vec<Sample>> = Vec::with_capacity(self.order.micro_batches());
        let mut skipped = Vec::new();
        for lane in &mut self.lanes {
            let first = parts.len();
            match self.order.step() {
                Some(step) => lane.fixed(&self.order, &self.cursor, step, &mut parts)?,
                None => lane.packed(&self.order, &mut parts)?,
            }
            parts.resize_with(first + self.order.per_lane, Vec::new);
            skipped.append(&mut lane.skipped);
        }
        if parts.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let costs: Vec<u64> = parts.iter().map(|part| self.cost(part)).collect();
        let owners = partition::owners(&costs, self.order.per_lane, ranks);
        let totals = Totals::of(&parts, self.order.splits.len());
        self.advance(totals.all.structures + skipped.len() as u64);
        let parts = parts.into_iter().zip(owners).zip(0..);
        let parts = parts
            .filter(|((samples, _), _)| !samples.is_empty())
            .map(|((samples, owner), index)| Part { index, owner, samples })
            .collect();
        Ok(Some(Planned { parts, totals, skipped, cursor: self.cursor.clone() }))
    }

    /// The first window of each dataset that a lane's coming structures lie in, as far as that is known; earlier ones are done.
    pub(crate) fn needed(&self, lane: u64) -> Vec<Option<WindowId>> {
        self.lanes[lane as usize].needed()
    }

    fn advance(&mut self, structures: u64) {
        self.cursor.step += 1;
        self.cursor.position += structures;
        if self.cursor.position >= self.order.lanes.total() {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, ..Cursor::default() };
        } else if self.order.step().is_none() {
            self.cursor.lanes = self.lanes.iter().map(Lane::consumed).collect();
        }
    }

    /// What a micro-batch costs, for comparison with others.
    fn cost(&self, part: &[Sample]) -> u64 {
        let load = part.iter().fold(Load::default(), |load, sample| load.with(sample.size));
        match &self.order.rule {
            BatchRule::Structures(_) => part.iter().map(|s| u64::from(s.size.atoms)).sum(),
            BatchRule::Budget(budget) => budget.fullness(load),
        }
    }
}

impl Lane {
    fn new(order: &Arc<Order>, number: u64, start: &Cursor) -> Result<Self, ShardError> {
        let (from, done) = match order.step() {
            Some(step) => {
                let levelled = order.levelled();
                let total = order.lanes.part(number).mix.total();
                let block = start.step / levelled * levelled;
                ((block * step).min(total), start.step - block)
            }
            None => (start.lanes.get(number as usize).copied().unwrap_or(0), 0),
        };
        let sequence = LaneSequence::new(order.clone(), number, start.epoch, from);
        let mut lane = Self { number, sequence, ready: VecDeque::new(), next: None, skipped: Vec::new() };
        match order.step() {
            Some(step) if done > 0 => {
                let block = Cursor { step: start.step - done, ..start.clone() };
                lane.level(order, &block, step)?;
                lane.ready.drain(..(done as usize).min(lane.ready.len()));
            }
            Some(_) => {}
            None => lane.fetch(order)?,
        }
        Ok(lane)
    }

    /// See [`Planner::needed`].
    fn needed(&self) -> Vec<Option<WindowId>> {
        let mut needed = self.sequence.windows();
        for sample in self.ready.iter().flatten().chain(&self.next) {
            let first = &mut needed[sample.task as usize];
            *first = first.map_or(Some(sample.window), |first| Some(first.min(sample.window)));
        }
        needed
    }

    /// Structures of the lane that are yielded or left out.
    fn consumed(&self) -> u64 {
        self.sequence.position() - u64::from(self.next.is_some())
    }

    /// Adds the lane's micro-batches of the next step, `step` structures together.
    fn fixed(
        &mut self,
        order: &Order,
        cursor: &Cursor,
        step: u64,
        parts: &mut Vec<Vec<Sample>>,
    ) -> Result<(), ShardError> {
        if self.ready.is_empty() {
            self.level(order, cursor, step)?;
        }
        let Some(samples) = self.ready.pop_front() else { return Ok(()) };
        let sizes: Vec<u64> = samples.iter().map(|s| u64::from(s.size.atoms)).collect();
        let mut samples: Vec<Option<Sample>> = samples.into_iter().map(Some).collect();
        for part in partition::balanced(&sizes, order.per_lane) {
            parts.push(part.into_iter().filter_map(|i| samples[i].take()).collect());
        }
        Ok(())
    }

    /// Draws the structures of the steps that are levelled together, the first of which is the cursor's.
    fn level(&mut self, order: &Order, cursor: &Cursor, step: u64) -> Result<(), ShardError> {
        let left = self.sequence.total() - self.sequence.position();
        let full = (left / step).min(order.levelled());
        let mut samples = self.draw(full * step)?;
        if full > 1 {
            let sizes: Vec<u64> = samples.iter().map(|s| u64::from(s.size.atoms)).collect();
            let words = [order.seed, cursor.epoch, self.number, cursor.step];
            let mut rng = KeyedRng::new("steps", &words);
            let mut drawn: Vec<Option<Sample>> = samples.into_iter().map(Some).collect();
            for list in partition::level(&sizes, full as usize, &mut rng) {
                self.ready.push_back(list.into_iter().filter_map(|i| drawn[i].take()).collect());
            }
        } else if full == 1 {
            self.ready.push_back(std::mem::take(&mut samples));
        }
        // The epoch's last step may be smaller.
        let rest = left - full * step;
        if full < order.levelled() && rest > 0 {
            let last = self.draw(rest)?;
            self.ready.push_back(last);
        }
        Ok(())
    }

    fn draw(&mut self, count: u64) -> Result<Vec<Sample>, ShardError> {
        let mut samples = Vec::with_capacity(count as usize);
        while (samples.len() as u64) < count
            && let Some(sample) = self.sequence.next()?
        {
            samples.push(sample);
        }
        Ok(samples)
    }

    /// Adds the lane's micro-batches of the next step, filled up to the budget.
    fn packed(&mut self, order: &Order, parts: &mut Vec<Vec<Sample>>) -> Result<(), ShardError> {
        let BatchRule::Budget(budget) = &order.rule else { return Ok(()) };
        for _ in 0..order.per_lane {
            let (mut part, mut load) = (Vec::new(), Load::default());
            while let Some(sample) = self.next.take() {
                let fuller = load.with(sample.size);
                if !part.is_empty() && budget.exceeded(fuller).is_some() {
                    self.next = Some(sample);
                    break;
                }
                load = fuller;
                part.push(sample);
                self.fetch(order)?;
            }
            parts.push(part);
        }
        Ok(())
    }

    /// Puts the next structure that may be used into `next`.
    fn fetch(&mut self, order: &Order) -> Result<(), ShardError> {
        let BatchRule::Budget(budget) = &order.rule else { return Ok(()) };
        self.next = None;
        while let Some(sample) = self.sequence.next()? {
            let Some((what, limit, found)) = budget.exceeded(Load::default().with(sample.size)) else {
                self.next = Some(sample);
                break;
            };
            match budget.oversize {
                Oversize::Alone => {
                    self.next = Some(sample);
                    break;
                }
                Oversize::Skip => self.skipped.push(order.row(&sample)),
                Oversize::Error => {
                    let (dataset, row) = (order.names[sample.task as usize].clone(), order.row(&sample).row);
                    return Err(StreamError::Oversize { dataset, row, what, limit, found }.into());
                }
            }
        }
        Ok(())
    }
}
