//! One source unit → one Parquet file, on any thread.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};

use super::columns::Columns;
use crate::error::{ShardError, io_error, parquet_error};
use crate::graph::{Geometry, GraphCounts, NeighborList, StructureGraph};
use crate::layout::Layout;
use crate::manifest::{PartRecord, SourceFile, part_file, rename_durably, write_durably};
use crate::schema::{self, CHECKSUM_KEY};
use crate::structure::Structure;

/// A structure that was not stored, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Its id, or where it lies in the source.
    pub id: String,
    /// Short name that rejects are counted by.
    pub code: String,
    /// What was wrong.
    pub reason: String,
}

/// What a finished unit left behind; also the mark by which a resumed conversion knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitRecord {
    /// The Parquet file; `None` when every structure was rejected.
    pub part: Option<PartRecord>,
    /// Structures not stored.
    pub rejects: Vec<Reject>,
    /// Source files read for it.
    pub sources: Vec<SourceFile>,
}

/// Writes the rows of one source unit.
pub struct UnitWriter<'a> {
    layout: &'a Layout,
    schema: Arc<Schema>,
    unit: u32,
    name: String,
    temporary: PathBuf,
    path: PathBuf,
    record_path: PathBuf,
    writer: ArrowWriter<HashingFile>,
    columns: Columns,
    checksums: Vec<String>,
    rows: u64,
    atoms: u64,
    rejects: Vec<Reject>,
}

impl<'a> UnitWriter<'a> {
    pub(super) fn create(
        dir: &std::path::Path,
        layout: &'a Layout,
        unit: u32,
        name: &str,
        record_path: PathBuf,
    ) -> Result<Self, ShardError> {
        let path = dir.join("data").join(part_file(unit));
        let temporary = path.with_extension("parquet.tmp");
        let file = File::create(&temporary).map_err(io_error("create", &temporary))?;
        let schema = schema::arrow_schema(layout);
        let properties = schema::writer_properties(&schema);
        let writer = ArrowWriter::try_new(HashingFile::new(file), schema.clone(), Some(properties))
            .map_err(parquet_error("write", &temporary))?;
        Ok(Self {
            layout,
            schema,
            unit,
            name: name.to_string(),
            temporary,
            path,
            record_path,
            writer,
            columns: Columns::new(layout),
            checksums: vec![],
            rows: 0,
            atoms: 0,
            rejects: vec![],
        })
    }

    /// Rows stored so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Structures rejected so far.
    pub fn rejected(&self) -> usize {
        self.rejects.len()
    }

    /// Checks a structure, counts its graphs, finds its neighbours and stores it.
    ///
    /// # Errors
    /// [`ShardError::Structure`], [`ShardError::Graph`] and [`ShardError::FarNeighbor`] concern this structure alone: nothing of it was stored, and the
    /// writer goes on after the caller has decided to [`UnitWriter::reject`] it. Other errors end the unit.
    pub fn push(&mut self, structure: &Structure) -> Result<(), ShardError> {
        let refused = |fault| ShardError::Structure { id: structure.id.clone(), fault };
        structure.check().map_err(refused)?;
        let (expected, found) = (self.layout.targets.len(), structure.targets.len());
        if expected != found {
            return Err(refused(crate::structure::Fault::Targets { expected, found }));
        }
        let (counts, neighbors) = self.geometry(structure)?;
        let stored = self.columns.push(structure, &counts, neighbors.as_ref());
        stored.ok_or_else(|| ShardError::FarNeighbor { id: structure.id.clone() })?;
        self.rows += 1;
        self.atoms += structure.atoms() as u64;
        if self.columns.rows() == self.layout.row_group_rows as usize {
            self.flush()?;
        }
        Ok(())
    }

    /// Notes a structure that is not stored.
    pub fn reject(&mut self, reject: Reject) {
        self.rejects.push(reject);
    }

    fn geometry(&self, structure: &Structure) -> Result<(GraphCounts, Option<NeighborList>), ShardError> {
        let positions: Vec<[f64; 3]> = (0..structure.atoms())
            .map(|i| std::array::from_fn(|k| structure.positions.get(3 * i + k)))
            .collect();
        // What is stored is what is counted: positions that will be narrowed are narrowed first.
        let positions = match self.layout.float {
            crate::FloatWidth::F32 => positions.iter().map(|p| p.map(|x| f64::from(x as f32))).collect(),
            crate::FloatWidth::F64 => positions,
        };
        let geometry = Geometry {
            positions: &positions,
            cell: structure.cell.map(|c| [[c[0], c[1], c[2]], [c[3], c[4], c[5]], [c[6], c[7], c[8]]]),
            pbc: structure.pbc,
            tags: structure.tags.as_deref(),
        };
        let spec = &self.layout.graph;
        let refused = |source| ShardError::Graph { id: structure.id.clone(), source };
        let all = NeighborList::build(&geometry, spec.cutoff, spec.atom_atom).map_err(refused)?;
        let graph = StructureGraph::from_neighbors(&geometry, spec, &all).map_err(refused)?;
        let counts = GraphCounts::of(&graph);
        let stored = match self.layout.neighbors.limit(spec) {
            Some(limit) if limit == spec.atom_atom => Some(all),
            Some(limit) => Some(NeighborList::build(&geometry, spec.cutoff, limit).map_err(refused)?),
            None => None,
        };
        Ok((counts, stored))
    }

    fn flush(&mut self) -> Result<(), ShardError> {
        let columns = std::mem::replace(&mut self.columns, Columns::new(self.layout));
        let path = self.temporary.clone();
        let path = path.as_path();
        let batch = columns
            .finish(&self.schema)
            .map_err(|source| ShardError::Arrow { path: path.to_path_buf(), source })?;
        // What the Parquet writer still buffers (at first the file's leading magic) is no part of this row group.
        self.start_segment()?;
        self.writer.write(&batch).map_err(parquet_error("write", path))?;
        self.writer.flush().map_err(parquet_error("write", path))?;
        self.writer.sync().map_err(io_error("write", path))?;
        self.checksums.push(self.writer.inner_mut().end_segment());
        Ok(())
    }

    fn start_segment(&mut self) -> Result<(), ShardError> {
        self.writer.sync().map_err(io_error("write", &self.temporary))?;
        self.writer.inner_mut().start_segment();
        Ok(())
    }

    /// Closes the file, renames it into place and leaves the unit's record, in this order.
    pub fn finish(mut self, sources: Vec<SourceFile>) -> Result<UnitRecord, ShardError> {
        if self.columns.rows() > 0 {
            self.flush()?;
        }
        let rejects = std::mem::take(&mut self.rejects);
        let record_path = self.record_path.clone();
        let part = self.close()?;
        let record = UnitRecord { part, rejects, sources };
        let failed = |e: serde_json::Error| ShardError::Io {
            action: "write",
            path: record_path.clone(),
            source: e.into(),
        };
        let text = serde_json::to_string(&record).map_err(failed)?;
        write_durably(&record_path, text.as_bytes())?;
        Ok(record)
    }

    fn close(mut self) -> Result<Option<PartRecord>, ShardError> {
        let path = self.temporary.clone();
        if self.rows == 0 {
            drop(self.writer);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            return Ok(None);
        }
        let checksums = self.checksums.join(" ");
        self.writer.append_key_value_metadata(KeyValue::new(CHECKSUM_KEY.to_string(), checksums));
        self.start_segment()?;
        let footer_start = self.writer.inner().written;
        let file = self.writer.into_inner().map_err(parquet_error("finish", &path))?;
        let (bytes, blake3, footer_blake3) = file.finish().map_err(io_error("sync", &path))?;
        rename_durably(&path, &self.path)?;
        Ok(Some(PartRecord {
            unit: self.unit,
            source: self.name,
            file: part_file(self.unit),
            rows: self.rows,
            atoms: self.atoms,
            bytes,
            blake3,
            footer_blake3,
            footer_start,
        }))
    }
}

/// Counts by reject code.
pub(super) fn count_rejects<'r>(rejects: impl Iterator<Item = &'r Reject>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for reject in rejects {
        *counts.entry(reject.code.clone()).or_default() += 1;
    }
    counts
}

/// A file that hashes what is written: the whole, and a segment at a time.
struct HashingFile {
    file: io::BufWriter<File>,
    written: u64,
    whole: blake3::Hasher,
    segment: blake3::Hasher,
}

impl HashingFile {
    fn new(file: File) -> Self {
        let file = io::BufWriter::with_capacity(1 << 20, file);
        Self { file, written: 0, whole: blake3::Hasher::new(), segment: blake3::Hasher::new() }
    }

    fn start_segment(&mut self) {
        self.segment.reset();
    }

    fn end_segment(&mut self) -> String {
        let checksum = self.segment.finalize().to_hex()[..16].to_string();
        self.segment.reset();
        checksum
    }

    fn finish(self) -> io::Result<(u64, String, String)> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let hex = |hasher: &blake3::Hasher| hasher.finalize().to_hex().to_string();
        Ok((self.written, hex(&self.whole), hex(&self.segment)))
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        self.whole.update(&bytes[..n]);
        self.segment.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
