//! One Parquet file: its footer, its row groups' checksums, and decoding of chosen columns.

use std::ops::Range;
use std::path::PathBuf;

use arrow::datatypes::{FieldRef, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::RowGroupMetaData;

use super::RowGroup;
use super::block::Block;
use super::files::{Files, Pieces, local_range, part_file};
use super::parts::Parts;
use crate::error::{ShardError, parquet_error};
use crate::manifest::{Manifest, PartRecord};
use crate::remote::{Check, RemoteDir, Request, Wanted};
use crate::schema::{self, CHECKSUM_KEY};

/// Which columns to decode: a union of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Columns(pub(super) u8);

impl Columns {
    const IDENTITY: u8 = 1;
    const NUMBERS: u8 = 2;
    const GEOMETRY: u8 = 4;
    const LABELS: u8 = 8;
    const FORCES: u8 = 16;
    const COUNTS: u8 = 32;
    const NEIGHBORS: u8 = 64;
    const FIXED: u8 = 128;

    /// Everything.
    pub const fn all() -> Self {
        Self(0x7f)
    }

    /// What a training batch needs: geometry, labels, forces, ids and, where wanted, stored neighbours.
    pub const fn training(neighbors: bool) -> Self {
        let unwanted = if neighbors { Self::COUNTS } else { Self::COUNTS | Self::NEIGHBORS };
        Self(Self::all().0 & !unwanted)
    }

    /// `id`, `group` and `natoms`.
    pub const fn identity() -> Self {
        Self(Self::IDENTITY)
    }

    /// Atomic numbers.
    pub const fn numbers() -> Self {
        Self(Self::NUMBERS)
    }

    /// Atomic numbers, positions, cell, periodicity, tags and fixed atoms.
    pub const fn geometry() -> Self {
        Self(Self::GEOMETRY)
    }

    /// Atomic numbers, energy, targets and forces.
    pub const fn labels() -> Self {
        Self(Self::NUMBERS | Self::LABELS | Self::FORCES)
    }

    /// Atomic numbers, energy and targets.
    pub const fn energies() -> Self {
        Self(Self::NUMBERS | Self::LABELS)
    }

    /// `natoms` alone.
    pub const fn sizes() -> Self {
        Self(0)
    }

    /// Forces.
    pub const fn forces() -> Self {
        Self(Self::FORCES)
    }

    /// Which atoms are held in place.
    pub const fn fixed() -> Self {
        Self(Self::FIXED)
    }

    /// `natoms` and the graph counts.
    pub const fn counts() -> Self {
        Self(Self::COUNTS)
    }

    /// The columns of both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, kind: u8) -> bool {
        self.0 & kind != 0
    }

    /// Whether a column of that name is wanted.
    pub(super) fn wants(self, name: &str) -> bool {
        match name {
            schema::NATOMS => true,
            schema::ID | schema::GROUP => self.has(Self::IDENTITY),
            schema::ATOMIC_NUMBERS => self.has(Self::NUMBERS | Self::GEOMETRY),
            schema::POSITIONS | schema::CELL | schema::PBC | schema::TAGS => self.has(Self::GEOMETRY),
            schema::FIXED => self.has(Self::GEOMETRY | Self::FIXED),
            schema::FORCES => self.has(Self::FORCES),
            schema::CHARGE | schema::SPIN | schema::STRESS => {
                self.has(Self::LABELS) && self.has(Self::GEOMETRY)
            }
            schema::NEIGHBOR_COUNT | schema::NEIGHBOR_INDEX | schema::NEIGHBOR_SHIFT => {
                self.has(Self::NEIGHBORS)
            }
            name if schema::COUNTS.contains(&name) => self.has(Self::COUNTS),
            // The energy and the scalar targets.
            _ => self.has(Self::LABELS),
        }
    }
}

/// Digits of a row group's checksum, the beginning of a BLAKE3.
const CHECKSUM_DIGITS: usize = 16;

/// An open part with its footer decoded and checked.
#[derive(Debug)]
pub(super) struct PartFile {
    /// Path or URL, for messages.
    pub(super) path: PathBuf,
    /// Its name below the dataset, and the hash of its content.
    pub(super) file: String,
    pub(super) blake3: String,
    pub(super) footer: ArrowReaderMetadata,
    checksums: Vec<String>,
    targets: Vec<String>,
}

impl PartFile {
    pub(super) fn open(files: &Files, manifest: &Manifest, index: usize) -> Result<Self, ShardError> {
        let record = &manifest.parts[index];
        let path = files.path(&part_file(record));
        let footer = ArrowReaderMetadata::load(&files.footer(record)?, ArrowReaderOptions::default())
            .map_err(parquet_error("read the footer of", &path))?;
        let corrupt = |what: &str, expected: String, found: String| ShardError::Corrupt {
            path: path.clone(),
            what: what.into(),
            expected,
            found,
        };
        let expected = schema::arrow_schema(&manifest.layout);
        if !same_columns(footer.schema(), &expected) {
            let names =
                |s: &Schema| s.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(" ");
            return Err(corrupt("columns", names(&expected), names(footer.schema())));
        }
        let groups = footer.metadata().num_row_groups();
        let stored = footer.metadata().file_metadata().key_value_metadata();
        let entry = stored
            .and_then(|all| all.iter().find(|kv| kv.key == CHECKSUM_KEY))
            .and_then(|kv| kv.value.clone());
        let checksums: Vec<String> =
            entry.unwrap_or_default().split_whitespace().map(str::to_string).collect();
        check_row_groups(&footer, record, manifest.layout.row_group_rows)
            .map_err(|(what, expected, found)| corrupt(what, expected, found))?;
        if checksums.len() != groups || checksums.iter().any(|checksum| checksum.len() != CHECKSUM_DIGITS) {
            let expected = format!("{groups} checksums of {CHECKSUM_DIGITS} digits");
            return Err(corrupt(CHECKSUM_KEY, expected, checksums.join(" ")));
        }
        let targets = manifest.layout.targets.iter().map(|t| t.name.clone()).collect();
        let (file, blake3) = (part_file(record), record.blake3.clone());
        Ok(Self { path, file, blake3, footer, checksums, targets })
    }

    pub(super) fn read(
        &self,
        files: &Files,
        parts: &Parts,
        group: &RowGroup,
        columns: Columns,
    ) -> Result<Block, ShardError> {
        let pieces = match files {
            Files::Local(_) => {
                let range = self.byte_range(group);
                let what = format!("row group {}", group.index);
                let bytes = local_range(&self.path, range.clone(), &self.checksums[group.index], &what)?;
                Pieces(vec![(range.start, bytes)])
            }
            Files::Remote(dir) => self.fetch(dir, group)?,
        };
        self.compare_alone(files, parts, group, &pieces)?;
        self.decode(pieces, group, columns)
    }

    /// Bytes that the decoded footer takes.
    pub(super) fn footer_bytes(&self) -> usize {
        self.footer.metadata().memory_size() + 64 * self.checksums.len()
    }

    /// All bytes of a row group at a URL.
    pub(super) fn fetch(&self, dir: &RemoteDir, group: &RowGroup) -> Result<Pieces, ShardError> {
        let (whole, start) = self.whole(group);
        Ok(Pieces(vec![(start, dir.object(&whole)?)]))
    }

    /// Fetches a row group into the cache unless it is there. What goes wrong goes wrong again, and is told, when it is read.
    pub(super) fn fetch_ahead(&self, dir: &RemoteDir, group: &RowGroup) {
        let (whole, _) = self.whole(group);
        if !dir.has(&whole) {
            drop(dir.object(&whole));
        }
    }

    /// What fetches a row group whole, and where it starts.
    pub(super) fn whole(&self, group: &RowGroup) -> (Request, u64) {
        let range = self.byte_range(group);
        let start = range.start;
        let check = Check::Short(self.checksums[group.index].clone());
        let (what, index) = (format!("row group {}", group.index), group.index.to_string());
        let identity = ["row group", &self.blake3, &index];
        (Request::new(&self.file, what, Wanted::Ranges(vec![range]), check, &identity), start)
    }

    pub(super) fn decode(
        &self,
        input: Pieces,
        group: &RowGroup,
        columns: Columns,
    ) -> Result<Block, ShardError> {
        let rows = (group.rows.end - group.rows.start) as usize;
        let arrow = self.footer.schema();
        let roots =
            arrow.fields().iter().enumerate().filter(|(_, f)| columns.wants(f.name())).map(|(i, _)| i);
        let mask = ProjectionMask::roots(self.footer.metadata().file_metadata().schema_descr(), roots);
        let mut batches = ParquetRecordBatchReaderBuilder::new_with_metadata(input, self.footer.clone())
            .with_row_groups(vec![group.index])
            .with_projection(mask)
            .with_batch_size(rows.max(1))
            .build()
            .map_err(parquet_error("read", &self.path))?;
        let undecodable = |error: arrow::error::ArrowError| ShardError::Corrupt {
            path: self.path.clone(),
            what: format!("row group {}", group.index),
            expected: "columns that can be decoded".into(),
            found: error.to_string(),
        };
        let batch = batches.next().transpose().map_err(undecodable)?;
        let short = |found: usize| ShardError::Corrupt {
            path: self.path.clone(),
            what: format!("rows of row group {}", group.index),
            expected: rows.to_string(),
            found: found.to_string(),
        };
        let batch = batch.ok_or_else(|| short(0))?;
        if batch.num_rows() != rows {
            return Err(short(batch.num_rows()));
        }
        Block::new(&batch, group.rows.start, &self.targets).map_err(|(what, expected, found)| {
            ShardError::Corrupt {
                path: self.path.clone(),
                what: format!("row group {}: {what}", group.index),
                expected,
                found,
            }
        })
    }

    pub(super) fn byte_range(&self, group: &RowGroup) -> Range<u64> {
        let columns = self.footer.metadata().row_group(group.index).columns();
        let ranges = columns.iter().map(parquet::file::metadata::ColumnChunkMetaData::byte_range);
        let (start, end) =
            ranges.fold((u64::MAX, 0), |(a, b), (start, length)| (a.min(start), b.max(start + length)));
        start.min(end)..end
    }
}

/// Columns are compared by name, type and nullability; what their metadata says in words may be said better later.
fn same_columns(found: &Schema, expected: &Schema) -> bool {
    let key = |f: &FieldRef| (f.name().clone(), f.data_type().clone(), f.is_nullable());
    found.fields().iter().map(key).eq(expected.fields().iter().map(key))
}

/// Row groups are cut as the manifest says, and their chunks lie before the footer.
fn check_row_groups(
    footer: &ArrowReaderMetadata,
    record: &PartRecord,
    rows: u32,
) -> Result<(), (&'static str, String, String)> {
    let groups = footer.metadata().row_groups();
    let expected: Vec<u64> = (0..record.rows.div_ceil(u64::from(rows)))
        .map(|k| u64::from(rows).min(record.rows - k * u64::from(rows)))
        .collect();
    if !groups.iter().map(|g| g.num_rows() as u64).eq(expected.iter().copied()) {
        return Err((
            "row groups",
            format!("{} of {rows} rows", expected.len()),
            format!("{} of other sizes", groups.len()),
        ));
    }
    for column in groups.iter().flat_map(RowGroupMetaData::columns) {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end = start
            .checked_add(column.compressed_size())
            .filter(|_| start >= 0 && column.compressed_size() >= 0);
        if end.is_none_or(|end| end as u64 > record.footer_start) {
            return Err((
                "column chunks",
                format!("within {} bytes", record.footer_start),
                format!("one at {start}"),
            ));
        }
    }
    Ok(())
}
