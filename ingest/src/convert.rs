//! A source → a dataset on disk.
//!
//! Units are read by as many threads as wanted, each written to its own file; rows, parts and splits follow the order of the
//! units, so the bytes do not depend on the number of threads. What is finished stays: a stopped or killed conversion is
//! continued with [`Settings::resume`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use shards::manifest::SourceFile;
use shards::verify::hash_file;
use shards::writer::{DatasetWriter, Reject, UnitRecord, UnitWriter};
use shards::{Manifest, NeighborStorage, ShardError, Structure};

use crate::error::{IngestError, input_error, io_error};
use crate::input::{relative_names, sorted_dir};
use crate::source::{Sink, Source};
use crate::splits::resolve;

/// How to convert.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory to make.
    pub output: PathBuf,
    /// Threads.
    pub jobs: usize,
    /// Neighbour lists to store; `None`: as the format suggests.
    pub neighbors: Option<NeighborStorage>,
    /// Unusable structures that are left out before the conversion fails.
    pub max_rejects: u64,
    /// Continue an interrupted conversion.
    pub resume: bool,
}

/// Hears how the conversion goes on; called from several threads.
pub trait Progress: Sync {
    /// Structures were stored, or left out.
    fn advance(&self, stored: u64, left_out: u64);
    /// Structures that an earlier run had dealt with.
    fn resumed(&self, structures: u64);
    /// The units are done; splits are being measured.
    fn measuring(&self);
}

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// The finished dataset's manifest.
    pub manifest: Manifest,
    /// Units that an earlier run had finished.
    pub resumed_units: usize,
    /// What looks wrong, though it was stored.
    pub warnings: Vec<String>,
}

/// The tool's name and version, as manifests record it.
pub const TOOL: &str = concat!("jmp-ingest ", env!("CARGO_PKG_VERSION"));

/// Converts a source. `stop` ends it at the next structure; finished units stay.
///
/// # Errors
/// Damaged input, too many rejects, a refused or full output, or [`IngestError::Interrupted`].
pub fn convert(
    source: &dyn Source,
    settings: &Settings,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, IngestError> {
    let mut layout = source.layout().clone();
    layout.neighbors = settings.neighbors.unwrap_or(layout.neighbors);
    let names = source.units().iter().map(|u| u.name.clone()).collect();
    let writer = DatasetWriter::create(
        &settings.output,
        TOOL,
        source.header().clone(),
        layout,
        names,
        settings.resume,
    )?;
    let run = Run {
        source,
        writer: &writer,
        progress,
        stop,
        failed: AtomicBool::new(false),
        rejects: AtomicU64::new(0),
        max_rejects: settings.max_rejects,
        hashes: SourceHashes::new(source),
    };
    let resumed_units = (0..source.units().len()).filter(|&u| writer.finished(u as u32).is_some()).count();
    let records = run.all_units(settings.jobs)?;
    progress.measuring();
    let plans = source.splits();
    let mut empty = Vec::new();
    let manifest = writer.finish(records, |dataset| {
        let definitions = resolve(dataset, plans)?;
        let made = |name: &String| definitions.iter().any(|d| d.name == *name);
        empty = plans.iter().map(|p| p.name.clone()).filter(|n| !made(n)).collect();
        Ok(definitions)
    })?;
    let mut warnings = source.warnings();
    warnings.extend(empty.into_iter().map(|name| format!("split `{name}` has no rows and was not made")));
    Ok(Outcome { manifest, resumed_units, warnings })
}

struct Run<'a> {
    source: &'a dyn Source,
    writer: &'a DatasetWriter,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    failed: AtomicBool,
    rejects: AtomicU64,
    max_rejects: u64,
    hashes: SourceHashes,
}

impl Run<'_> {
    /// Converts the units in their order, `jobs` at a time. Of several errors, that of the first unit is returned.
    fn all_units(&self, jobs: usize) -> Result<Vec<UnitRecord>, IngestError> {
        let count = self.source.units().len();
        let next = AtomicUsize::new(0);
        let results: Mutex<BTreeMap<usize, Result<UnitRecord, IngestError>>> = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, count.max(1)) {
                scope.spawn(|| {
                    loop {
                        let unit = next.fetch_add(1, Ordering::Relaxed);
                        if unit >= count || self.stopped() {
                            break;
                        }
                        let result = self.unit(unit);
                        if result.is_err() {
                            self.failed.store(true, Ordering::Relaxed);
                        }
                        results.lock().unwrap_or_else(PoisonError::into_inner).insert(unit, result);
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (done, all) = (results.len(), results.into_values());
        // A thread that stopped because another failed reports an interruption, which explains nothing.
        let (mut records, mut interrupted) = (Vec::with_capacity(done), done < count);
        for result in all {
            match result {
                Ok(record) => records.push(record),
                Err(IngestError::Interrupted) => interrupted = true,
                Err(error) => return Err(error),
            }
        }
        if interrupted { Err(IngestError::Interrupted) } else { Ok(records) }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    fn unit(&self, unit: usize) -> Result<UnitRecord, IngestError> {
        if let Some(record) = self.writer.finished(unit as u32) {
            let rows = record.part.as_ref().map_or(0, |p| p.rows);
            self.progress.resumed(rows + record.rejects.len() as u64);
            return Ok(record.clone());
        }
        let writer = self.writer.unit(unit as u32)?;
        let mut sink = UnitSink { run: self, unit, writer, unreported: 0 };
        self.source.read(unit, &mut sink)?;
        sink.report();
        let files = self.hashes.of(&self.source.units()[unit].files)?;
        Ok(sink.writer.finish(files)?)
    }
}

/// Structures between two reports to the progress bar.
const REPORT_EVERY: u64 = 64;

struct UnitSink<'r, 'a> {
    run: &'r Run<'a>,
    unit: usize,
    writer: UnitWriter<'r>,
    unreported: u64,
}

impl UnitSink<'_, '_> {
    fn report(&mut self) {
        self.run.progress.advance(std::mem::take(&mut self.unreported), 0);
    }

    /// The reason without the directories of this machine: what is written must not depend on where the input lies.
    fn portable(&self, reason: &str) -> String {
        let files = &self.run.source.units()[self.unit].files;
        files.iter().fold(reason.to_owned(), |text, file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            text.replace(&file.display().to_string(), &name)
        })
    }

    fn note(&mut self, id: &str, code: &str, reason: &str) {
        self.writer.reject(Reject { id: id.to_owned(), code: code.to_owned(), reason: reason.to_owned() });
        self.run.progress.advance(0, 1);
    }
}

impl Sink for UnitSink<'_, '_> {
    fn structure(&mut self, structure: Structure) -> Result<(), IngestError> {
        if self.run.stopped() {
            return Err(IngestError::Interrupted);
        }
        match self.writer.push(&structure) {
            Ok(()) => {}
            Err(ShardError::Structure { id, fault }) => {
                return self.reject(&id, fault.code(), &fault.to_string());
            }
            Err(ShardError::Graph { id, source }) => return self.reject(&id, "graph", &source.to_string()),
            Err(error) => return Err(error.into()),
        }
        self.unreported += 1;
        if self.unreported >= REPORT_EVERY {
            self.report();
        }
        Ok(())
    }

    fn reject(&mut self, id: &str, code: &'static str, reason: &str) -> Result<(), IngestError> {
        let reason = self.portable(reason);
        if self.run.rejects.fetch_add(1, Ordering::Relaxed) >= self.run.max_rejects {
            let path = self.run.source.units()[self.unit].files.first().cloned().unwrap_or_default();
            let limit = self.run.max_rejects;
            return Err(IngestError::TooManyRejects { path, id: id.to_owned(), reason, limit });
        }
        self.note(id, code, &reason);
        Ok(())
    }

    fn leave_out(&mut self, id: &str, code: &'static str, reason: &str) {
        self.note(id, code, reason);
    }
}

/// Hashes of the source files, each computed once, when the first unit that reads it is finished.
struct SourceHashes {
    names: BTreeMap<PathBuf, String>,
    known: Mutex<BTreeMap<PathBuf, SourceFile>>,
}

impl SourceHashes {
    fn new(source: &dyn Source) -> Self {
        let mut files: Vec<PathBuf> = source.units().iter().flat_map(|u| u.files.clone()).collect();
        files.sort();
        files.dedup();
        let names = files.iter().cloned().zip(relative_names(&files)).collect();
        Self { names, known: Mutex::new(BTreeMap::new()) }
    }

    fn of(&self, files: &[PathBuf]) -> Result<Vec<SourceFile>, IngestError> {
        files.iter().map(|f| self.one(f)).collect()
    }

    fn one(&self, file: &Path) -> Result<SourceFile, IngestError> {
        // Held while hashing, so that two units of one file do not both read it.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(file) {
            return Ok(found.clone());
        }
        let name =
            self.names.get(file).ok_or_else(|| input_error(file, "is not one of the source's files"))?;
        let (bytes, blake3) = if file.is_dir() { hash_directory(file)? } else { size_and_hash(file)? };
        let hashed = SourceFile { name: name.clone(), bytes, blake3 };
        known.insert(file.to_path_buf(), hashed.clone());
        Ok(hashed)
    }
}

fn size_and_hash(file: &Path) -> Result<(u64, String), IngestError> {
    let bytes = std::fs::metadata(file).map_err(io_error("look at", file))?.len();
    Ok((bytes, hash_file(file)?))
}

/// Size and hash of a directory of very many small files, which would swell the manifest if each stood in it: the hash is that
/// of a list of names and hashes, sorted by name.
fn hash_directory(dir: &Path) -> Result<(u64, String), IngestError> {
    let (mut total, mut list) = (0, Vec::new());
    for file in sorted_dir(dir)?.into_iter().filter(|p| p.is_file()) {
        let (bytes, hash) = size_and_hash(&file)?;
        total += bytes;
        list.push(format!("{hash}  {}\n", file.file_name().unwrap_or_default().to_string_lossy()));
    }
    Ok((total, blake3::hash(list.concat().as_bytes()).to_hex().to_string()))
}
