//! One source unit → one Parquet file, on any thread.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;

use super::columns::Columns;
use super::record::{ReadFile, Reject, UnitRecord, keys_path};
use super::{DatasetWriter, Times};
use crate::checks::keys::KeyWriter;
use crate::checks::{self, ConsistencySums, LISTED, Previous, Suspect, Suspicion};
use crate::error::{ShardError, io_error, parquet_error};
use crate::graph::{Geometry, GraphCounts, NeighborList, StructureGraph};
use crate::layout::Layout;
use crate::manifest::{PartRecord, part_file, rename_durably};
use crate::schema::{self, CHECKSUM_KEY};
use crate::structure::{Fault, FloatWidth, Floats, Structure};

/// Writes the rows of one source unit.
pub struct UnitWriter<'a> {
    dataset: &'a DatasetWriter,
    layout: &'a Layout,
    schema: Arc<Schema>,
    unit: u32,
    temporary: PathBuf,
    path: PathBuf,
    writer: ArrowWriter<HashingFile>,
    columns: Columns,
    checksums: Vec<String>,
    rows: u64,
    atoms: u64,
    rejects: Vec<Reject>,
    unusable: u64,
    keys: KeyWriter,
    suspicions: BTreeMap<String, u64>,
    suspects: Vec<Suspect>,
    previous: Previous,
    consistency: ConsistencySums,
    times: Times,
}

impl<'a> UnitWriter<'a> {
    pub(super) fn create(dataset: &'a DatasetWriter, unit: u32) -> Result<Self, ShardError> {
        let layout = &dataset.plan.layout;
        let path = dataset.dir.join("data").join(part_file(unit));
        let temporary = path.with_extension("parquet.tmp");
        let file = File::create(&temporary).map_err(io_error("create", &temporary))?;
        let schema = schema::arrow_schema(layout);
        let properties = schema::writer_properties(&schema);
        let writer = ArrowWriter::try_new(HashingFile::new(file), schema.clone(), Some(properties))
            .map_err(parquet_error("write", &temporary))?;
        Ok(Self {
            dataset,
            layout,
            schema,
            unit,
            temporary,
            path,
            writer,
            columns: Columns::new(layout),
            checksums: vec![],
            rows: 0,
            atoms: 0,
            rejects: vec![],
            unusable: 0,
            keys: KeyWriter::create(keys_path(&dataset.progress(), unit))?,
            suspicions: BTreeMap::new(),
            suspects: vec![],
            previous: Previous::default(),
            consistency: ConsistencySums::default(),
            times: Times::default(),
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
        let start = Instant::now();
        // What is stored is what is checked and counted: numbers that will be narrowed are narrowed first.
        let stored = stored_form(structure, self.layout.float);
        let structure = stored.as_ref();
        let refused = |fault| ShardError::Structure { id: structure.id.clone(), fault };
        structure.check().map_err(refused)?;
        let (expected, found) = (self.layout.targets.len(), structure.targets.len());
        if expected != found {
            return Err(refused(Fault::Targets { expected, found }));
        }
        let suspicions = checks::examine(structure);
        self.times.check += start.elapsed();
        let start = Instant::now();
        let (counts, neighbors) = self.geometry(structure)?;
        self.times.neighbors += start.elapsed();
        let stored = self.columns.push(structure, &counts, neighbors.as_ref());
        stored.ok_or_else(|| ShardError::FarNeighbor { id: structure.id.clone() })?;
        let start = Instant::now();
        for suspicion in suspicions {
            self.suspect(&structure.id, suspicion);
        }
        self.keys.push(structure)?;
        self.previous.follow(structure, &mut self.consistency);
        self.times.check += start.elapsed();
        self.rows += 1;
        self.atoms += structure.atoms() as u64;
        if self.columns.rows() == self.layout.row_group_rows as usize {
            self.flush()?;
        }
        Ok(())
    }

    fn suspect(&mut self, id: &str, suspicion: Suspicion) {
        let Suspicion { check, value, limit } = suspicion;
        let count = self.suspicions.entry(check.code().to_owned()).or_default();
        *count += 1;
        if *count <= LISTED as u64 {
            self.suspects.push(Suspect { row: self.rows, id: id.to_owned(), check, value, limit });
        }
    }

    /// Notes a structure that cannot be stored; it counts against the limit of rejects.
    pub fn reject(&mut self, reject: Reject) {
        self.rejects.push(reject);
        self.unusable += 1;
    }

    /// Notes a structure that is not stored on purpose.
    pub fn leave_out(&mut self, reject: Reject) {
        self.rejects.push(reject);
    }

    fn geometry(&self, structure: &Structure) -> Result<(GraphCounts, Option<NeighborList>), ShardError> {
        let positions: Vec<[f64; 3]> = (0..structure.atoms())
            .map(|i| std::array::from_fn(|k| structure.positions.get(3 * i + k)))
            .collect();
        let geometry = Geometry {
            positions: &positions,
            cell: structure.cell.map(|c| [[c[0], c[1], c[2]], [c[3], c[4], c[5]], [c[6], c[7], c[8]]]),
            pbc: structure.pbc,
            tags: structure.tags.as_deref(),
        };
        let spec = &self.layout.graph.of(geometry.positions.len());
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
        let start = Instant::now();
        let written = self.writer.inner().time;
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
        let written = self.writer.inner().time.saturating_sub(written);
        self.times.compress += start.elapsed().saturating_sub(written);
        self.times.write += written;
        Ok(())
    }

    fn start_segment(&mut self) -> Result<(), ShardError> {
        self.writer.sync().map_err(io_error("write", &self.temporary))?;
        self.writer.inner_mut().start_segment();
        Ok(())
    }

    /// Closes the file, renames it into place and leaves the unit's keys and record, in this order.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(mut self, sources: Vec<ReadFile>) -> Result<UnitRecord, ShardError> {
        if self.columns.rows() > 0 {
            self.flush()?;
        }
        let start = Instant::now();
        let (dataset, unit, mut times) = (self.dataset, self.unit, self.times);
        let progress = dataset.progress();
        let mut record = UnitRecord {
            part: None,
            rejects: std::mem::take(&mut self.rejects),
            unusable: self.unusable,
            sources,
            suspicions: std::mem::take(&mut self.suspicions),
            suspects: std::mem::take(&mut self.suspects),
            consistency: self.consistency,
        };
        record.part = self.close()?;
        record.write(&progress, unit)?;
        times.write += start.elapsed();
        dataset.times.add(times);
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
        self.keys.finish()?;
        Ok(Some(PartRecord {
            unit: self.unit,
            source: self.dataset.plan.units[self.unit as usize].clone(),
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

/// A file that hashes what is written: the whole, and a segment at a time.
struct HashingFile {
    file: io::BufWriter<File>,
    written: u64,
    whole: blake3::Hasher,
    segment: blake3::Hasher,
    /// Spent here.
    time: Duration,
}

impl HashingFile {
    fn new(file: File) -> Self {
        let file = io::BufWriter::with_capacity(1 << 20, file);
        Self {
            file,
            written: 0,
            whole: blake3::Hasher::new(),
            segment: blake3::Hasher::new(),
            time: Duration::ZERO,
        }
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
        let Self { file, written, whole, segment, time } = self;
        Times::measure(time, || {
            let n = file.write(bytes)?;
            *written += n as u64;
            whole.update(&bytes[..n]);
            segment.update(&bytes[..n]);
            Ok(n)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The structure with the floats that the dataset has.
fn stored_form(structure: &Structure, float: FloatWidth) -> Cow<'_, Structure> {
    let width = |floats: &Floats| match floats {
        Floats::F32(_) => FloatWidth::F32,
        Floats::F64(_) => FloatWidth::F64,
    };
    let fits = |floats: &Floats| width(floats) == float;
    if fits(&structure.positions) && structure.forces.as_ref().is_none_or(fits) {
        return Cow::Borrowed(structure);
    }
    let convert = |floats: &Floats| match float {
        FloatWidth::F32 => Floats::F32(floats.iter().map(|x| x as f32).collect()),
        FloatWidth::F64 => Floats::F64(floats.to_f64()),
    };
    let positions = convert(&structure.positions);
    let forces = structure.forces.as_ref().map(convert);
    Cow::Owned(Structure { positions, forces, ..structure.clone() })
}
