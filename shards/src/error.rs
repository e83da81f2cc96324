//! What can go wrong with shards, told so that a person can act on it.

use std::io;
use std::path::{Path, PathBuf};

/// Every error of this crate. Each names the file and, where there is one, the row or key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A Parquet file could not be written or decoded.
    #[error("cannot {action} {}: {source}", path.display())]
    Parquet {
        /// What was tried, as a verb.
        action: &'static str,
        /// The Parquet file.
        path: PathBuf,
        /// The decoder's reason.
        source: parquet::errors::ParquetError,
    },
    /// Columns could not be assembled.
    #[error("cannot assemble columns of {}: {source}", path.display())]
    Arrow {
        /// The Parquet file they belong to.
        path: PathBuf,
        /// Arrow's reason.
        source: arrow::error::ArrowError,
    },
    /// The directory holds no finished dataset.
    #[error(
        "{} is not a finished dataset: there is no manifest.json in it (an interrupted `jmp-ingest convert` is finished with --resume)",
        dir.display()
    )]
    NoManifest {
        /// The directory looked into.
        dir: PathBuf,
    },
    /// The directory holds one partition of a dataset.
    #[error(
        "{} holds one partition of a dataset; put all of them together with: jmp-ingest merge OUT IN…",
        dir.display()
    )]
    Partition {
        /// The directory looked into.
        dir: PathBuf,
    },
    /// A URL that does not say where a dataset is, or may not be used.
    #[error("{url}: {problem}")]
    Location {
        /// The URL, without a password.
        url: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A file that the manifest names is not on the server.
    #[error("{}: there is no such file on the server; was the dataset copied in full?", path.display())]
    NoObject {
        /// Its URL.
        path: PathBuf,
    },
    /// Bytes could not be brought from a server.
    #[error("cannot download {} ({what}): {reason}", path.display())]
    Download {
        /// The file's URL.
        path: PathBuf,
        /// Which part of it.
        what: String,
        /// What the server or the network said.
        reason: String,
        /// Whether it may help to try again later.
        passing: bool,
    },
    /// The threads that talk to servers could not be started.
    #[error("cannot start the threads for downloads: {reason}")]
    Runtime {
        /// The system's reason.
        reason: String,
    },
    /// Several rows have one id.
    #[error(
        "{}: {count} rows have the id of an earlier row, such as `{id}` in rows {first} and {second}: is a file given twice? \
         (--allow-duplicate-ids counts and lists them instead)",
        dir.display()
    )]
    DuplicateId {
        /// The dataset.
        dir: PathBuf,
        /// Rows with the id of an earlier one.
        count: u64,
        /// The id of the first of them.
        id: String,
        /// The earlier row.
        first: u64,
        /// The later row.
        second: u64,
    },
    /// A file contradicts its own description.
    #[error("{}: {what}: expected {expected}, found {found}", path.display())]
    Corrupt {
        /// The file at fault.
        path: PathBuf,
        /// Which part of it.
        what: String,
        /// What the manifest or the format says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A structure breaks a rule of the format and cannot be stored.
    #[error("structure `{id}`: {fault}")]
    Structure {
        /// The structure's id.
        id: String,
        /// The broken rule.
        fault: crate::structure::Fault,
    },
    /// The graph of a structure cannot be built.
    #[error("structure `{id}`: {source}")]
    Graph {
        /// The structure's id.
        id: String,
        /// The geometry's fault.
        source: crate::graph::GraphError,
    },
    /// A neighbour lies more cells away than the stored list can say.
    #[error(
        "structure `{id}`: a neighbour is more than 511 cells away along some direction; wrap the positions into the cell, \
         or convert with --neighbors none"
    )]
    FarNeighbor {
        /// The structure's id.
        id: String,
    },
    /// A split is asked for that the dataset does not have.
    #[error("{} has no split `{name}`; it has {}", dir.display(), known.join(", "))]
    UnknownSplit {
        /// The dataset.
        dir: PathBuf,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A label is asked for that the dataset does not have.
    #[error("{} has no label `{label}`; it has {}", dir.display(), known.join(", "))]
    UnknownLabel {
        /// The dataset.
        dir: PathBuf,
        /// The label asked for.
        label: String,
        /// The labels there are.
        known: Vec<String>,
    },
    /// A label is asked for that no structure of the split has.
    #[error("{}: no structure of split `{split}` has the label `{label}`", dir.display())]
    NoLabel {
        /// The dataset.
        dir: PathBuf,
        /// The split.
        split: String,
        /// The label.
        label: String,
    },
    /// A split cannot be made as asked.
    #[error("split `{name}`: {problem}")]
    BadSplit {
        /// The split's name.
        name: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The output directory is in use by something else.
    #[error("{}: {problem}", dir.display())]
    Output {
        /// The directory.
        dir: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An element has no reference energy.
    #[error(
        "element {symbol} (Z = {atomic_number}) is absent from the linear reference `{split}`: its energy has no zero; \
         fit on a split that has the element, or give a reference that has it"
    )]
    AbsentElement {
        /// Chemical symbol.
        symbol: &'static str,
        /// Atomic number.
        atomic_number: u8,
        /// The split or file whose reference lacks it.
        split: String,
    },
    /// The stream was asked for something it cannot do.
    #[error(transparent)]
    Stream(#[from] crate::stream::StreamError),
}

/// Wraps an [`io::Error`] with what was tried on which path.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShardError {
    let path = path.to_path_buf();
    move |source| ShardError::Io { action, path, source }
}

/// Wraps a Parquet error likewise.
pub(crate) fn parquet_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(parquet::errors::ParquetError) -> ShardError {
    let path = path.to_path_buf();
    move |source| ShardError::Parquet { action, path, source }
}
