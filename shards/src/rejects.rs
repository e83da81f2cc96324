//! `rejects.parquet`: the structures that were not stored, one row each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};

use crate::error::ShardError;
use crate::side_file::SideFile;
use crate::writer::Reject;

/// Where the list lies.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("rejects.parquet")
}

/// The list while it is written, a unit at a time.
pub(crate) struct RejectList {
    dir: PathBuf,
    file: Option<SideFile>,
}

impl RejectList {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), file: None }
    }

    pub(crate) fn push(&mut self, rejects: &[Reject]) -> Result<(), ShardError> {
        if rejects.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let fields = ["id", "code", "reason"].map(|n| Field::new(n, DataType::Utf8, false)).to_vec();
                none.insert(SideFile::create(path(&self.dir), fields)?)
            }
        };
        let column = |get: fn(&Reject) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rejects.iter().map(get)))
        };
        file.write(vec![column(|r| &r.id), column(|r| &r.code), column(|r| &r.reason)])
    }

    /// The list's BLAKE3; `None` when there is nothing to list.
    pub(crate) fn finish(self) -> Result<Option<String>, ShardError> {
        self.file.map(SideFile::finish).transpose()
    }
}
