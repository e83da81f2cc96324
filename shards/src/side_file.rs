//! Parquet lists beside the data: written to a temporary file, synced, renamed.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{ShardError, io_error, parquet_error};
use crate::manifest::rename_durably;

/// A list that is being written.
pub(crate) struct SideFile {
    path: PathBuf,
    temporary: PathBuf,
    schema: Arc<Schema>,
    writer: ArrowWriter<File>,
}

impl SideFile {
    pub(crate) fn create(path: PathBuf, fields: Vec<Field>) -> Result<Self, ShardError> {
        let temporary = path.with_extension("tmp");
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by("jmp shards".to_string())
            .build();
        let file = File::create(&temporary).map_err(io_error("create", &temporary))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(parquet_error("write", &temporary))?;
        Ok(Self { path, temporary, schema, writer })
    }

    pub(crate) fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), ShardError> {
        let arrow = |source| ShardError::Arrow { path: self.temporary.clone(), source };
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow)?;
        self.writer.write(&batch).map_err(parquet_error("write", &self.temporary))
    }

    /// Puts the file in place and returns its BLAKE3.
    pub(crate) fn finish(self) -> Result<String, ShardError> {
        let Self { path, temporary, writer, .. } = self;
        let file = writer.into_inner().map_err(parquet_error("finish", &temporary))?;
        file.sync_all().map_err(io_error("sync", &temporary))?;
        rename_durably(&temporary, &path)?;
        crate::verify::hash_file(&path)
    }
}
