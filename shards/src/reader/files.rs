//! Where a dataset's bytes come from: a directory or a URL. What is handed out has been compared with its hash.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::parts::Digest;
use crate::error::{ShardError, io_error};
use crate::manifest::{FILE_NAME, Manifest, PartRecord};
use crate::remote::{Check, Location, Remote, RemoteDir, Request, Wanted};
use crate::splits::SplitRecord;

/// The files of a dataset.
#[derive(Debug, Clone)]
pub(super) enum Files {
    Local(PathBuf),
    Remote(Arc<RemoteDir>),
}

impl Files {
    pub(super) fn open(
        location: Location,
        remote: impl FnOnce() -> Result<Arc<Remote>, ShardError>,
    ) -> Result<Self, ShardError> {
        match location {
            Location::Local(dir) => Ok(Self::Local(dir)),
            Location::Remote(url) => Ok(Self::Remote(Arc::new(RemoteDir::new(url, remote()?)?))),
        }
    }

    pub(super) fn manifest(&self) -> Result<Manifest, ShardError> {
        match self {
            Self::Local(dir) => Manifest::read(dir),
            Self::Remote(dir) => dir.manifest(),
        }
    }

    /// Path or URL of a file, for messages.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        match self {
            Self::Local(dir) => dir.join(file),
            Self::Remote(dir) => dir.path(file),
        }
    }

    pub(super) fn manifest_path(&self) -> PathBuf {
        self.path(FILE_NAME)
    }

    /// The file of a split.
    pub(super) fn split(&self, record: &SplitRecord) -> Result<Bytes, ShardError> {
        match self {
            Self::Local(dir) => {
                let path = dir.join(&record.file);
                let bytes = Bytes::from(std::fs::read(&path).map_err(io_error("read", &path))?);
                compare(&bytes, &record.blake3, &path, "BLAKE3")?;
                Ok(bytes)
            }
            Self::Remote(dir) => {
                let hash = &record.blake3;
                let check = Check::Content(hash.clone());
                dir.object(&Request::new(&record.file, "row ranges", Wanted::Whole, check, &["file", hash]))
            }
        }
    }

    /// The footer of a part, from its start to the file's end.
    pub(super) fn footer(&self, record: &PartRecord) -> Result<Pieces, ShardError> {
        let start = record.footer_start;
        let bytes = match self {
            Self::Local(dir) => local_footer(&dir.join(part_file(record)), record)?,
            Self::Remote(dir) => {
                let end = record.bytes;
                let (hash, wanted) =
                    (&record.footer_blake3, Wanted::Ranges(std::iter::once(start..end).collect()));
                let check = Check::Content(hash.clone());
                dir.object(&Request::new(part_file(record), "footer", wanted, check, &["file", hash]))?
            }
        };
        Ok(Pieces(vec![(start, bytes)]))
    }
}

/// A part's file below the dataset's directory or URL.
pub(super) fn part_file(record: &PartRecord) -> String {
    format!("data/{}", record.file)
}

fn local_footer(path: &Path, record: &PartRecord) -> Result<Bytes, ShardError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    let found = file.metadata().map_err(io_error("inspect", path))?.len();
    if found != record.bytes {
        return Err(ShardError::Corrupt {
            path: path.to_path_buf(),
            what: "size in bytes".into(),
            expected: record.bytes.to_string(),
            found: found.to_string(),
        });
    }
    let mut footer = vec![0; record.bytes.saturating_sub(record.footer_start) as usize];
    file.read_exact_at(&mut footer, record.footer_start).map_err(io_error("read", path))?;
    compare(&footer, &record.footer_blake3, path, "BLAKE3 of the footer")?;
    Ok(footer.into())
}

/// Bytes of a local file, compared with their short checksum.
pub(super) fn local_range(
    path: &Path,
    range: Range<u64>,
    checksum: &str,
    what: &str,
) -> Result<Bytes, ShardError> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    // Opened for each read: a dataset may have more parts than a process may have open files.
    let file = File::open(path).map_err(io_error("open", path))?;
    file.read_exact_at(&mut bytes, range.start).map_err(io_error("read", path))?;
    compare(&bytes, checksum, path, &format!("checksum of {what}"))?;
    Ok(bytes.into())
}

/// `expected` is a BLAKE3 or the beginning of one.
fn compare(bytes: &[u8], expected: &str, path: &Path, what: &str) -> Result<(), ShardError> {
    let found = blake3::hash(bytes).to_hex();
    let found = &found[..expected.len().min(found.len())];
    if found == expected {
        return Ok(());
    }
    let (what, expected, found) = (what.to_owned(), expected.to_owned(), found.to_owned());
    Err(ShardError::Corrupt { path: path.to_path_buf(), what, expected, found })
}

/// Some ranges of a file, addressed by their place in it; ascending and apart.
#[derive(Debug, Clone)]
pub(super) struct Pieces(pub(super) Vec<(u64, Bytes)>);

impl Pieces {
    /// Cuts what was fetched for several ranges.
    pub(super) fn cut(ranges: &[Range<u64>], bytes: &Bytes) -> Self {
        let mut from = 0;
        let cut = |range: &Range<u64>| {
            let to = from + (range.end - range.start) as usize;
            let piece = bytes.slice(from..to);
            from = to;
            (range.start, piece)
        };
        Self(ranges.iter().map(cut).collect())
    }

    /// The pieces of some ranges; `None` where these do not hold them.
    pub(super) fn within(&self, ranges: &[Range<u64>]) -> Option<Self> {
        let piece = |range: &Range<u64>| {
            let length = usize::try_from(range.end - range.start).ok()?;
            Some((range.start, self.get_bytes(range.start, length).ok()?))
        };
        ranges.iter().map(piece).collect::<Option<_>>().map(Self)
    }

    /// A hash of the bytes, wherever they lie.
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        self.0.iter().for_each(|(_, piece)| {
            hasher.update(piece);
        });
        let mut digest = Digest::default();
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..std::mem::size_of::<Digest>()]);
        digest
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.0.last().map_or(0, |(start, bytes)| start + bytes.len() as u64)
    }
}

impl ChunkReader for Pieces {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let end = self.0.iter().map(|(at, bytes)| at + bytes.len() as u64).find(|&end| end > start);
        let rest = end.map_or(0, |end| end - start);
        Ok(self.get_bytes(start, rest as usize)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let inside = |(at, bytes): &(u64, Bytes)| {
            let from = usize::try_from(start.checked_sub(*at)?).ok()?;
            let to = from.checked_add(length).filter(|&to| to <= bytes.len())?;
            Some(bytes.slice(from..to))
        };
        self.0.iter().find_map(inside).ok_or_else(|| {
            ParquetError::General(format!("{length} bytes at {start} lie outside what was read"))
        })
    }
}
