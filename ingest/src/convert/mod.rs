//! A source → a dataset on disk.
//!
//! Units are read by as many threads as wanted, each written to its own file; rows, parts and splits follow the order of the
//! units, so the bytes do not depend on the number of threads. What is finished stays: a stopped or killed conversion is
//! continued with [`Settings::resume`]. Several machines may share the units, see [`crate::partition`].

mod profile;
mod sink;
mod sources;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use profile::Profile;
use shards::linear_reference::GivenReference;
use shards::writer::{DatasetWriter, DuplicateIds, Plan};
use shards::{Manifest, NeighborStorage};
use sink::UnitSink;
use sources::SourceHashes;

use crate::error::IngestError;
use crate::filter::Filter;
use crate::partition::{Partition, Share};
use crate::source::{Source, SplitPlan};
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
    /// Structures that are left out on purpose.
    pub filters: Vec<Filter>,
    /// A published reference for the energy, instead of a fit.
    pub reference: Option<GivenReference>,
    /// What to do with ids that come more than once.
    pub duplicate_ids: DuplicateIds,
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
    /// Where the time went.
    pub profile: Profile,
}

/// What came out of one partition.
#[derive(Debug)]
pub struct PartitionOutcome {
    /// What was written about it.
    pub partition: Partition,
    /// Structures stored.
    pub structures: u64,
    /// Structures left out.
    pub left_out: u64,
    /// Units that an earlier run had finished.
    pub resumed_units: usize,
    /// Where the time went.
    pub profile: Profile,
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
    let start = Instant::now();
    let writer = DatasetWriter::create(&settings.output, plan(source, settings), settings.resume)?;
    let all: Vec<usize> = (0..source.units().len()).collect();
    let (resumed_units, mut profile) = write_units(source, settings, &writer, &all, progress, stop)?;
    progress.measuring();
    let measuring = Instant::now();
    let (manifest, mut warnings) = finish(writer, settings.duplicate_ids, source.splits())?;
    profile.measure = measuring.elapsed().as_secs_f64();
    profile.wall = start.elapsed().as_secs_f64();
    warnings.splice(0..0, source.warnings());
    Ok(Outcome { manifest, resumed_units, warnings, profile })
}

/// Converts one machine's share of a source's units.
///
/// # Errors
/// As [`convert`].
pub fn convert_partition(
    source: &dyn Source,
    settings: &Settings,
    share: Share,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<PartitionOutcome, IngestError> {
    let start = Instant::now();
    let writer = DatasetWriter::create(&settings.output, plan(source, settings), settings.resume)?;
    let units = share.units(source.units());
    let (resumed_units, mut profile) = write_units(source, settings, &writer, &units, progress, stop)?;
    let (mut structures, mut left_out) = (0, 0);
    for &unit in &units {
        let record = writer.record(unit as u32)?;
        structures += record.rows();
        left_out += record.rejects.len() as u64;
    }
    let partition = Partition {
        version: crate::partition::VERSION,
        share,
        units: units.iter().map(|&u| u as u32).collect(),
        splits: source.splits().to_vec(),
        max_rejects: settings.max_rejects,
        allow_duplicate_ids: settings.duplicate_ids == DuplicateIds::Allow,
        warnings: source.warnings(),
    };
    partition.write(&settings.output)?;
    profile.wall = start.elapsed().as_secs_f64();
    Ok(PartitionOutcome { partition, structures, left_out, resumed_units, profile })
}

/// What all runs of a conversion, and all its partitions, must agree on.
fn plan(source: &dyn Source, settings: &Settings) -> Plan {
    let mut layout = source.layout().clone();
    layout.neighbors = settings.neighbors.unwrap_or(layout.neighbors);
    let mut header = source.header().clone();
    if !settings.filters.is_empty() {
        let texts: Vec<String> = settings.filters.iter().map(Filter::to_string).collect();
        header.choices.insert("filter".to_owned(), texts.join(", "));
    }
    if let Some(reference) = &settings.reference {
        let text = format!("{} (BLAKE3 {})", reference.file, reference.blake3);
        header.choices.insert("linear_reference".to_owned(), text);
    }
    Plan {
        tool: TOOL.to_owned(),
        header,
        layout,
        units: source.units().iter().map(|u| u.name.clone()).collect(),
        reference: settings.reference.clone(),
    }
}

/// From finished units to a dataset; returns warnings with it.
pub(crate) fn finish(
    writer: DatasetWriter,
    duplicate_ids: DuplicateIds,
    plans: &[SplitPlan],
) -> Result<(Manifest, Vec<String>), IngestError> {
    let mut empty = Vec::new();
    let manifest = writer.finish(duplicate_ids, |dataset| {
        let definitions = resolve(dataset, plans)?;
        let made = |name: &String| definitions.iter().any(|d| d.name == *name);
        empty = plans.iter().map(|p| p.name.clone()).filter(|n| !made(n)).collect();
        Ok(definitions)
    })?;
    let no_rows = |name| format!("split `{name}` has no rows and was not made");
    let mut warnings: Vec<String> = empty.into_iter().map(no_rows).collect();
    let consistency = manifest.checks.as_ref().and_then(|c| c.consistency);
    warnings.extend(consistency.and_then(|c| c.fault()));
    Ok((manifest, warnings))
}

/// Writes units that are not finished yet; returns how many were, and where the time went.
fn write_units(
    source: &dyn Source,
    settings: &Settings,
    writer: &DatasetWriter,
    units: &[usize],
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<(usize, Profile), IngestError> {
    let run = Run {
        source,
        settings,
        writer,
        progress,
        stop,
        failed: AtomicBool::new(false),
        rejects: AtomicU64::new(0),
        hashes: SourceHashes::new(source),
        parse: AtomicU64::new(0),
        hash: AtomicU64::new(0),
    };
    let resumed = run.resume(units)?;
    run.write(units, settings.jobs)?;
    let time = |sum: &AtomicU64| Duration::from_nanos(sum.load(Ordering::Relaxed));
    Ok((resumed, Profile::new(writer.times(), time(&run.parse), time(&run.hash))))
}

struct Run<'a> {
    source: &'a dyn Source,
    settings: &'a Settings,
    writer: &'a DatasetWriter,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    failed: AtomicBool,
    rejects: AtomicU64,
    hashes: SourceHashes,
    /// Nanoseconds over all threads.
    parse: AtomicU64,
    hash: AtomicU64,
}

impl Run<'_> {
    /// Takes account of the units that an earlier run finished, whose source files must be the same today.
    fn resume(&self, units: &[usize]) -> Result<usize, IngestError> {
        let mut count = 0;
        for &unit in units {
            let Some(record) = self.writer.finished(unit as u32)? else { continue };
            self.hashes.compare(&self.source.units()[unit].files, &record)?;
            self.rejects.fetch_add(record.unusable, Ordering::Relaxed);
            self.progress.resumed(record.rows() + record.rejects.len() as u64);
            count += 1;
        }
        Ok(count)
    }

    /// Converts the units in their order, `jobs` at a time. Of several errors, that of the first unit is returned.
    fn write(&self, units: &[usize], jobs: usize) -> Result<(), IngestError> {
        let next = AtomicUsize::new(0);
        let errors: Mutex<BTreeMap<usize, IngestError>> = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, units.len().max(1)) {
                scope.spawn(|| {
                    while let Some(&unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let result =
                            if self.stopped() { Err(IngestError::Interrupted) } else { self.unit(unit) };
                        if let Err(error) = result {
                            self.failed.store(true, Ordering::Relaxed);
                            errors.lock().unwrap_or_else(PoisonError::into_inner).insert(unit, error);
                            break;
                        }
                    }
                });
            }
        });
        let errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        // A thread that stopped because another failed reports an interruption, which explains nothing.
        let mut interrupted = false;
        for error in errors.into_values() {
            match error {
                IngestError::Interrupted => interrupted = true,
                error => return Err(error),
            }
        }
        if interrupted { Err(IngestError::Interrupted) } else { Ok(()) }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    fn unit(&self, unit: usize) -> Result<(), IngestError> {
        if self.writer.finished(unit as u32)?.is_some() {
            return Ok(());
        }
        let mut sink = UnitSink::new(self, unit, self.writer.unit(unit as u32)?);
        let start = Instant::now();
        self.source.read(unit, &mut sink)?;
        let reading = start.elapsed().saturating_sub(sink.inside);
        self.parse.fetch_add(reading.as_nanos() as u64, Ordering::Relaxed);
        sink.report();
        let start = Instant::now();
        let files = self.hashes.of(&self.source.units()[unit].files)?;
        self.hash.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        sink.writer.finish(files)?;
        Ok(())
    }
}
