//! Training data as one global sequence of micro-batches, a pure function of seed, datasets and batch rule.
//!
//! ```text
//! Sequence (turns of the datasets, order within each)        planner thread
//!    └─ windows of row groups, decoded one ahead             workers
//!        └─ rows → graphs, targets → HostBatch               workers, a bounded number ahead
//!            └─ Stream::next, in order                       the trainer
//! ```
//!
//! Neither the number of workers nor the depth of prefetching changes what is yielded. A [`Cursor`] taken from a batch
//! continues with the batch after it.

mod error;
mod mix;
mod order;
mod pipeline;
mod random;
mod sequence;

use std::path::PathBuf;
use std::sync::Arc;

pub use error::StreamError;
pub use mix::{Interleave, Temperature, expanded_sizes};
use order::SplitRows;
use pipeline::{Pipeline, Shared};
use serde::{Deserialize, Serialize};

use crate::batch::HostBatch;
use crate::error::ShardError;
use crate::graph::GraphSpec;
use crate::reader::Dataset;
use crate::targets::TargetTransform;

/// Where a stream stands: structures consumed of an epoch. All that a checkpoint needs to know of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Finished epochs.
    pub epoch: u64,
    /// Structures of this epoch already yielded.
    pub position: u64,
}

/// One dataset of a stream.
#[derive(Debug, Clone)]
pub struct StreamDataset {
    /// The dataset's directory.
    pub dir: PathBuf,
    /// Which of its splits.
    pub split: String,
    /// Graphs that the model wants.
    pub graph: GraphSpec,
    /// How its labels become targets.
    pub transform: TargetTransform,
}

/// What fixes the sequence, and what only concerns this machine.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    /// The mix, in task order.
    pub datasets: Vec<StreamDataset>,
    /// Temperature of the mix.
    pub temperature: Temperature,
    /// Seed of every random choice.
    pub seed: u64,
    /// Structures of a micro-batch.
    pub batch_size: usize,
    /// Epochs to yield; the stream ends after them.
    pub epochs: u64,
    /// Row groups shuffled together; part of the order.
    pub window: usize,
    /// Probability with which an edge is left out of the neighbour list (edge dropout); part of the order.
    pub edge_dropout: f64,
    /// Threads that decode, build graphs and collate.
    pub workers: usize,
    /// Micro-batches prepared ahead.
    pub prefetch: usize,
}

/// The epoch before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochPlan {
    /// Rows of each dataset's split.
    pub rows: Vec<u64>,
    /// Structures that each contributes to an epoch.
    pub expanded: Vec<u64>,
    /// Structures of an epoch.
    pub structures: u64,
    /// Micro-batches of an epoch; the last may be smaller.
    pub micro_batches: u64,
}

/// An iterator over micro-batches.
#[derive(Debug)]
pub struct Stream {
    pipeline: Pipeline,
    plan: EpochPlan,
}

impl StreamConfig {
    fn check(&self) -> Result<(), StreamError> {
        if self.datasets.is_empty() {
            return Err(StreamError::NoDatasets);
        }
        let sizes = [
            ("batch_size", self.batch_size),
            ("window", self.window),
            ("workers", self.workers),
            ("prefetch", self.prefetch),
        ];
        if !(0.0..1.0).contains(&self.edge_dropout) {
            return Err(StreamError::EdgeDropout { found: self.edge_dropout });
        }
        match sizes.into_iter().find(|&(_, n)| n == 0) {
            Some((key, _)) => Err(StreamError::Zero { key }),
            None => Ok(()),
        }
    }
}

impl Stream {
    /// Starts the threads and the sequence at `start`.
    pub fn open(config: StreamConfig, start: Cursor) -> Result<Self, ShardError> {
        config.check()?;
        let (datasets, splits): (Vec<_>, Vec<_>) =
            config.datasets.iter().map(open).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let plan = plan(&splits, &config)?;
        if start.position > plan.structures {
            return Err(StreamError::Cursor { position: start.position, total: plan.structures }.into());
        }
        let shared = Shared::new(config, datasets, splits, Interleave::new(plan.expanded.clone()));
        Ok(Self { pipeline: Pipeline::training(Arc::new(shared), start)?, plan })
    }

    /// A split in row order, once, for evaluation. `batch_size` structures a batch.
    pub fn sequential(
        dataset: StreamDataset,
        task: u32,
        batch_size: usize,
        workers: usize,
        prefetch: usize,
    ) -> Result<Self, ShardError> {
        let config = StreamConfig {
            datasets: vec![dataset],
            temperature: Temperature::Finite(1.0),
            seed: 0,
            batch_size,
            epochs: 1,
            window: 1,
            edge_dropout: 0.0,
            workers,
            prefetch,
        };
        config.check()?;
        let entry = &config.datasets[0];
        let (opened, rows) = open(entry)?;
        let plan = EpochPlan {
            rows: vec![rows.len()],
            expanded: vec![rows.len()],
            structures: rows.len(),
            micro_batches: rows.len().div_ceil(batch_size as u64),
        };
        let shared = Shared::new(config, vec![opened], vec![rows], Interleave::new(plan.expanded.clone()));
        Ok(Self { pipeline: Pipeline::sequential(Arc::new(shared), task)?, plan })
    }

    /// Numbers of the epoch.
    pub fn plan(&self) -> &EpochPlan {
        &self.plan
    }
}

impl Iterator for Stream {
    type Item = Result<HostBatch, ShardError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pipeline.next()
    }
}

/// The epoch that a configuration gives, without starting threads.
pub fn plan_of(config: &StreamConfig) -> Result<EpochPlan, ShardError> {
    config.check()?;
    let splits =
        config.datasets.iter().map(|entry| Ok(open(entry)?.1)).collect::<Result<Vec<_>, ShardError>>()?;
    Ok(plan(&splits, config)?)
}

/// Opens a dataset and its split, and sees to it that every label of the split has a reference.
fn open(entry: &StreamDataset) -> Result<(Dataset, SplitRows), ShardError> {
    let dataset = Dataset::open(&entry.dir)?;
    let statistics = &dataset.manifest().split(&entry.dir, &entry.split)?.statistics;
    if let Some(reference) = &entry.transform.reference
        && statistics.labels.contains_key(&entry.transform.label)
    {
        let absent = statistics.elements.keys().filter(|z| !reference.coefficients.contains_key(z));
        let absent: Vec<&str> = absent.map(|&z| crate::element::symbol(z)).collect();
        if !absent.is_empty() {
            return Err(StreamError::AbsentElements {
                dataset: entry.dir.display().to_string(),
                split: entry.split.clone(),
                elements: absent.join(", "),
                reference: reference.split.clone(),
            }
            .into());
        }
    }
    let rows = SplitRows::new(&dataset, dataset.split(&entry.split)?);
    Ok((dataset, rows))
}

fn plan(splits: &[SplitRows], config: &StreamConfig) -> Result<EpochPlan, StreamError> {
    let rows: Vec<u64> = splits.iter().map(SplitRows::len).collect();
    let expanded = expanded_sizes(&rows, config.temperature)?;
    let structures = expanded.iter().sum();
    let micro_batches = u64::div_ceil(structures, config.batch_size as u64);
    Ok(EpochPlan { rows, expanded, structures, micro_batches })
}

/// Whether a dataset's stored neighbour lists are what a model's graphs are taken from.
///
/// A longer list than the model's holds the model's: its nearest are chosen from it. With edge dropout the lists must be
/// equal, since an edge's lot is drawn by its place in the list.
pub fn stored_neighbors_suffice(dataset: &Dataset, spec: &GraphSpec, edge_dropout: f64) -> bool {
    let layout = dataset.layout();
    let Some(limit) = layout.neighbors.limit(&layout.graph) else { return false };
    let enough = limit == spec.atom_atom || (limit > spec.atom_atom && edge_dropout == 0.0);
    layout.graph.cutoff == spec.cutoff && enough
}

/// The example of docs/stream.md, compiled.
#[doc = include_str!("../../../docs/stream.md")]
#[cfg(doctest)]
struct StreamPage;
