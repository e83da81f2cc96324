//! Reading shards: a dataset, its row groups, and rows as slices into decoded columns.

mod block;
mod chunks;
mod columns;
mod files;
mod part;
mod parts;
mod row;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use block::Block;
use files::Files;
pub use part::Columns;
use part::PartFile;
pub(crate) use parts::FOOTERS;
use parts::Parts;
pub use row::{FloatSlice, RowView, StoredNeighbors};

use crate::error::ShardError;
use crate::layout::Layout;
use crate::manifest::Manifest;
use crate::remote::{Location, Remote, RemoteDir};
use crate::row_set::RowSet;
use crate::structure::Structure;

/// An open dataset. Footers are decoded when first needed, and those used last are kept; sharing between threads is free.
#[derive(Debug)]
pub struct Dataset {
    dir: PathBuf,
    files: Files,
    manifest: Arc<Manifest>,
    row_groups: Vec<RowGroup>,
    parts: Arc<Parts>,
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
    /// Opens a finished dataset, a directory or a URL ([`Location::parse`]). Only the manifest is read.
    ///
    /// # Errors
    /// When there is no dataset, its manifest is not to be trusted, or it cannot be reached.
    pub fn open(location: impl AsRef<Path>) -> Result<Self, ShardError> {
        Self::open_through(location.as_ref(), Remote::installed)
    }

    /// As [`Dataset::open`], with settings and a cache of its own for URLs.
    ///
    /// # Errors
    /// Likewise.
    pub fn open_with(location: impl AsRef<Path>, remote: &Arc<Remote>) -> Result<Self, ShardError> {
        Self::open_through(location.as_ref(), || Ok(remote.clone()))
    }

    fn open_through(
        location: &Path,
        remote: impl FnOnce() -> Result<Arc<Remote>, ShardError>,
    ) -> Result<Self, ShardError> {
        let files = Files::open(Location::parse(location)?, remote)?;
        let manifest = files.manifest()?;
        Ok(Self::over(location.to_path_buf(), files, manifest))
    }

    /// A dataset whose manifest is not on disk yet, for the writer's second pass.
    pub(crate) fn assemble(dir: PathBuf, manifest: Manifest) -> Self {
        Self::over(dir.clone(), Files::Local(dir), manifest)
    }

    fn over(dir: PathBuf, files: Files, manifest: Manifest) -> Self {
        let row_groups = row_groups(&manifest);
        Self { dir, files, manifest: Arc::new(manifest), row_groups, parts: Arc::default() }
    }

    /// The dataset's directory or URL as it was given.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The dataset's directory, for what reads or writes files by itself.
    ///
    /// # Errors
    /// When the dataset lies at a URL.
    pub fn directory(&self) -> Result<PathBuf, ShardError> {
        Location::parse(&self.dir)?.directory().map(Path::to_path_buf)
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
        Arc::unwrap_or_clone(self.manifest)
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
        let path = self.files.path(&record.file);
        let rows = RowSet::decode(self.files.split(record)?, &path)?;
        if rows.end() > self.rows() {
            return Err(ShardError::Corrupt {
                path,
                what: "rows".into(),
                expected: format!("below {}", self.rows()),
                found: format!("row {}", rows.end() - 1),
            });
        }
        Ok(rows)
    }

    /// Decodes a row group; its bytes are compared with their checksum first.
    pub fn read(&self, group: &RowGroup, columns: Columns) -> Result<Block, ShardError> {
        self.part(group)?.read(&self.files, &self.parts, group, columns)
    }

    fn part(&self, group: &RowGroup) -> Result<Arc<PartFile>, ShardError> {
        self.parts.get(&self.files, &self.manifest, group.part)
    }

    /// Whether reading a row group asks no server.
    pub(crate) fn is_at_hand(&self, group: &RowGroup) -> bool {
        match &self.files {
            Files::Local(_) => true,
            Files::Remote(dir) => self.part(group).is_ok_and(|part| dir.has(&part.whole(group).0)),
        }
    }

    /// Fetches a row group into the cache in the background, for a [`Dataset::read`] soon to come. Nothing happens where the
    /// dataset is local. What cannot be fetched is told by the read.
    pub fn prefetch(&self, group: &RowGroup) {
        self.ahead(group, PartFile::fetch_ahead);
    }

    /// Likewise for a [`Dataset::read_columns`].
    pub fn prefetch_columns(&self, group: &RowGroup, columns: Columns) {
        self.ahead(group, move |part, dir, group| part.fetch_columns_ahead(dir, group, columns));
    }

    fn ahead(&self, group: &RowGroup, fetch: impl FnOnce(&PartFile, &RemoteDir, &RowGroup) + Send + 'static) {
        let Files::Remote(dir) = &self.files else { return };
        let (parts, manifest, group) = (self.parts.clone(), self.manifest.clone(), group.clone());
        dir.ahead(move |dir| {
            if let Ok(part) = parts.get(&Files::Remote(dir.clone()), &manifest, group.part) {
                fetch(&part, dir, &group);
            }
        });
    }

    /// Lets reads that wait for a server end with an error, now and later; for a program that stops.
    pub fn cancel(&self) {
        if let Files::Remote(dir) = &self.files {
            dir.cancel();
        }
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

    /// Path or URL of the manifest.
    pub fn manifest_path(&self) -> PathBuf {
        self.files.manifest_path()
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
