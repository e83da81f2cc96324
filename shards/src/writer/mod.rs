//! Writing a dataset: source units in any order on any thread, then the manifest.
//!
//! A killed conversion leaves finished units, each with its record below `.progress/`; a resumed one skips them. Units may
//! also be finished elsewhere, as partitions, and taken over ([`DatasetWriter::adopt`]).

mod columns;
mod finish;
mod lock;
mod plan;
mod record;
mod times;
mod unit;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub use finish::DuplicateIds;
pub(crate) use lock::DirLock;
pub use plan::Plan;
use record::keys_path;
pub use record::{ReadFile, Reject, UnitRecord};
use times::SharedTimes;
pub use times::Times;
pub use unit::UnitWriter;

use crate::checks::keys;
use crate::error::{ShardError, io_error};
use crate::manifest::{FILE_NAME, PARTITION_FILE, part_file};
use crate::verify::hash_file;

const PROGRESS: &str = ".progress";

/// A dataset that is being written.
#[derive(Debug)]
pub struct DatasetWriter {
    dir: PathBuf,
    plan: Plan,
    finished: BTreeSet<u32>,
    times: SharedTimes,
    /// Held as long as the writer lives.
    _lock: DirLock,
}

impl DatasetWriter {
    /// Starts a dataset in `dir`, or continues one there when `resume` is set.
    ///
    /// # Errors
    /// The directory holds a finished dataset, an unfinished one without `resume`, one with another plan, or other files.
    pub fn create(dir: impl AsRef<Path>, plan: Plan, resume: bool) -> Result<Self, ShardError> {
        let dir = dir.as_ref().to_path_buf();
        let refuse =
            |problem: &str| Err(ShardError::Output { dir: dir.clone(), problem: problem.to_string() });
        plan.check(&dir)?;
        fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        let lock = DirLock::take(&dir)?;
        if dir.join(FILE_NAME).exists() {
            return refuse("holds a finished dataset already; choose another directory or remove this one");
        }
        if dir.join(PARTITION_FILE).exists() {
            return refuse("holds a finished partition already; choose another directory or remove this one");
        }
        let progress = dir.join(PROGRESS);
        let plan_path = progress.join("plan.json");
        let mut finished = BTreeSet::new();
        if plan_path.exists() {
            if !resume {
                return refuse(
                    "holds an interrupted conversion; continue it with --resume, or remove the directory",
                );
            }
            if Plan::read(&plan_path)?.as_ref() != Some(&plan) {
                return refuse(
                    "holds an interrupted conversion of other input or with other options; give the same, or remove the directory",
                );
            }
            finished = finished_units(&dir, plan.units.len())?;
        } else {
            if holds_files(&dir)? {
                return refuse("holds other files; choose an empty or new directory");
            }
            for new in [dir.join("data"), dir.join("splits"), progress.clone()] {
                fs::create_dir_all(&new).map_err(io_error("create", &new))?;
            }
            plan.write(&plan_path)?;
        }
        Ok(Self { dir, plan, finished, times: SharedTimes::default(), _lock: lock })
    }

    /// What the dataset will be.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The record of a unit that an earlier run finished.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn finished(&self, unit: u32) -> Result<Option<UnitRecord>, ShardError> {
        if self.finished.contains(&unit) { self.record(unit).map(Some) } else { Ok(None) }
    }

    /// How many units an earlier run finished.
    pub fn finished_units(&self) -> usize {
        self.finished.len()
    }

    /// The record of a finished unit.
    ///
    /// # Errors
    /// When it is not finished.
    pub fn record(&self, unit: u32) -> Result<UnitRecord, ShardError> {
        UnitRecord::read(&self.progress(), unit)?.ok_or_else(|| ShardError::Output {
            dir: self.dir.clone(),
            problem: format!(
                "unit {unit} of {} is not finished; continue with --resume",
                self.plan.units.len()
            ),
        })
    }

    /// Starts writing a unit. Units may be written at the same time by several threads.
    ///
    /// # Errors
    /// When the unit is not planned, or its file cannot be created.
    pub fn unit(&self, unit: u32) -> Result<UnitWriter<'_>, ShardError> {
        if unit as usize >= self.plan.units.len() {
            let problem = format!("unit {unit} is not planned; there are {}", self.plan.units.len());
            return Err(ShardError::Output { dir: self.dir.clone(), problem });
        }
        UnitWriter::create(self, unit)
    }

    /// Takes over a unit that was finished in another directory: its part, row keys and record, linked where the file system
    /// can, else copied.
    ///
    /// # Errors
    /// When that directory lacks the unit, or holds it damaged.
    pub fn adopt(&self, from: &Path, unit: u32) -> Result<(), ShardError> {
        if self.finished.contains(&unit) {
            return Ok(());
        }
        let progress = from.join(PROGRESS);
        let missing = || ShardError::Output {
            dir: from.to_path_buf(),
            problem: format!("unit {unit} is not finished in this partition; convert it with --resume"),
        };
        let record = UnitRecord::read(&progress, unit)?.ok_or_else(missing)?;
        if let Some(part) = &record.part {
            if part.file != part_file(unit) {
                return Err(ShardError::Corrupt {
                    path: progress,
                    what: format!("file of unit {unit}"),
                    expected: part_file(unit),
                    found: part.file.clone(),
                });
            }
            let source = from.join("data").join(&part.file);
            let found = hash_file(&source)?;
            if found != part.blake3 {
                return Err(ShardError::Corrupt {
                    path: source,
                    what: "BLAKE3".into(),
                    expected: part.blake3.clone(),
                    found,
                });
            }
            take(&source, &self.dir.join("data").join(&part.file))?;
            keys::read(&keys_path(&progress, unit), part.rows)?;
            take(&keys_path(&progress, unit), &keys_path(&self.progress(), unit))?;
        }
        record.write(&self.progress(), unit)
    }

    /// What the threads have spent their time on so far.
    pub fn times(&self) -> Times {
        self.times.get()
    }

    fn progress(&self) -> PathBuf {
        self.dir.join(PROGRESS)
    }
}

/// The plan of an unfinished dataset or a partition.
///
/// # Errors
/// When the directory holds neither.
pub fn plan_of(dir: &Path) -> Result<Plan, ShardError> {
    let path = dir.join(PROGRESS).join("plan.json");
    Plan::read(&path)?.ok_or_else(|| ShardError::Corrupt {
        path,
        what: "content".into(),
        expected: "the plan of a conversion by this version".into(),
        found: "something else".into(),
    })
}

/// Links a file, or copies it where that cannot be done.
fn take(from: &Path, to: &Path) -> Result<(), ShardError> {
    if to.exists() {
        fs::remove_file(to).map_err(io_error("replace", to))?;
    }
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let temporary = to.with_extension("tmp");
    fs::copy(from, &temporary).map_err(io_error("copy to", &temporary))?;
    fs::File::open(&temporary).and_then(|f| f.sync_all()).map_err(io_error("sync", &temporary))?;
    fs::rename(&temporary, to).map_err(io_error("rename into place", to))
}

/// Whether a directory holds anything but what a conversion makes before its plan.
fn holds_files(dir: &Path) -> Result<bool, ShardError> {
    let ours = ["data", "splits", PROGRESS];
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        let empty =
            || fs::read_dir(&path).is_ok_and(|inner| inner.flatten().all(|e| e.file_name() == "plan.tmp"));
        if !ours.iter().any(|name| path.ends_with(name)) || !empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Units with a record and undamaged files. A unit of which something is missing or damaged is converted again.
fn finished_units(dir: &Path, units: usize) -> Result<BTreeSet<u32>, ShardError> {
    let progress = dir.join(PROGRESS);
    let mut finished = BTreeSet::new();
    for unit in 0..units as u32 {
        let Some(record) = UnitRecord::read(&progress, unit)? else { continue };
        let whole = record.part.as_ref().is_none_or(|part| {
            let file = dir.join("data").join(&part.file);
            hash_file(&file).is_ok_and(|found| found == part.blake3)
                && keys::read(&keys_path(&progress, unit), part.rows).is_ok()
        });
        if whole {
            finished.insert(unit);
        }
    }
    Ok(finished)
}
