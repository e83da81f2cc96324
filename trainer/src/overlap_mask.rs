//! Which structures overlap with pre-training: the Parquet file that `jmp-tools overlap --write-masks` writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use thiserror::Error;

/// Why a mask cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MaskError {
    /// The system refused.
    #[error("cannot open the mask {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no mask.
    #[error("{}: expected a Parquet file with the columns id (text) and overlapping (true or false), found {found}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A structure is not in it.
    #[error("{}: the mask does not tell of structure `{id}`; it must be made from the split that is evaluated", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
        /// The structure.
        id: String,
    },
}

/// Reads a mask: id → whether it overlaps.
pub fn read(path: &Path) -> Result<BTreeMap<String, bool>, MaskError> {
    let content = |found: String| MaskError::Content { path: path.to_path_buf(), found };
    let file = File::open(path).map_err(|source| MaskError::Open { path: path.to_path_buf(), source })?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|e| content(e.to_string()))?;
    let mut mask = BTreeMap::new();
    for batch in reader {
        add(&batch.map_err(|e| content(e.to_string()))?, &mut mask).map_err(content)?;
    }
    Ok(mask)
}

fn add(batch: &RecordBatch, mask: &mut BTreeMap<String, bool>) -> Result<(), String> {
    let column = |name: &str, kind: &DataType| {
        let found = batch.column_by_name(name).ok_or_else(|| format!("no column {name}"))?;
        if found.null_count() > 0 {
            return Err(format!("nulls in column {name}"));
        }
        cast(found, kind).map_err(|_| format!("column {name} of type {}", found.data_type()))
    };
    let (ids, overlaps) = (column("id", &DataType::Utf8)?, column("overlapping", &DataType::Boolean)?);
    let (ids, overlaps) = (ids.as_string::<i32>(), overlaps.as_boolean());
    for row in 0..batch.num_rows() {
        let (id, overlaps) = (ids.value(row), overlaps.value(row));
        if mask.insert(id.to_owned(), overlaps).is_some_and(|before| before != overlaps) {
            return Err(format!("both for `{id}`"));
        }
    }
    Ok(())
}
