//! What can be wrong with a stream's configuration.

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
    /// A number that must be positive.
    #[error("`{key}` is 0; expected at least 1")]
    Zero {
        /// Which setting.
        key: &'static str,
    },
    /// No datasets.
    #[error("the mix has no datasets")]
    NoDatasets,
    /// A cursor beyond the epoch's end.
    #[error(
        "position {position} is beyond the epoch's {total} structures: the cursor belongs to another mix"
    )]
    Cursor {
        /// The cursor's position.
        position: u64,
        /// Structures of the epoch.
        total: u64,
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
