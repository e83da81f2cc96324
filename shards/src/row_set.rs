//! Sets of rows, kept as sorted disjoint ranges.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{ShardError, io_error, parquet_error};
use crate::manifest::rename_durably;

/// Rows of a dataset, by their number in the order of the parts. Invariant: ranges are sorted, disjoint and not empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowSet {
    ranges: Vec<Range<u64>>,
    /// Rows before each range; one more entry at the end holds the total.
    before: Vec<u64>,
}

impl RowSet {
    /// The set of the given rows, in any order; duplicates count once.
    pub fn from_rows(mut rows: Vec<u64>) -> Self {
        rows.sort_unstable();
        rows.dedup();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for row in rows {
            match ranges.last_mut() {
                Some(last) if last.end == row => last.end = row + 1,
                _ => ranges.push(row..row + 1),
            }
        }
        Self::from_sorted(ranges)
    }

    /// The set of one range.
    pub fn from_range(range: Range<u64>) -> Self {
        Self::from_sorted(if range.is_empty() { vec![] } else { vec![range] })
    }

    /// The union of ranges in any order.
    pub fn from_ranges(mut ranges: Vec<Range<u64>>) -> Self {
        ranges.retain(|r| !r.is_empty());
        ranges.sort_by_key(|r| r.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Self::from_sorted(merged)
    }

    fn from_sorted(ranges: Vec<Range<u64>>) -> Self {
        let mut before = Vec::with_capacity(ranges.len() + 1);
        let mut total = 0;
        before.push(0);
        for range in &ranges {
            total += range.end - range.start;
            before.push(total);
        }
        Self { ranges, before }
    }

    /// How many rows there are.
    pub fn len(&self) -> u64 {
        self.before.last().copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges.iter().cloned().flatten()
    }

    /// One past the largest row.
    pub fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |r| r.end)
    }

    /// The `k`-th row in ascending order. `k` must be below [`RowSet::len`].
    pub fn nth(&self, k: u64) -> u64 {
        let index = self.before.partition_point(|&b| b <= k) - 1;
        self.ranges[index].start + (k - self.before[index])
    }

    /// How many rows lie below `row`.
    pub fn rank(&self, row: u64) -> u64 {
        let index = self.ranges.partition_point(|r| r.end <= row);
        let inside = self.ranges.get(index).map_or(0, |r| row.saturating_sub(r.start));
        self.before.get(index).copied().unwrap_or(0) + inside
    }

    /// Whether a row belongs to the set.
    pub fn contains(&self, row: u64) -> bool {
        let index = self.ranges.partition_point(|r| r.end <= row);
        self.ranges.get(index).is_some_and(|r| r.contains(&row))
    }

    /// The rows inside `window`, ascending.
    pub fn within(&self, window: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let first = self.ranges.partition_point(|r| r.end <= window.start);
        self.ranges[first..]
            .iter()
            .take_while(move |r| r.start < window.end)
            .flat_map(move |r| r.start.max(window.start)..r.end.min(window.end))
    }

    /// Writes the ranges as a Parquet file with the columns `start` and `length`.
    pub fn write(&self, path: &Path) -> Result<(), ShardError> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("start", DataType::UInt64, false),
            Field::new("length", DataType::UInt64, false),
        ]));
        let starts = UInt64Array::from_iter_values(self.ranges.iter().map(|r| r.start));
        let lengths = UInt64Array::from_iter_values(self.ranges.iter().map(|r| r.end - r.start));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(starts), Arc::new(lengths)])
            .map_err(|source| ShardError::Arrow { path: path.to_path_buf(), source })?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::DELTA_BINARY_PACKED)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_created_by("jmp shards".to_string())
            .build();
        let temporary = path.with_extension("tmp");
        let file = File::create(&temporary).map_err(io_error("create", &temporary))?;
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties))
            .map_err(parquet_error("write", &temporary))?;
        writer.write(&batch).map_err(parquet_error("write", &temporary))?;
        let file = writer.into_inner().map_err(parquet_error("finish", &temporary))?;
        file.sync_all().map_err(io_error("sync", &temporary))?;
        rename_durably(&temporary, path)
    }

    /// Decodes the content of a file that [`RowSet::write`] wrote.
    pub fn decode(content: Bytes, path: &Path) -> Result<Self, ShardError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(content)
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(parquet_error("read", path))?;
        let wrong = |expected: &str, found: String| ShardError::Corrupt {
            path: path.to_path_buf(),
            what: "row ranges".into(),
            expected: expected.into(),
            found,
        };
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|source| ShardError::Arrow { path: path.to_path_buf(), source })?;
            let column = |name: &str| {
                let column =
                    batch.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<UInt64Array>());
                column
                    .cloned()
                    .ok_or_else(|| wrong("u64 columns `start` and `length`", format!("no u64 `{name}`")))
            };
            let (starts, lengths) = (column("start")?, column("length")?);
            for (&start, &length) in starts.values().iter().zip(lengths.values()) {
                let end = start.checked_add(length).filter(|&end| end > start);
                let end =
                    end.ok_or_else(|| wrong("ranges with at least one row", format!("{start} + {length}")))?;
                if ranges.last().is_some_and(|last| last.end > start) {
                    return Err(wrong(
                        "sorted, disjoint ranges",
                        format!("a range at {start} after one that ends later"),
                    ));
                }
                ranges.push(start..end);
            }
        }
        Ok(Self::from_sorted(ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, RowSet};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_sorted_list(rows in prop::collection::vec(0u64..200, 0..120), low in 0u64..200, high in 0u64..200) {
            let mut list = rows.clone();
            list.sort_unstable();
            list.dedup();
            let set = RowSet::from_rows(rows);
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), list.clone());
            prop_assert_eq!(set.len() as usize, list.len());
            for (k, &row) in list.iter().enumerate() {
                prop_assert_eq!(set.nth(k as u64), row);
                prop_assert_eq!(set.rank(row), k as u64);
            }
            for row in 0..200 {
                prop_assert_eq!(set.contains(row), list.contains(&row));
            }
            let expected: Vec<u64> = list.iter().copied().filter(|r| (low..high).contains(r)).collect();
            prop_assert_eq!(set.within(low..high).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.parquet");
        for rows in [vec![], vec![5], vec![0, 1, 2, 7, 9, 10], (0..1000).step_by(3).collect()] {
            let set = RowSet::from_rows(rows);
            set.write(&path).unwrap();
            let content = Bytes::from(std::fs::read(&path).unwrap());
            assert_eq!(RowSet::decode(content, &path).unwrap(), set);
        }
    }

    #[test]
    fn overlapping_ranges_unite() {
        assert_eq!(
            RowSet::from_ranges(vec![5..9, 0..2, 7..12, 2..3]),
            RowSet::from_rows(vec![0, 1, 2, 5, 6, 7, 8, 9, 10, 11])
        );
    }
}
