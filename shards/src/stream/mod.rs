//! Training data as one global sequence of batches, a pure function of seed, datasets and batch rule.
//!
//! ```text
//! Planner: lanes → global batches → this rank's micro-batches     planner thread, on every rank alike
//!    └─ windows of row groups, decoded when first needed or ahead  workers
//!        └─ rows → targets, graphs → HostBatch                     workers, a bounded number ahead
//!            └─ Stream::next: GlobalBatch, in order                the trainer
//! ```
//!
//! Neither the number of workers nor the depth of prefetching changes what is yielded, and the number of ranks only who
//! gets which micro-batch. A [`Cursor`] taken from a global batch continues with the one after it, on any number of ranks.

mod blocks;
mod build;
mod config;
mod error;
mod lanes;
mod memory;
mod mix;
mod order;
mod partition;
mod pipeline;
mod planner;
mod random;
mod rows_in_order;
mod sequence;
pub mod simulation;
mod sizes;
mod survey;
mod totals;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use config::{BatchRule, Cursor, Oversize, Share, StreamConfig, StreamDataset};
pub use error::StreamError;
pub use mix::{Interleave, Temperature, expanded_sizes};
pub use pipeline::Next;
pub use rows_in_order::RowsInOrder;
pub use sizes::Budget;
pub use survey::{Distribution, Survey};
pub use totals::{Tally, Totals};

use build::Builder;
pub use build::Work;
use lanes::Lanes;
use order::{Passes, SplitRows};
use pipeline::Pipeline;
use planner::Order;
use sizes::{FileSizes, Wanted};

use crate::batch::{HostBatch, RowId};
use crate::error::ShardError;
use crate::graph::GraphSpec;
use crate::reader::Dataset;

/// The epoch before it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochPlan {
    /// Rows of each dataset's split.
    pub rows: Vec<u64>,
    /// Structures that each contributes to an epoch.
    pub expanded: Vec<u64>,
    /// Structures of an epoch.
    pub structures: u64,
    /// Global batches of an epoch; the last may be smaller. Estimated from the first ones where batches are filled to a
    /// budget and the epoch is long.
    pub steps: u64,
    /// Structures of a full global batch; a mean where batches are filled to a budget.
    pub global_batch: u64,
}

impl EpochPlan {
    fn of(order: &Arc<Order>) -> Result<Self, ShardError> {
        let structures = order.lanes.total();
        let (steps, global_batch) = match order.rule {
            BatchRule::Structures(size) => {
                let global = (size * order.micro_batches()) as u64;
                (structures.div_ceil(global), global)
            }
            BatchRule::Budget(_) => survey::estimated_steps(order)?,
        };
        let rows = order.splits.iter().map(SplitRows::len).collect();
        Ok(Self { rows, expanded: order.lanes.expanded().to_vec(), structures, steps, global_batch })
    }
}

/// A rank's part of a global batch.
#[derive(Debug)]
pub struct GlobalBatch {
    /// This rank's micro-batches; none if there are more ranks than micro-batches.
    pub parts: Vec<HostBatch>,
    /// What the whole global batch holds, the same on every rank.
    pub totals: Totals,
    /// Structures that were left out for their size ([`Oversize::Skip`]), the same on every rank.
    pub skipped: Vec<RowId>,
    /// The stream's position after it, the same on every rank.
    pub cursor: Cursor,
}

/// An iterator over global batches.
#[derive(Debug)]
pub struct Stream {
    pipeline: Pipeline<GlobalBatch>,
    order: Arc<Order>,
}

impl Stream {
    /// Starts the threads and the sequence at `start`, for one rank.
    ///
    /// # Errors
    /// What cannot be opened or does not fit together; too little memory for the windows.
    pub fn open(config: StreamConfig, share: Share, start: Cursor) -> Result<Self, ShardError> {
        let opened = Opened::new(config)?;
        share.check()?;
        opened.config.check_cursor(&start, opened.order.lanes.total())?;
        let ahead = opened.check_memory(share)?;
        let order = opened.order.clone();
        let pipeline = pipeline::training(opened, share, start, ahead)?;
        Ok(Self { pipeline, order })
    }

    /// Numbers of the epoch. Where batches are filled to a budget, this plans the epoch's first steps.
    ///
    /// # Errors
    /// What cannot be read; a budget into which nothing fits.
    pub fn plan(&self) -> Result<EpochPlan, ShardError> {
        EpochPlan::of(&self.order)
    }

    /// The next global batch if it is there within `patience`, so that its reader can look after other things meanwhile.
    pub fn next_within(&mut self, patience: Duration) -> Next<GlobalBatch> {
        self.pipeline.next_by(Some(Instant::now() + patience))
    }

    /// What the workers have done so far.
    pub fn work(&self) -> Work {
        self.pipeline.builder().work()
    }

    /// Returns micro-batches that are no longer wanted, so that workers fill their memory again instead of asking the system
    /// for new pages. Not doing so costs time and nothing else.
    pub fn give_back(&self, parts: Vec<HostBatch>) {
        parts.into_iter().for_each(|batch| self.pipeline.builder().give_back(batch));
    }
}

impl Iterator for Stream {
    type Item = Result<GlobalBatch, ShardError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pipeline.next()
    }
}

/// The epoch that a configuration gives, without starting threads.
pub fn plan_of(config: &StreamConfig) -> Result<EpochPlan, ShardError> {
    EpochPlan::of(&Opened::new(config.clone())?.order)
}

/// A dataset, and whether its stored neighbour lists and counts serve the model's graphs.
#[derive(Debug)]
pub(crate) struct OpenDataset {
    pub(crate) dataset: Dataset,
    pub(crate) entry: StreamDataset,
    /// Whether graphs come from stored neighbour lists.
    pub(crate) stored: bool,
}

impl OpenDataset {
    fn new(entry: &StreamDataset, edge_dropout: f64) -> Result<Self, ShardError> {
        let dataset = Dataset::open(&entry.dir)?;
        check_references(&dataset, entry)?;
        let stored =
            entry.graph.as_ref().is_some_and(|spec| stored_neighbors_suffice(&dataset, spec, edge_dropout));
        Ok(Self { dataset, entry: entry.clone(), stored })
    }

    fn rows(&self) -> Result<SplitRows, ShardError> {
        let rows = self.dataset.split(&self.entry.split)?;
        Ok(SplitRows::new(self.dataset.row_groups().iter().map(|g| &g.rows), rows))
    }

    /// Whether the stored counts are those of the model's graphs.
    pub(crate) fn counts_serve(&self) -> bool {
        self.entry.graph.as_ref().is_none_or(|spec| *spec == self.dataset.layout().graph)
    }
}

/// A configuration with its datasets opened and its order fixed.
#[derive(Debug)]
struct Opened {
    config: StreamConfig,
    datasets: Arc<Vec<OpenDataset>>,
    order: Arc<Order>,
}

impl Opened {
    fn new(config: StreamConfig) -> Result<Self, ShardError> {
        config.check()?;
        let open = |entry| OpenDataset::new(entry, config.edge_dropout);
        let datasets = Arc::new(config.datasets.iter().map(open).collect::<Result<Vec<_>, ShardError>>()?);
        let splits =
            Arc::new(datasets.iter().map(OpenDataset::rows).collect::<Result<Vec<_>, ShardError>>()?);
        let graphs = matches!(config.batch, BatchRule::Budget(budget) if budget.on_graphs());
        let wanted = Wanted { graphs, free: config.count_free_atoms };
        let sizes = Box::new(FileSizes::new(datasets.clone(), splits.clone(), wanted)?);
        let names = config.datasets.iter().map(|d| d.dir.display().to_string()).collect();
        let order = Arc::new(order(&config, names, splits, sizes)?);
        Ok(Self { config, datasets, order })
    }

    fn builder(&self) -> Builder {
        Builder::new(self.datasets.clone(), self.config.seed, self.config.edge_dropout)
    }
}

/// The order that a configuration gives over splits.
fn order(
    config: &StreamConfig,
    names: Vec<String>,
    splits: Arc<Vec<SplitRows>>,
    sizes: Box<dyn sizes::SizeSource>,
) -> Result<Order, StreamError> {
    let rows: Vec<u64> = splits.iter().map(SplitRows::len).collect();
    let mix = Interleave::new(expanded_sizes(&rows, config.temperature)?);
    Ok(Order {
        seed: config.seed,
        names,
        splits,
        lanes: Lanes::new(mix, config.lanes as u64, config.global_batch()),
        window: config.lane_window(),
        rule: config.batch,
        per_lane: config.micro_batches / config.lanes,
        sizes,
        passes: Passes::default(),
    })
}

/// Sees to it that every energy of the split has a reference.
fn check_references(dataset: &Dataset, entry: &StreamDataset) -> Result<(), ShardError> {
    let statistics = &dataset.manifest().split(&entry.dir, &entry.split)?.statistics;
    let Some(reference) = &entry.transform.reference else { return Ok(()) };
    if !statistics.labels.contains_key(&entry.transform.label) {
        return Ok(());
    }
    let absent = statistics.elements.keys().filter(|z| !reference.coefficients.contains_key(z));
    let absent: Vec<&str> = absent.map(|&z| crate::element::symbol(z)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    Err(StreamError::AbsentElements {
        dataset: entry.dir.display().to_string(),
        split: entry.split.clone(),
        elements: absent.join(", "),
        reference: reference.split.clone(),
    }
    .into())
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
