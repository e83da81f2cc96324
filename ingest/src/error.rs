//! What can be wrong with a source, told so that a person can act on it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::array::ArrayError;
use crate::json_stream::JsonError;
use crate::lmdb::LmdbError;
use crate::npz::NpzError;
use crate::packed::is_damage;
use crate::pickle::PickleError;

/// Every error of this crate. Each names the file and, where there is one, the key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IngestError {
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
    /// The input is not what the dataset's format needs.
    #[error("{}: {problem}", path.display())]
    Input {
        /// The file or directory given.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An LMDB file cannot be read.
    #[error("{}: {source}", path.display())]
    Lmdb {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: LmdbError,
    },
    /// A pickled value is refused.
    #[error("{}: key `{key}`: {source}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// The key of the value in it.
        key: String,
        /// What is wrong.
        source: Box<PickleError>,
    },
    /// An HDF5 file, or an object in it, cannot be read.
    #[error("{}: `{object}`: {problem}", path.display())]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// Path of the group or dataset in it.
        object: String,
        /// What is wrong.
        problem: String,
    },
    /// An npz file, or an array in it, cannot be read.
    #[error("{}: {source}", path.display())]
    Npz {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<NpzError>,
    },
    /// A JSON document cannot be read.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: JsonError,
    },
    /// A part that the format promises is missing.
    #[error("{}: {place}: no `{key}`; there is {}", path.display(), list(known))]
    Missing {
        /// The file.
        path: PathBuf,
        /// Where in the file, for example a key or group.
        place: String,
        /// What is missing.
        key: String,
        /// What is there.
        known: Vec<String>,
    },
    /// A part has another shape or type than the format promises.
    #[error("{}: {place}: `{key}`: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        place: Box<str>,
        /// Which part.
        key: Box<str>,
        /// What the format promises.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// More structures were refused than allowed.
    #[error(
        "{}: structure `{id}` cannot be stored: {reason} (--max-rejects {limit} is used up; allow more to leave such structures out)",
        path.display()
    )]
    TooManyRejects {
        /// The source unit.
        path: PathBuf,
        /// The structure that was one too many.
        id: String,
        /// What is wrong with it.
        reason: String,
        /// How many were allowed.
        limit: u64,
    },
    /// Writing or reading shards failed.
    #[error(transparent)]
    Shards(#[from] shards::ShardError),
}

impl IngestError {
    /// Whether the input or the call is at fault, as opposed to the machine: decides the exit code.
    pub fn is_bad_input(&self) -> bool {
        use shards::ShardError as S;
        match self {
            Self::Io { source, .. } => is_damage(source),
            Self::Lmdb { source: LmdbError::Io { source, .. }, .. } => {
                source.kind() == io::ErrorKind::NotFound
            }
            Self::Json { source, .. } => source.is_bad_input(),
            Self::Interrupted => false,
            Self::Shards(error) => !matches!(error, S::Io { .. } | S::Parquet { .. } | S::Arrow { .. }),
            _ => true,
        }
    }
}

fn list(known: &[String]) -> String {
    const SHOWN: usize = 12;
    match known.len() {
        0 => "nothing".to_owned(),
        n if n <= SHOWN => known.join(", "),
        n => format!("{} and {} more", known[..SHOWN].join(", "), n - SHOWN),
    }
}

/// Wraps an [`io::Error`] with what was tried on which path.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IngestError {
    let path = path.to_path_buf();
    move |source| IngestError::Io { action, path, source }
}

/// An [`IngestError::Input`].
pub(crate) fn input_error(path: &Path, problem: impl Into<String>) -> IngestError {
    IngestError::Input { path: path.to_path_buf(), problem: problem.into() }
}

/// Wraps an [`ArrayError`] with where it happened.
pub(crate) fn array_error(path: &Path, place: &str, key: &str) -> impl FnOnce(ArrayError) -> IngestError {
    let (path, place, key) = (path.to_path_buf(), place.into(), key.into());
    move |error| IngestError::Malformed {
        path,
        place,
        key,
        expected: "numbers that fit".to_owned(),
        found: error.to_string(),
    }
}

/// Wraps a [`JsonError`] with its file.
pub(crate) fn json_error(path: &Path) -> impl Fn(JsonError) -> IngestError {
    let path = path.to_path_buf();
    move |source| IngestError::Json { path: path.clone(), source }
}
