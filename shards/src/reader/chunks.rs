//! Some columns of a row group without the rest of it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::PoisonError;

use bytes::Bytes;

use super::files::{Files, Pieces};
use super::part::PartFile;
use super::{Block, Columns, Dataset, RowGroup, part};
use crate::error::{ShardError, io_error};
use crate::remote::{Check, RemoteDir, Request, Wanted};

/// At a URL, columns that are not less than this share of their row group are fetched with all of it.
const SMALL: u64 = 4;
/// At a URL, ranges closer than this are fetched as one.
const NEAR: u64 = 64 << 10;

impl Dataset {
    /// Decodes some columns of a row group and reads no others where that saves something. The row group's checksum is of all
    /// its bytes and cannot be looked at; columns that came from a URL are compared when the whole row group does.
    pub fn read_columns(&self, group: &RowGroup, columns: Columns) -> Result<Block, ShardError> {
        part(&self.parts, &self.files, &self.manifest, group.part)?.read_columns(&self.files, group, columns)
    }

    /// Bytes of a row group as stored.
    pub fn stored_bytes(&self, group: &RowGroup) -> Result<u64, ShardError> {
        let range = part(&self.parts, &self.files, &self.manifest, group.part)?.byte_range(group);
        Ok(range.end - range.start)
    }

    /// Bytes of a row group's columns decompressed, which is about what they take when decoded.
    pub fn decoded_bytes(&self, group: &RowGroup, columns: Columns) -> Result<u64, ShardError> {
        let part = part(&self.parts, &self.files, &self.manifest, group.part)?;
        let chunks = part.footer.metadata().row_group(group.index).columns();
        let wanted = chunks.iter().filter(|c| {
            let name = c.column_path().parts().first();
            name.is_some_and(|name| columns.wants(name))
        });
        Ok(wanted.map(|c| c.uncompressed_size().max(0) as u64).sum())
    }
}

/// What fetches some columns, and the ranges of the file that they lie in.
type ColumnRequest = (Request, Vec<Range<u64>>);

impl PartFile {
    fn read_columns(&self, files: &Files, group: &RowGroup, columns: Columns) -> Result<Block, ShardError> {
        let dir = match files {
            Files::Local(_) => {
                return self.decode(self.read_ranges(&self.ranges(group, columns, 0))?, group, columns);
            }
            Files::Remote(dir) => dir,
        };
        let decoded = self.decode(self.fetch_columns(dir, group, columns)?, group, columns);
        match (decoded, self.column_request(group, columns)) {
            (Err(_), Some((request, _))) => {
                // Bytes that no hash tells apart were wrong: those of the whole row group will be right, or told.
                dir.forget(&request);
                self.read(files, group, columns)
            }
            (decoded, _) => decoded,
        }
    }

    fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Pieces, ShardError> {
        let file = File::open(&self.path).map_err(io_error("open", &self.path))?;
        let read = |range: &Range<u64>| {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).map_err(io_error("read", &self.path))?;
            Ok((range.start, Bytes::from(bytes)))
        };
        Ok(Pieces(ranges.iter().map(read).collect::<Result<_, ShardError>>()?))
    }

    /// Columns of a row group at a URL.
    pub(super) fn fetch_columns(
        &self,
        dir: &RemoteDir,
        group: &RowGroup,
        columns: Columns,
    ) -> Result<Pieces, ShardError> {
        let (whole, _) = self.whole(group);
        let request = self.column_request(group, columns).filter(|_| !dir.has(&whole));
        let Some((request, ranges)) = request else { return self.fetch(dir, group) };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(columns);
        Ok(Pieces::cut(&ranges, &dir.object(&request)?))
    }

    /// What the cache has of a row group's columns without the rest of it.
    pub(super) fn fetched_columns(&self, dir: &RemoteDir, group: &RowGroup) -> Vec<(Request, Pieces)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let requests = asked.into_iter().filter_map(|columns| self.column_request(group, columns));
        let fetched = |(request, ranges): ColumnRequest| {
            let pieces = Pieces::cut(&ranges, &dir.cached(&request)?);
            Some((request, pieces))
        };
        requests.filter_map(fetched).collect()
    }

    /// Compares columns that were fetched alone with the whole row group, whose checksum is right.
    pub(super) fn compare_columns(
        &self,
        dir: &RemoteDir,
        group: &RowGroup,
        fetched: &[(Request, Pieces)],
        start: u64,
        whole: &[u8],
    ) -> Result<(), ShardError> {
        let wrong = fetched.iter().filter(|(_, pieces)| !pieces.agree(start, whole));
        if wrong.map(|(request, _)| dir.forget(request)).count() == 0 {
            return Ok(());
        }
        Err(ShardError::Corrupt {
            path: self.path.clone(),
            what: format!("columns of row group {} as fetched before", group.index),
            expected: "those of the whole row group".into(),
            found: "others; batches may have been planned by them: run again".into(),
        })
    }

    /// `None` where the columns are most of the row group.
    fn column_request(&self, group: &RowGroup, columns: Columns) -> Option<ColumnRequest> {
        let ranges = self.ranges(group, columns, NEAR);
        let all = self.byte_range(group);
        let total: u64 = ranges.iter().map(|r| r.end - r.start).sum();
        if total.saturating_mul(SMALL) > all.end - all.start {
            return None;
        }
        let (index, kinds) = (group.index.to_string(), columns.0.to_string());
        let identity = ["columns", &self.blake3, &index, &kinds];
        let what = format!("columns of row group {}", group.index);
        let request =
            Request::new(&self.file, what, Wanted::Ranges(ranges.clone()), Check::Length, &identity);
        Some((request, ranges))
    }

    /// Where columns lie in the file, those at most `near` apart as one range, ascending.
    fn ranges(&self, group: &RowGroup, columns: Columns, near: u64) -> Vec<Range<u64>> {
        let chunks = self.footer.metadata().row_group(group.index).columns().iter();
        let mut chunks: Vec<Range<u64>> = chunks
            .filter(|c| c.column_path().parts().first().is_some_and(|name| columns.wants(name)))
            .map(parquet::file::metadata::ColumnChunkMetaData::byte_range)
            .map(|(start, length)| start..start + length)
            .collect();
        chunks.sort_by_key(|chunk| chunk.start);
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for chunk in chunks {
            match ranges.last_mut() {
                Some(last) if chunk.start <= last.end + near => last.end = last.end.max(chunk.end),
                _ => ranges.push(chunk),
            }
        }
        ranges
    }
}
