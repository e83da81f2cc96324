//! `outliers.parquet`: structures that were stored but are suspicious, one row for each check that one fails.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field};

use crate::checks::Suspect;
use crate::error::ShardError;
use crate::side_file::SideFile;

/// Where the list lies.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("outliers.parquet")
}

/// Writes the list, sorted by row, and returns its BLAKE3; `None` when there is nothing to list.
pub(crate) fn write(dir: &Path, suspects: &[Suspect]) -> Result<Option<String>, ShardError> {
    if suspects.is_empty() {
        return Ok(None);
    }
    let fields = vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("check", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
        Field::new("limit", DataType::Float64, false),
    ];
    let mut file = SideFile::create(path(dir), fields)?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(suspects.iter().map(|s| s.row))),
        Arc::new(StringArray::from_iter_values(suspects.iter().map(|s| &s.id))),
        Arc::new(StringArray::from_iter_values(suspects.iter().map(|s| s.check.code()))),
        Arc::new(Float64Array::from_iter_values(suspects.iter().map(|s| s.value))),
        Arc::new(Float64Array::from_iter_values(suspects.iter().map(|s| s.limit))),
    ];
    file.write(columns)?;
    file.finish().map(Some)
}
