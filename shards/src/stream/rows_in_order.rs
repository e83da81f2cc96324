//! A split in row order, once: for evaluation.

use std::sync::Arc;

use super::blocks::Slot;
use super::build::{Builder, Job, Pick};
use super::config::MOST;
use super::pipeline::{self, Pipeline};
use super::{OpenDataset, Share, StreamDataset, StreamError};
use crate::batch::HostBatch;
use crate::error::ShardError;

/// An iterator over a split's rows in order, in batches.
#[derive(Debug)]
pub struct RowsInOrder {
    pipeline: Pipeline<HostBatch>,
    rows: u64,
}

impl RowsInOrder {
    /// Batches of `batch_size` rows as structures of `task`. Of several ranks each takes every `ranks`-th batch;
    /// [`HostBatch::index`] counts the batches of all of them.
    pub fn open(
        dataset: &StreamDataset,
        task: u32,
        batch_size: usize,
        share: Share,
        (workers, prefetch): (usize, usize),
    ) -> Result<Self, ShardError> {
        share.check()?;
        let sizes = [("batch_size", batch_size), ("workers", workers), ("prefetch", prefetch)];
        let sizes = sizes.map(|(key, size)| (key, size as u64));
        if let Some((key, found)) = sizes.into_iter().find(|&(_, n)| n == 0 || n > MOST) {
            return Err(StreamError::Size { key, found }.into());
        }
        let opened = OpenDataset::new(dataset, 0.0)?;
        let split = opened.rows()?;
        let rows = split.len();
        let builder = Arc::new(Builder::new(Arc::new(vec![opened]), 0, 0.0));
        let pipeline = Pipeline::start(builder, workers, prefetch, move |output| {
            let mut held: Option<Arc<Slot>> = None;
            let (mut picks, mut index) = (Vec::with_capacity(batch_size), 0u32);
            for (position, place) in (0..).zip(split.ascending()) {
                let slot = match held.take().filter(|slot| slot.group == place.group) {
                    Some(slot) => slot,
                    None => Arc::new(Slot::new(0, place.group)),
                };
                picks.push(Pick { slot: slot.clone(), task, index: place.index, position });
                held = Some(slot);
                if picks.len() < batch_size && position + 1 < rows {
                    continue;
                }
                let picks = std::mem::replace(&mut picks, Vec::with_capacity(batch_size));
                if index % share.ranks == share.rank {
                    let result = output.build(Job { picks, epoch: 0, index });
                    if !output.promise(Box::new(move || pipeline::wait(&result))) {
                        break;
                    }
                }
                index += 1;
            }
            Ok(())
        })?;
        Ok(Self { pipeline, rows })
    }

    /// Rows of the split, over all ranks.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Iterator for RowsInOrder {
    type Item = Result<HostBatch, ShardError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pipeline.next()
    }
}
