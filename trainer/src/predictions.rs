//! Predictions as a Parquet file beside the truth, so that anyone can recompute a metric.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, ListBuilder, RecordBatch, StringBuilder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use shards::batch::HostBatch;
use thiserror::Error;

use crate::checkpoint::TaskRecord;
use crate::prediction::HostPrediction;
use crate::scalar::ScalarTarget;

/// Why predictions cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PredictionFileError {
    /// The system refused.
    #[error("cannot write predictions to {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The Parquet writer refused.
    #[error("cannot write predictions to {}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Its own words.
        source: parquet::errors::ParquetError,
    },
}

/// Writes one row a structure; energies in eV, forces in eV/Å, or one property in its column's unit (of classes the
/// probability of 1). A prediction that is NaN or infinite stands there as it is; null is what the model does not predict. The
/// file appears when finished.
#[derive(Debug)]
pub struct PredictionWriter {
    path: PathBuf,
    temporary: PathBuf,
    schema: Arc<Schema>,
    writer: ArrowWriter<File>,
}

fn schema(scalar: Option<&ScalarTarget>) -> Arc<Schema> {
    let vectors = || DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
    let label = scalar.map_or("energy", |target| &target.name);
    let mut fields = vec![
        Field::new("dataset", DataType::Utf8, false),
        Field::new("id", DataType::Utf8, false),
        Field::new("row", DataType::UInt64, false),
        Field::new("natoms", DataType::UInt32, false),
        Field::new(label, DataType::Float64, true),
        Field::new(format!("predicted_{label}"), DataType::Float64, true),
    ];
    if scalar.is_none() {
        fields.push(Field::new("forces", vectors(), true));
        fields.push(Field::new("predicted_forces", vectors(), true));
    }
    Arc::new(Schema::new(fields))
}

impl PredictionWriter {
    /// Begins a file: of energies and forces, or of one property.
    pub fn create(path: &Path, scalar: Option<&ScalarTarget>) -> Result<Self, PredictionFileError> {
        let temporary = path.with_extension("parquet.tmp");
        let file = File::create(&temporary)
            .map_err(|source| PredictionFileError::Io { path: temporary.clone(), source })?;
        let level = ZstdLevel::try_new(3).unwrap_or_default();
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let schema = schema(scalar);
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|source| PredictionFileError::Parquet { path: path.to_path_buf(), source })?;
        Ok(Self { path: path.to_path_buf(), temporary, schema, writer })
    }

    /// Adds the structures of a batch, all of one task.
    pub fn write(
        &mut self,
        record: &TaskRecord,
        batch: &HostBatch,
        prediction: &HostPrediction,
    ) -> Result<(), PredictionFileError> {
        let mut columns = columns(record, batch, prediction);
        if record.scalar.is_some() {
            columns.truncate(self.schema.fields().len());
        }
        let written = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(Into::into)
            .and_then(|rows| self.writer.write(&rows));
        written.map_err(|source| PredictionFileError::Parquet { path: self.path.clone(), source })
    }

    /// Completes the file and gives it its name.
    pub fn finish(self) -> Result<PathBuf, PredictionFileError> {
        let Self { path, temporary, writer, .. } = self;
        writer.close().map_err(|source| PredictionFileError::Parquet { path: path.clone(), source })?;
        std::fs::rename(&temporary, &path)
            .map_err(|source| PredictionFileError::Io { path: path.clone(), source })?;
        Ok(path)
    }
}

fn columns(record: &TaskRecord, batch: &HostBatch, prediction: &HostPrediction) -> Vec<ArrayRef> {
    let t = &record.transform;
    let is_class = record.class_weight().is_some();
    let (mut dataset, mut id) = (StringBuilder::new(), StringBuilder::new());
    let (mut row, mut natoms) = (UInt64Builder::new(), UInt32Builder::new());
    let (mut energy, mut predicted) = (Float64Builder::new(), Float64Builder::new());
    let vectors = || ListBuilder::new(Float64Builder::new());
    let (mut forces, mut predicted_forces) = (vectors(), vectors());
    let mut start = 0;
    for (g, n) in batch.natoms.iter().enumerate() {
        let components = start..start + 3 * *n as usize;
        dataset.append_value(&record.name);
        id.append_value(&batch.ids[g]);
        row.append_value(batch.rows[g].row);
        natoms.append_value(*n);
        // Where an element has no reference there is no total energy to speak of.
        let offset = Some(batch.energy_offset[g]).filter(|offset| offset.is_finite());
        let total = |e: f64| Some(offset? + t.std * e);
        energy.append_option(batch.has_energy[g].then(|| total(batch.energy[g])).flatten());
        let output = prediction.energy[g];
        predicted.append_option(match (is_class, !record.has_value()) {
            (true, _) => Some(1.0 / (1.0 + (-output).exp())),
            (_, true) => None,
            _ => total(output),
        });
        let known = batch.has_forces[g].then_some(&batch.forces);
        for (list, values) in [(&mut forces, known), (&mut predicted_forces, prediction.forces.as_ref())] {
            match values {
                Some(values) => {
                    for value in &values[components.clone()] {
                        list.values().append_value(value * t.force_std);
                    }
                    list.append(true);
                }
                None => list.append(false),
            }
        }
        start = components.end;
    }
    vec![
        Arc::new(dataset.finish()),
        Arc::new(id.finish()),
        Arc::new(row.finish()),
        Arc::new(natoms.finish()),
        Arc::new(energy.finish()),
        Arc::new(predicted.finish()),
        Arc::new(forces.finish()),
        Arc::new(predicted_forces.finish()),
    ]
}
