//! Some columns of a row group without the rest of it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

use super::files::{Files, Pieces};
use super::part::PartFile;
use super::parts::Parts;
use super::{Block, Columns, Dataset, RowGroup};
use crate::error::{ShardError, io_error};
use crate::remote::{Check, RemoteDir, Request, Wanted};

/// At a URL, columns that are not less than this share of their row group are fetched with all of it.
const SMALL: u64 = 4;
/// At a URL, ranges closer than this are fetched as one.
const NEAR: u64 = 64 << 10;

impl Dataset {
    /// Decodes some columns of a row group and reads no others where that saves something. The row group's checksum is of all
    /// its bytes and cannot be looked at; what was read is compared when the whole row group is.
    pub fn read_columns(&self, group: &RowGroup, columns: Columns) -> Result<Block, ShardError> {
        self.part(group)?.read_columns(&self.files, &self.parts, group, columns)
    }

    /// Bytes that the decoded footer of a row group's part takes.
    pub(crate) fn footer_bytes(&self, group: &RowGroup) -> Result<usize, ShardError> {
        Ok(self.part(group)?.footer_bytes())
    }

    /// Bytes of a row group as stored.
    pub fn stored_bytes(&self, group: &RowGroup) -> Result<u64, ShardError> {
        let range = self.part(group)?.byte_range(group);
        Ok(range.end - range.start)
    }

    /// Bytes of a row group's columns decompressed, which is about what they take when decoded.
    pub fn decoded_bytes(&self, group: &RowGroup, columns: Columns) -> Result<u64, ShardError> {
        let part = self.part(group)?;
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
    fn read_columns(
        &self,
        files: &Files,
        parts: &Parts,
        group: &RowGroup,
        columns: Columns,
    ) -> Result<Block, ShardError> {
        let (pieces, request) = match files {
            Files::Local(_) => (self.read_ranges(&self.ranges(group, columns, 0))?, None),
            Files::Remote(dir) => match self.request_alone(dir, group, columns) {
                Some((request, ranges)) => (Pieces::cut(&ranges, &dir.object(&request)?), Some(request)),
                None => return self.read(files, parts, group, columns),
            },
        };
        let decoded = self.decode(pieces.clone(), group, columns);
        match (decoded, files, request) {
            (Err(_), Files::Remote(dir), Some(request)) => {
                // Bytes that no hash tells apart were wrong: those of the whole row group will be right, or told.
                dir.forget(&request);
                self.read(files, parts, group, columns)
            }
            (Ok(_), ..) if !parts.note_alone(group, columns, pieces.digest()) => Err(self.changed(group)),
            (decoded, ..) => decoded,
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

    /// Fetches columns of a row group into the cache, or all of it where they are most of it.
    pub(super) fn fetch_columns_ahead(&self, dir: &RemoteDir, group: &RowGroup, columns: Columns) {
        match self.request_alone(dir, group, columns) {
            // What goes wrong goes wrong again, and is told, when it is read.
            Some((request, _)) if !dir.has(&request) => drop(dir.object(&request)),
            Some(_) => {}
            None => self.fetch_ahead(dir, group),
        }
    }

    /// How columns are fetched alone; `None` where the whole row group is at hand or hardly more.
    fn request_alone(&self, dir: &RemoteDir, group: &RowGroup, columns: Columns) -> Option<ColumnRequest> {
        let (whole, _) = self.whole(group);
        self.column_request(group, columns).filter(|_| !dir.has(&whole))
    }

    /// Compares columns that were read alone with the whole row group, whose checksum is right.
    pub(super) fn compare_alone(
        &self,
        files: &Files,
        parts: &Parts,
        group: &RowGroup,
        whole: &Pieces,
    ) -> Result<(), ShardError> {
        let mut wrong = false;
        for (columns, digest) in parts.take_alone(group) {
            let near = if matches!(files, Files::Local(_)) { 0 } else { NEAR };
            if whole.within(&self.ranges(group, columns, near)).map(|pieces| pieces.digest()) == Some(digest)
            {
                continue;
            }
            wrong = true;
            if let (Files::Remote(dir), Some((request, _))) = (files, self.column_request(group, columns)) {
                dir.forget(&request);
            }
        }
        if wrong { Err(self.changed(group)) } else { Ok(()) }
    }

    fn changed(&self, group: &RowGroup) -> ShardError {
        ShardError::Corrupt {
            path: self.path.clone(),
            what: format!("columns of row group {} as read before", group.index),
            expected: "those of the whole row group".into(),
            found: "others; batches may have been planned by them: run again".into(),
        }
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
