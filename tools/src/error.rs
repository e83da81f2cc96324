//! What can keep a report from being made.

use std::io;
use std::path::{Path, PathBuf};

use polars::error::PolarsError;
use shards::ShardError;

/// Every error of this crate. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A dataset cannot be read.
    #[error("{source}{}", advice(source))]
    Dataset {
        /// What the shards say.
        source: ShardError,
    },
    /// A Parquet file is not as the manifest says.
    #[error("{}: expected {expected}, found {found}; `jmp-ingest verify {}` lists all damage", path.display(), dir.display())]
    Damaged {
        /// The dataset.
        dir: PathBuf,
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Polars cannot read the columns.
    #[error("{}: cannot read {what}: {source}; `jmp-ingest verify {}` lists all damage", dir.display(), dir.display())]
    Columns {
        /// The dataset.
        dir: PathBuf,
        /// Which columns.
        what: String,
        /// What polars says.
        source: PolarsError,
    },
    /// A structure has no graph.
    #[error("{}: structure {id}: {problem}; `jmp-ingest explain {} {id}` shows it", dir.display(), dir.display())]
    Structure {
        /// The dataset.
        dir: PathBuf,
        /// The structure.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A directory is not one of a run.
    #[error("{} holds no metrics.jsonl: it is not the directory of a jmp-train run (`run.dir` in its config)", dir.display())]
    NotARun {
        /// The directory.
        dir: PathBuf,
    },
    /// A file of a run has nothing that can be understood.
    #[error("{}: {problem}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// What is built into the program cannot be parsed.
    #[error("built-in {what}: {problem}; this is a fault of the program")]
    BuiltIn {
        /// The file it comes from.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A question was asked that the data cannot answer.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused a file operation on the input.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The operating system refused to write the report.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl ReportError {
    /// Whether the input is to blame, rather than the machine.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::BuiltIn { .. })
    }

    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Write { path, source }
    }

    pub(crate) fn columns(dir: &Path, what: &str) -> impl FnOnce(PolarsError) -> Self {
        let (dir, what) = (dir.to_path_buf(), what.to_string());
        move |source| Self::Columns { dir, what, source }
    }
}

impl From<ShardError> for ReportError {
    fn from(source: ShardError) -> Self {
        Self::Dataset { source }
    }
}

/// What to do about a fault in the shards, where the fault does not say it itself.
fn advice(source: &ShardError) -> &'static str {
    match source {
        ShardError::Corrupt { .. } => {
            "; the dataset is damaged: `jmp-ingest verify DIR` lists what is, `jmp-ingest convert` makes it anew"
        }
        _ => "",
    }
}
