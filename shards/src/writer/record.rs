use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checks::{ConsistencySums, Suspect};
use crate::error::{ShardError, io_error};
use crate::manifest::{PartRecord, SourceFile, write_durably};

/// A structure that was not stored, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Its id, or where it lies in the source.
    pub id: String,
    /// Short name that rejects are counted by.
    pub code: String,
    /// What was wrong.
    pub reason: String,
}

/// A source file that a unit was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFile {
    /// As the manifest tells it.
    pub file: SourceFile,
    /// When it was last changed, nanoseconds since 1970: a file of the same size and time is taken for the same.
    pub modified: u64,
}

/// What a finished unit left behind; also the mark by which a resumed conversion knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitRecord {
    /// The Parquet file; `None` when every structure was rejected.
    pub part: Option<PartRecord>,
    /// Structures not stored.
    pub rejects: Vec<Reject>,
    /// How many of them count against the limit of rejects.
    pub unusable: u64,
    /// Source files read for it.
    pub sources: Vec<ReadFile>,
    /// Suspicious structures by check.
    pub suspicions: BTreeMap<String, u64>,
    /// The first of them for each check; rows are those of the part.
    pub suspects: Vec<Suspect>,
    pub(super) consistency: ConsistencySums,
}

impl UnitRecord {
    /// Reads a record; `None` where there is none, or a damaged one.
    pub(super) fn read(progress: &Path, unit: u32) -> Result<Option<Self>, ShardError> {
        let path = record_path(progress, unit);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("read", &path)(e)),
        }
    }

    pub(super) fn write(&self, progress: &Path, unit: u32) -> Result<(), ShardError> {
        let path = record_path(progress, unit);
        let failed =
            |e: serde_json::Error| ShardError::Io { action: "write", path: path.clone(), source: e.into() };
        let text = serde_json::to_string(self).map_err(failed)?;
        write_durably(&path, text.as_bytes())
    }

    /// Rows stored.
    pub fn rows(&self) -> u64 {
        self.part.as_ref().map_or(0, |p| p.rows)
    }
}

pub(super) fn record_path(progress: &Path, unit: u32) -> PathBuf {
    progress.join(format!("unit-{unit:05}.json"))
}

/// The file of a unit's row keys.
pub(super) fn keys_path(progress: &Path, unit: u32) -> PathBuf {
    progress.join(format!("unit-{unit:05}.keys"))
}
