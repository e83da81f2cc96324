//! Embeddings as Parquet (docs/embeddings.md).

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, FixedSizeListBuilder, Float32Builder, RecordBatch, StringBuilder, UInt8Builder,
    UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use shards::element::{MAX_ATOMIC_NUMBER, hill_formula, symbol};
use thiserror::Error;

use super::{Averages, Row};
use crate::inference::Prepared;

/// Why embeddings cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmbeddingFileError {
    /// The system refused.
    #[error("cannot write embeddings to {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The Parquet writer refused.
    #[error("cannot write embeddings to {}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Its own words.
        source: parquet::errors::ParquetError,
    },
}

/// Rows of a file, a row group each time so many have come.
const ROW_GROUP: usize = 8192;

/// A Parquet file that appears when finished.
#[derive(Debug)]
struct Output {
    path: PathBuf,
    temporary: PathBuf,
    schema: Arc<Schema>,
    writer: ArrowWriter<File>,
}

impl Output {
    fn create(path: &Path, schema: Schema, checkpoint: &str) -> Result<Self, EmbeddingFileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!("{name}.partial"));
        let file = File::create(&temporary)
            .map_err(|source| EmbeddingFileError::Io { path: temporary.clone(), source })?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "jmp.checkpoint".to_owned(),
                checkpoint.to_owned(),
            )]));
        for field in schema.fields().iter().filter(|f| matches!(f.data_type(), DataType::FixedSizeList(..))) {
            let values =
                ColumnPath::from(vec![field.name().clone(), "list".to_owned(), "element".to_owned()]);
            properties = properties
                .set_column_dictionary_enabled(values.clone(), false)
                .set_column_encoding(values, Encoding::BYTE_STREAM_SPLIT);
        }
        let schema = Arc::new(schema);
        let path = path.to_path_buf();
        match ArrowWriter::try_new(file, schema.clone(), Some(properties.build())) {
            Ok(writer) => Ok(Self { path, temporary, schema, writer }),
            Err(source) => Err(EmbeddingFileError::Parquet { path, source }),
        }
    }

    fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), EmbeddingFileError> {
        let written = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(Into::into)
            .and_then(|rows| self.writer.write(&rows));
        written.map_err(|source| EmbeddingFileError::Parquet { path: self.path.clone(), source })
    }

    fn finish(self) -> Result<(), EmbeddingFileError> {
        let Self { path, temporary, writer, .. } = self;
        let parquet = |source| EmbeddingFileError::Parquet { path: path.clone(), source };
        let file = writer.into_inner().map_err(parquet)?;
        file.sync_all()
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|source| EmbeddingFileError::Io { path: path.clone(), source })
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new("element", DataType::Float32, false))
}

fn vectors(width: usize) -> FixedSizeListBuilder<Float32Builder> {
    FixedSizeListBuilder::new(Float32Builder::new(), width as i32).with_field(item())
}

fn push(list: &mut FixedSizeListBuilder<Float32Builder>, vector: Option<&[f32]>) {
    if let Some(vector) = vector {
        list.values().append_slice(vector);
    } else {
        let width = list.value_length() as usize;
        list.values().append_slice(&vec![0.0; width]);
    }
    list.append(vector.is_some());
}

/// One row a structure.
#[derive(Debug)]
pub struct EmbeddingFile {
    output: Output,
    widths: (usize, usize),
}

impl EmbeddingFile {
    /// Begins a file of node and edge embeddings of these widths.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create(path: &Path, widths: (usize, usize), checkpoint: &str) -> Result<Self, EmbeddingFileError> {
        let list = |width: usize| DataType::FixedSizeList(item(), width as i32);
        let schema = Schema::new(vec![
            Field::new("dataset", DataType::Utf8, false),
            Field::new("id", DataType::Utf8, false),
            Field::new("row", DataType::UInt64, false),
            Field::new("formula", DataType::Utf8, false),
            Field::new("natoms", DataType::UInt32, false),
            Field::new("nedges", DataType::UInt32, false),
            Field::new("node", list(widths.0), false),
            Field::new("edge", list(widths.1), true),
        ]);
        Ok(Self { output: Output::create(path, schema, checkpoint)?, widths })
    }

    /// Adds structures; `names` are those of the datasets by their place.
    ///
    /// # Errors
    /// When the system or the writer refuses.
    pub fn write(
        &mut self,
        names: &[String],
        rows: &[(Row, Prepared)],
        averages: &[Averages],
    ) -> Result<(), EmbeddingFileError> {
        let (mut dataset, mut id, mut formula) =
            (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
        let mut number = UInt64Builder::new();
        let (mut natoms, mut nedges) = (UInt32Builder::new(), UInt32Builder::new());
        let (mut node, mut edge) = (vectors(self.widths.0), vectors(self.widths.1));
        for ((row, prepared), averages) in rows.iter().zip(averages) {
            dataset.append_value(&names[row.dataset]);
            id.append_value(&row.id);
            number.append_value(row.row);
            formula.append_value(hill_formula(&prepared.numbers));
            natoms.append_value(prepared.numbers.len() as u32);
            nedges.append_value(averages.edges as u32);
            push(&mut node, Some(&averages.node));
            push(&mut edge, averages.edge.as_deref());
        }
        self.output.write(vec![
            Arc::new(dataset.finish()),
            Arc::new(id.finish()),
            Arc::new(number.finish()),
            Arc::new(formula.finish()),
            Arc::new(natoms.finish()),
            Arc::new(nedges.finish()),
            Arc::new(node.finish()),
            Arc::new(edge.finish()),
        ])
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// When the system or the writer refuses.
    pub fn finish(self) -> Result<(), EmbeddingFileError> {
        self.output.finish()
    }
}

/// The vectors of elements.
#[derive(Debug)]
pub struct AtomTable<'a> {
    /// Row `Z − 1`, flat.
    pub vectors: &'a [f32],
    /// Numbers in a vector.
    pub width: usize,
    /// Elements of the training data; `None` where that is not known.
    pub trained: Option<&'a BTreeSet<u8>>,
}

impl AtomTable<'_> {
    /// Writes one row an element.
    ///
    /// # Errors
    /// When the system or the writer refuses.
    pub fn write(&self, path: &Path, checkpoint: &str) -> Result<(), EmbeddingFileError> {
        let list = DataType::FixedSizeList(item(), self.width as i32);
        let schema = Schema::new(vec![
            Field::new("atomic_number", DataType::UInt8, false),
            Field::new("symbol", DataType::Utf8, false),
            Field::new("trained", DataType::Boolean, true),
            Field::new("embedding", list, false),
        ]);
        let (mut z, mut symbols) = (UInt8Builder::new(), StringBuilder::new());
        let (mut trained, mut embedding) = (BooleanBuilder::new(), vectors(self.width));
        for (number, vector) in (1..=MAX_ATOMIC_NUMBER).zip(self.vectors.chunks_exact(self.width)) {
            z.append_value(number);
            symbols.append_value(symbol(number));
            trained.append_option(self.trained.map(|elements| elements.contains(&number)));
            push(&mut embedding, Some(vector));
        }
        let mut output = Output::create(path, schema, checkpoint)?;
        output.write(vec![
            Arc::new(z.finish()),
            Arc::new(symbols.finish()),
            Arc::new(trained.finish()),
            Arc::new(embedding.finish()),
        ])?;
        output.finish()
    }
}
