//! `rejects.parquet`: the structures that were not stored, one row each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{ShardError, io_error, parquet_error};
use crate::manifest::rename_durably;
use crate::writer::Reject;

/// Where the list lies.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("rejects.parquet")
}

/// Writes the list and returns its BLAKE3.
pub(crate) fn write(dir: &Path, rejects: &[Reject]) -> Result<String, ShardError> {
    let path = path(dir);
    let temporary = path.with_extension("tmp");
    let names = ["id", "code", "reason"];
    let schema = Arc::new(Schema::new(names.map(|n| Field::new(n, DataType::Utf8, false)).to_vec()));
    let column = |get: fn(&Reject) -> &str| Arc::new(StringArray::from_iter_values(rejects.iter().map(get)));
    let columns: [Arc<StringArray>; 3] = [column(|r| &r.id), column(|r| &r.code), column(|r| &r.reason)];
    let batch = RecordBatch::try_new(schema.clone(), columns.map(|c| c as _).to_vec())
        .map_err(|source| ShardError::Arrow { path: temporary.clone(), source })?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("jmp shards".to_string())
        .build();
    let file = File::create(&temporary).map_err(io_error("create", &temporary))?;
    let mut writer =
        ArrowWriter::try_new(file, schema, Some(properties)).map_err(parquet_error("write", &temporary))?;
    writer.write(&batch).map_err(parquet_error("write", &temporary))?;
    let file = writer.into_inner().map_err(parquet_error("finish", &temporary))?;
    file.sync_all().map_err(io_error("sync", &temporary))?;
    rename_durably(&temporary, &path)?;
    crate::verify::hash_file(&path)
}
