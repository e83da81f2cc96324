//! What a stream is made of, and what is checked before it starts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Budget, StreamError, Temperature};
use crate::graph::GraphSpec;
use crate::targets::TargetTransform;

/// Where a stream stands. All that a checkpoint needs to know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Finished epochs.
    pub epoch: u64,
    /// Global batches of this epoch already yielded.
    pub step: u64,
    /// Structures of this epoch already yielded or left out.
    pub position: u64,
    /// The same by lane, where batches are filled to a budget; else empty, as it follows from `step`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lanes: Vec<u64>,
}

/// Which rank of how many a stream is for. Every rank opens the same stream with a share of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// This rank, below `ranks`.
    pub rank: u32,
    /// All of them, at least 1.
    pub ranks: u32,
}

impl Share {
    /// The only rank.
    pub const WHOLE: Self = Self { rank: 0, ranks: 1 };

    pub(super) fn check(self) -> Result<(), StreamError> {
        let Self { rank, ranks } = self;
        if rank < ranks { Ok(()) } else { Err(StreamError::Share { rank, ranks }) }
    }
}

/// One dataset of a stream.
#[derive(Debug, Clone)]
pub struct StreamDataset {
    /// The dataset's directory.
    pub dir: PathBuf,
    /// Which of its splits.
    pub split: String,
    /// Graphs that the model wants; `None`: flat batches without graphs.
    pub graph: Option<GraphSpec>,
    /// How its labels become targets.
    pub transform: TargetTransform,
}

/// What a micro-batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchRule {
    /// So many structures on average: a global batch of M micro-batches holds M times as many, which are divided by atoms
    /// (the reference's balanced partition).
    Structures(usize),
    /// As many structures, in the order's order, as fit.
    Budget(Budget),
}

impl BatchRule {
    pub(super) fn check(&self) -> Result<(), StreamError> {
        let limits = match *self {
            Self::Structures(size) if size as u64 > MOST => {
                return Err(StreamError::Size { key: "batch_size", found: size as u64 });
            }
            Self::Structures(size) => [("batch_size", Some(size as u64)), NO_LIMIT, NO_LIMIT, NO_LIMIT],
            Self::Budget(Budget { structures, atoms, edges, quadruplets, .. }) => [
                ("batch_size", structures),
                ("max_atoms", atoms),
                ("max_edges", edges),
                ("max_quadruplets", quadruplets),
            ],
        };
        if limits.iter().all(|(_, limit)| limit.is_none()) {
            return Err(StreamError::NoBudget);
        }
        match limits.into_iter().find(|(_, limit)| *limit == Some(0)) {
            Some((key, _)) => Err(StreamError::Size { key, found: 0 }),
            None => Ok(()),
        }
    }
}

const NO_LIMIT: (&str, Option<u64>) = ("", None);

/// What happens to a structure that exceeds a budget by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oversize {
    /// The stream ends with an error that names it.
    #[default]
    Error,
    /// It is a micro-batch of its own.
    Alone,
    /// It is left out and listed in [`GlobalBatch::skipped`](super::GlobalBatch::skipped).
    Skip,
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
    /// What a micro-batch is.
    pub batch: BatchRule,
    /// Micro-batches of a global batch, whatever the number of ranks.
    pub micro_batches: usize,
    /// Independent parts of the order, a divisor of `micro_batches`; a rank decodes what its lanes need.
    pub lanes: usize,
    /// Row groups of each dataset shuffled together, over all lanes.
    pub window: usize,
    /// Probability with which an edge is left out of the neighbour list (edge dropout).
    pub edge_dropout: f64,
    /// Epochs to yield; the stream ends after them.
    pub epochs: u64,
    /// Whether totals tell atoms that are not held in place apart; costs reading a column.
    pub count_free_atoms: bool,
    /// Threads that decode, build graphs and collate. Not part of the order, as what follows.
    pub workers: usize,
    /// Micro-batches prepared ahead; at least one global batch.
    pub prefetch: usize,
    /// Bytes that decoded row groups and prepared batches may take; unlimited when absent.
    pub memory: Option<u64>,
}

/// More than any of the numbers below needs to be; limits of a budget aside, which are no sizes of anything.
pub(super) const MOST: u64 = 1 << 24;

impl StreamConfig {
    /// The number of lanes with which a rank decodes at most about twice what it uses, on up to `micro_batches` ranks.
    pub fn lanes_for(micro_batches: usize) -> usize {
        if micro_batches > 1 && micro_batches.is_multiple_of(2) { micro_batches / 2 } else { micro_batches }
    }

    /// Row groups of a lane's window.
    pub(super) fn lane_window(&self) -> usize {
        self.window.div_ceil(self.lanes.max(1))
    }

    /// Structures of a global batch, where that is fixed.
    pub(super) fn global_batch(&self) -> Option<u64> {
        match self.batch {
            BatchRule::Structures(size) => Some((size * self.micro_batches) as u64),
            BatchRule::Budget(_) => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), StreamError> {
        if self.datasets.is_empty() {
            return Err(StreamError::NoDatasets);
        }
        if !(0.0..1.0).contains(&self.edge_dropout) {
            return Err(StreamError::EdgeDropout { found: self.edge_dropout });
        }
        self.batch.check()?;
        let sizes = [
            ("micro_batches", self.micro_batches),
            ("lanes", self.lanes),
            ("window", self.window),
            ("workers", self.workers),
            ("prefetch", self.prefetch),
        ];
        let sizes = sizes.map(|(key, size)| (key, size as u64));
        if let Some((key, found)) = sizes.into_iter().find(|&(_, n)| n == 0 || n > MOST) {
            return Err(StreamError::Size { key, found });
        }
        let (lanes, micro_batches) = (self.lanes, self.micro_batches);
        if !micro_batches.is_multiple_of(lanes) {
            return Err(StreamError::Lanes { lanes, micro_batches });
        }
        Ok(())
    }

    /// A cursor must be one that this stream gives.
    pub(super) fn check_cursor(&self, cursor: &Cursor, total: u64) -> Result<(), StreamError> {
        let fits = match self.global_batch() {
            Some(global) => {
                cursor.lanes.is_empty()
                    && cursor.step.checked_mul(global) == Some(cursor.position)
                    && (cursor.position < total || cursor.position == 0)
            }
            None if cursor.lanes.is_empty() => cursor.step == 0 && cursor.position == 0,
            None => {
                let sum = cursor.lanes.iter().try_fold(0u64, |sum, n| sum.checked_add(*n));
                cursor.lanes.len() == self.lanes && sum == Some(cursor.position) && cursor.position < total
            }
        };
        if fits { Ok(()) } else { Err(StreamError::Cursor { found: cursor.clone(), total }) }
    }
}
