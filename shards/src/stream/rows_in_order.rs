//! A split in row order, once: for evaluation.

use std::sync::Arc;

use super::blocks::Slot;
use super::build::{Builder, Job, Pick};
use super::config::MOST;
use super::order::SplitRows;
use super::pipeline::{self, Pipeline};
use super::sizes::{Budget, FileSizes, GroupSizes, Load, RowSize, SizeSource, Wanted};
use super::{BatchRule, OpenDataset, Share, StreamDataset, StreamError};
use crate::batch::HostBatch;
use crate::error::ShardError;

/// An iterator over a split's rows in order, in batches.
#[derive(Debug)]
pub struct RowsInOrder {
    pipeline: Pipeline<HostBatch>,
    rows: u64,
}

impl RowsInOrder {
    /// Batches of the first `limit` rows as structures of `task`, cut by `rule`; a row that exceeds a budget alone is a batch
    /// of its own. Of several ranks each takes every `ranks`-th batch; [`HostBatch::index`] counts the batches of all of them.
    pub fn open(
        dataset: &StreamDataset,
        task: u32,
        (rule, limit): (BatchRule, u64),
        share: Share,
        (workers, prefetch): (usize, usize),
    ) -> Result<Self, ShardError> {
        share.check()?;
        rule.check()?;
        let sizes = [("workers", workers), ("prefetch", prefetch)].map(|(key, size)| (key, size as u64));
        if let Some((key, found)) = sizes.into_iter().find(|&(_, n)| n == 0 || n > MOST) {
            return Err(StreamError::Size { key, found }.into());
        }
        let datasets = Arc::new(vec![OpenDataset::new(dataset, 0.0)?]);
        let split = Arc::new(vec![datasets[0].rows()?]);
        let rows = split[0].len().min(limit);
        let mut cut = Cut::new(rule, &datasets, &split)?;
        let builder = Arc::new(Builder::new(datasets, 0, 0.0));
        let pipeline = Pipeline::start(builder, workers, prefetch, move |output| {
            let mut held: Option<Arc<Slot>> = None;
            let (mut picks, mut index) = (Vec::new(), 0u32);
            let mut give = |picks: Vec<Pick>| {
                let is_own = index % share.ranks == share.rank;
                let job = Job { picks, epoch: 0, index };
                index += 1;
                if !is_own {
                    return true;
                }
                let result = output.build(job);
                output.promise(Box::new(move |deadline| pipeline::wait(&result, deadline)))
            };
            for (position, place) in (0..rows).zip(split[0].ascending()) {
                let is_next = cut.before(place.group, place.index)?;
                if is_next && !picks.is_empty() && !give(std::mem::take(&mut picks)) {
                    return Ok(());
                }
                let slot = match held.take().filter(|slot| slot.group == place.group) {
                    Some(slot) => slot,
                    None => Arc::new(Slot::new(0, place.group)),
                };
                picks.push(Pick { slot: slot.clone(), task, index: place.index, position });
                held = Some(slot);
            }
            if !picks.is_empty() {
                give(picks);
            }
            Ok(())
        })?;
        Ok(Self { pipeline, rows })
    }

    /// Rows that are read, over all ranks.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// Where one batch ends and the next begins.
#[derive(Debug)]
struct Cut {
    budget: Budget,
    /// Asked only where the budget is of more than structures.
    sizes: Option<FileSizes>,
    /// Sizes of the row group read last.
    group: Option<(u32, Arc<GroupSizes>)>,
    load: Load,
}

impl Cut {
    fn new(
        rule: BatchRule,
        datasets: &Arc<Vec<OpenDataset>>,
        split: &Arc<Vec<SplitRows>>,
    ) -> Result<Self, ShardError> {
        let budget = match rule {
            BatchRule::Structures(count) => Budget { structures: Some(count as u64), ..Budget::default() },
            BatchRule::Budget(budget) => budget,
        };
        let wanted = Wanted { graphs: budget.on_graphs(), free: false };
        let is_of_sizes = wanted.graphs || budget.atoms.is_some();
        let sizes = || FileSizes::new(datasets.clone(), split.clone(), wanted);
        Ok(Self { budget, sizes: is_of_sizes.then(sizes).transpose()?, group: None, load: Load::default() })
    }

    /// Whether a batch ends before this row, which is then the next one's first.
    fn before(&mut self, group: u32, index: u32) -> Result<bool, ShardError> {
        let size = match &self.sizes {
            None => RowSize::default(),
            Some(source) => {
                let known = self.group.take().filter(|(number, _)| *number == group);
                let sizes = known.map_or_else(|| source.sizes(0, group), |(_, sizes)| Ok(sizes))?;
                let size = sizes.of(index as usize);
                self.group = Some((group, sizes));
                size
            }
        };
        let fuller = self.load.with(size);
        let is_next = self.budget.exceeded(fuller).is_some();
        self.load = if is_next { Load::default().with(size) } else { fuller };
        Ok(is_next)
    }
}

impl Iterator for RowsInOrder {
    type Item = Result<HostBatch, ShardError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pipeline.next()
    }
}
