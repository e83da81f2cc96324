//! What can be wrong with a stream's configuration.

use super::Cursor;

/// A stream that cannot be made as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A dataset without rows in the chosen split.
    #[error(
        "dataset number {index} of the mix has no rows in its split; take it out of the mix or choose another split"
    )]
    EmptyDataset {
        /// Its place in the list.
        index: usize,
    },
    /// A temperature that means nothing.
    #[error("temperature {found}: expected a number of at least 1, or \"inf\"")]
    Temperature {
        /// What was given.
        found: f64,
    },
    /// A number that must be positive, and not absurd.
    #[error("`{key}` is {found}; expected 1 to 16777216")]
    Size {
        /// Which setting.
        key: &'static str,
        /// What was given.
        found: u64,
    },
    /// No datasets.
    #[error("the mix has no datasets")]
    NoDatasets,
    /// A cursor that the stream never gives.
    #[error(
        "the position (epoch {}, step {}, {} structures, {} lanes) is none of this stream's, whose epochs have {total} structures: \
         datasets, temperature, batch or lanes have changed, or the checkpoint is older than streams with lanes; start a new run \
         from its weights",
        found.epoch, found.step, found.position, found.lanes.len()
    )]
    Cursor {
        /// The cursor.
        found: Cursor,
        /// Structures of the epoch.
        total: u64,
    },
    /// A rank that is not one of the ranks.
    #[error("rank {rank} of {ranks}: expected a rank below the number of ranks")]
    Share {
        /// The rank.
        rank: u32,
        /// All of them.
        ranks: u32,
    },
    /// Lanes that cannot give micro-batches alike.
    #[error(
        "{lanes} lanes for {micro_batches} micro-batches: expected a number of lanes that divides the micro-batches"
    )]
    Lanes {
        /// Lanes.
        lanes: usize,
        /// Micro-batches of a global batch.
        micro_batches: usize,
    },
    /// A budget without limits.
    #[error("a budget without limits: give at least one of max_atoms, max_edges and max_quadruplets")]
    NoBudget,
    /// A structure that exceeds the budget by itself.
    #[error(
        "{dataset}: row {row} has {found} {what}, more than the {limit} that a micro-batch may have; raise the limit, or let \
         `oversize` be \"alone\" or \"skip\""
    )]
    Oversize {
        /// The dataset's directory.
        dataset: String,
        /// The row.
        row: u64,
        /// Atoms, edges or quadruplets.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What the structure has.
        found: u64,
    },
    /// Every structure is left out.
    #[error(
        "no structure of the epoch fits into the budget of a micro-batch, and larger ones are skipped; raise the limits"
    )]
    NothingFits,
    /// Memory that does not hold the windows.
    #[error(
        "`memory` is {} MB, but {lanes} lanes with windows of {window} row groups of each dataset need about {} MB on this rank; \
         give that much, or take a smaller `window` (which changes the order)",
        memory.div_ceil(1_000_000), needed.div_ceil(1_000_000)
    )]
    Memory {
        /// Bytes allowed.
        memory: u64,
        /// Bytes needed.
        needed: u64,
        /// Lanes of this rank.
        lanes: usize,
        /// Row groups of a lane's window.
        window: usize,
    },
    /// A probability outside its range.
    #[error("edge dropout {found}: expected a probability from 0 to below 1")]
    EdgeDropout {
        /// What was given.
        found: f64,
    },
    /// A worker stopped without a result.
    #[error("a loader thread stopped unexpectedly while preparing {what}")]
    Worker {
        /// What it was doing.
        what: &'static str,
    },
    /// Elements without a reference energy.
    #[error(
        "dataset {dataset}: its split `{split}` has {elements}, absent from the linear reference fitted on `{reference}`; \
         fit on a split that has them, give a reference, or leave those structures out"
    )]
    AbsentElements {
        /// The dataset's directory.
        dataset: String,
        /// The split to be streamed.
        split: String,
        /// Symbols of the elements.
        elements: String,
        /// The split of the fit.
        reference: String,
    },
    /// Threads could not be started.
    #[error("cannot start {workers} loader threads: {reason}")]
    Threads {
        /// How many.
        workers: usize,
        /// Why.
        reason: String,
    },
}
