//! Reading shards: a dataset, its row groups, and rows as slices into decoded columns.

mod block;
mod columns;
mod part;
mod row;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use block::Block;
pub use part::Columns;
use part::PartFile;
pub use row::{FloatSlice, RowView, StoredNeighbors};

use crate::error::ShardError;
use crate::layout::Layout;
use crate::manifest::{FILE_NAME, Manifest};
use crate::row_set::RowSet;
use crate::structure::Structure;

/// An open dataset. Footers are decoded when first needed and kept; sharing between threads is free.
#[derive(Debug)]
pub struct Dataset {
    dir: PathBuf,
    manifest: Manifest,
    row_groups: Vec<RowGroup>,
    parts: Vec<OnceLock<Arc<PartFile>>>,
}

/// The unit of reading: consecutive rows of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroup {
    /// Index into the manifest's parts.
    pub part: usize,
    /// Index within the part.
    pub index: usize,
    /// Rows of the dataset that it holds.
    pub rows: Range<u64>,
}

impl Dataset {
    /// Opens a finished dataset. Only the manifest is read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ShardError> {
        let dir = dir.as_ref().to_path_buf();
        let manifest = Manifest::read(&dir)?;
        Ok(Self::assemble(dir, manifest))
    }

    /// A dataset whose manifest is not on disk yet, for the writer's second pass.
    pub(crate) fn assemble(dir: PathBuf, manifest: Manifest) -> Self {
        let row_groups = row_groups(&manifest);
        let parts = manifest.parts.iter().map(|_| OnceLock::new()).collect();
        Self { dir, manifest, row_groups, parts }
    }

    /// The dataset's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The dataset's short name.
    pub fn name(&self) -> &str {
        &self.manifest.dataset.name
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Gives up the files and keeps the manifest.
    pub(crate) fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// The columns' layout.
    pub fn layout(&self) -> &Layout {
        &self.manifest.layout
    }

    /// Rows over all parts.
    pub fn rows(&self) -> u64 {
        self.manifest.rows
    }

    /// All row groups in row order.
    pub fn row_groups(&self) -> &[RowGroup] {
        &self.row_groups
    }

    /// Index of the row group that holds a row.
    pub fn row_group_of(&self, row: u64) -> usize {
        self.row_groups.partition_point(|g| g.rows.end <= row)
    }

    /// The rows of a named split, its file checked against the manifest's hash.
    pub fn split(&self, name: &str) -> Result<RowSet, ShardError> {
        let record = self.manifest.split(&self.dir, name)?;
        let path = self.dir.join(&record.file);
        let bytes = bytes::Bytes::from(std::fs::read(&path).map_err(crate::error::io_error("read", &path))?);
        let found = blake3::hash(&bytes).to_hex().to_string();
        let corrupt = |what: &str, expected: String, found: String| ShardError::Corrupt {
            path: path.clone(),
            what: what.into(),
            expected,
            found,
        };
        if found != record.blake3 {
            return Err(corrupt("BLAKE3", record.blake3.clone(), found));
        }
        let rows = RowSet::decode(bytes, &path)?;
        if rows.end() > self.rows() {
            return Err(corrupt("rows", format!("below {}", self.rows()), format!("row {}", rows.end() - 1)));
        }
        Ok(rows)
    }

    /// Decodes a row group; its bytes are compared with their checksum first.
    pub fn read(&self, group: &RowGroup, columns: Columns) -> Result<Block, ShardError> {
        self.part(group.part)?.read(group, columns)
    }

    /// One structure with all its columns.
    pub fn structure(&self, row: u64) -> Result<Structure, ShardError> {
        let outside = || ShardError::Corrupt {
            path: self.manifest_path(),
            what: "row".into(),
            expected: format!("below {}", self.rows()),
            found: row.to_string(),
        };
        let group = self.row_groups.get(self.row_group_of(row)).ok_or_else(outside)?;
        let block = self.read(group, Columns::all())?;
        Ok(block.row((row - group.rows.start) as usize).to_structure())
    }

    /// The row of an id, by a scan over the id column. `None`: no such id.
    pub fn find(&self, id: &str) -> Result<Option<u64>, ShardError> {
        for group in &self.row_groups {
            let block = self.read(group, Columns::identity())?;
            if let Some(index) = (0..block.rows()).find(|&i| block.row(i).id == id) {
                return Ok(Some(group.rows.start + index as u64));
            }
        }
        Ok(None)
    }

    fn part(&self, index: usize) -> Result<&PartFile, ShardError> {
        let slot = &self.parts[index];
        if let Some(part) = slot.get() {
            return Ok(part);
        }
        let opened = Arc::new(PartFile::open(&self.dir, &self.manifest, index)?);
        Ok(slot.get_or_init(|| opened))
    }

    /// Path of the manifest.
    pub fn manifest_path(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }
}

fn row_groups(manifest: &Manifest) -> Vec<RowGroup> {
    let size = u64::from(manifest.layout.row_group_rows);
    let mut groups = Vec::new();
    let mut first = 0;
    for (part, record) in manifest.parts.iter().enumerate() {
        for (index, start) in (0..record.rows).step_by(size as usize).enumerate() {
            let end = (start + size).min(record.rows);
            groups.push(RowGroup { part, index, rows: first + start..first + end });
        }
        first += record.rows;
    }
    groups
}
