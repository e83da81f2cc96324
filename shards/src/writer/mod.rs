//! Writing a dataset: source units in any order on any thread, then the manifest.
//!
//! A killed conversion leaves finished units, each with its record below `.progress/`; a resumed one skips them.

mod columns;
mod unit;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
pub use unit::{Reject, UnitRecord, UnitWriter};

use crate::error::{ShardError, io_error};
use crate::layout::Layout;
use crate::manifest::{DatasetHeader, FILE_NAME, Manifest, SourceFile, write_durably};
use crate::reader::Dataset;
use crate::rejects;
use crate::schema::{self, SCHEMA_VERSION};
use crate::splits::{self, SplitDefinition};
use crate::verify::hash_file;

const PROGRESS: &str = ".progress";

/// A dataset that is being written.
#[derive(Debug)]
pub struct DatasetWriter {
    dir: PathBuf,
    plan: Plan,
    finished: BTreeMap<u32, UnitRecord>,
    /// Held as long as the writer lives.
    _lock: DirLock,
}

/// What a resumed conversion must agree on with the interrupted one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    tool: String,
    header: DatasetHeader,
    layout: Layout,
    units: Vec<String>,
}

impl DatasetWriter {
    /// Starts a dataset of the named source units in `dir`, or continues one there when `resume` is set.
    ///
    /// # Errors
    /// The directory holds a finished dataset, an unfinished one without `resume`, one with another plan, or other files.
    pub fn create(
        dir: impl AsRef<Path>,
        tool: &str,
        header: DatasetHeader,
        layout: Layout,
        units: Vec<String>,
        resume: bool,
    ) -> Result<Self, ShardError> {
        let dir = dir.as_ref().to_path_buf();
        let plan = Plan { tool: tool.to_string(), header, layout, units };
        let refuse =
            |problem: &str| Err(ShardError::Output { dir: dir.clone(), problem: problem.to_string() });
        check_layout(&dir, &plan.layout)?;
        fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        let lock = DirLock::take(&dir)?;
        if dir.join(FILE_NAME).exists() {
            return refuse("holds a finished dataset already; choose another directory or remove this one");
        }
        let progress = dir.join(PROGRESS);
        let plan_path = progress.join("plan.json");
        let mut finished = BTreeMap::new();
        if plan_path.exists() {
            if !resume {
                return refuse(
                    "holds an interrupted conversion; continue it with --resume, or remove the directory",
                );
            }
            let text = fs::read(&plan_path).map_err(io_error("read", &plan_path))?;
            if serde_json::from_slice::<Plan>(&text).ok().as_ref() != Some(&plan) {
                return refuse(
                    "holds an interrupted conversion of other input or with other options; give the same, or remove the directory",
                );
            }
            finished = read_records(&progress, plan.units.len())?;
        } else {
            if holds_files(&dir)? {
                return refuse("holds other files; choose an empty or new directory");
            }
            for new in [dir.join("data"), dir.join("splits"), progress.clone()] {
                fs::create_dir_all(&new).map_err(io_error("create", &new))?;
            }
            let failed = |e: serde_json::Error| ShardError::Io {
                action: "write",
                path: plan_path.clone(),
                source: e.into(),
            };
            let text = serde_json::to_string_pretty(&plan).map_err(failed)?;
            write_durably(&plan_path, text.as_bytes())?;
        }
        Ok(Self { dir, plan, finished, _lock: lock })
    }

    /// The record of a unit that an earlier run finished.
    pub fn finished(&self, unit: u32) -> Option<&UnitRecord> {
        self.finished.get(&unit)
    }

    /// Starts writing a unit. Units may be written at the same time by several threads.
    pub fn unit(&self, unit: u32) -> Result<UnitWriter<'_>, ShardError> {
        let unplanned = || ShardError::Output {
            dir: self.dir.clone(),
            problem: format!("unit {unit} is not planned; there are {}", self.plan.units.len()),
        };
        let name = self.plan.units.get(unit as usize).ok_or_else(unplanned)?;
        UnitWriter::create(
            &self.dir,
            &self.plan.layout,
            unit,
            name,
            record_path(&self.dir.join(PROGRESS), unit),
        )
    }

    /// Makes splits, measures them and writes the manifest last. `make_splits` sees the rows in their final order.
    pub fn finish(
        self,
        records: Vec<UnitRecord>,
        make_splits: impl FnOnce(&Dataset) -> Result<Vec<SplitDefinition>, ShardError>,
    ) -> Result<Manifest, ShardError> {
        if records.len() != self.plan.units.len() {
            let problem = format!("{} of {} units are finished", records.len(), self.plan.units.len());
            return Err(ShardError::Output { dir: self.dir, problem });
        }
        let mut parts: Vec<_> = records.iter().filter_map(|r| r.part.clone()).collect();
        parts.sort_by_key(|p| p.unit);
        let mut sources: Vec<SourceFile> = records.iter().flat_map(|r| r.sources.clone()).collect();
        sources.sort();
        sources.dedup();
        if let Some(pair) = sources.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let problem = format!(
                "`{}` changed while it was converted; remove the directory and convert again",
                pair[0].name
            );
            return Err(ShardError::Output { dir: self.dir, problem });
        }
        let rejected: Vec<Reject> = records.into_iter().flat_map(|r| r.rejects).collect();
        let manifest = Manifest {
            schema_version: SCHEMA_VERSION,
            tool: self.plan.tool.clone(),
            dataset: self.plan.header.clone(),
            layout: self.plan.layout.clone(),
            sources,
            rows: parts.iter().map(|p| p.rows).sum(),
            atoms: parts.iter().map(|p| p.atoms).sum(),
            parts,
            rejects: unit::count_rejects(rejected.iter()),
            rejects_blake3: None,
            splits: BTreeMap::new(),
            hash: String::new(),
        };
        let dataset = Dataset::assemble(self.dir.clone(), manifest);
        let definitions = make_splits(&dataset)?;
        let records = splits::measure_and_write(&dataset, definitions)?;
        let mut manifest = dataset.into_manifest();
        if !rejected.is_empty() {
            manifest.rejects_blake3 = Some(rejects::write(&self.dir, &rejected)?);
        }
        manifest.splits = records;
        manifest.write(&self.dir)?;
        // The dataset is complete; what may be left of this folder does no harm.
        let _ = fs::remove_dir_all(self.dir.join(PROGRESS));
        Ok(manifest)
    }
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

/// Rules that the columns rely on.
fn check_layout(dir: &Path, layout: &Layout) -> Result<(), ShardError> {
    let refuse = |problem: String| Err(ShardError::Output { dir: dir.to_path_buf(), problem });
    if layout.row_group_rows == 0 {
        return refuse("row groups of 0 rows; at least 1 is needed".into());
    }
    if layout.neighbors.limit(&layout.graph).is_some_and(|limit| limit > u32::from(u16::MAX)) {
        return refuse(
            "more than 65535 stored neighbours an atom; lower the number, or convert with --neighbors none"
                .into(),
        );
    }
    for (k, target) in layout.targets.iter().enumerate() {
        if schema::is_reserved(&target.name) || layout.targets[..k].iter().any(|t| t.name == target.name) {
            return refuse(format!("target `{}` has the name of another column", target.name));
        }
    }
    Ok(())
}

/// Keeps other writers out of a dataset's directory; the system lets go of it when the process ends, however that is.
#[derive(Debug)]
pub(crate) struct DirLock(#[allow(dead_code, reason = "held, not read")] fs::File);

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, ShardError> {
        let file = fs::File::open(dir).map_err(io_error("open", dir))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(fs::TryLockError::WouldBlock) => Err(ShardError::Output {
                dir: dir.to_path_buf(),
                problem: "another jmp-ingest is writing here; wait for it or choose another directory".into(),
            }),
            Err(fs::TryLockError::Error(source)) => {
                Err(ShardError::Io { action: "lock", path: dir.to_path_buf(), source })
            }
        }
    }
}

fn record_path(progress: &Path, unit: u32) -> PathBuf {
    progress.join(format!("unit-{unit:05}.json"))
}

/// Records of finished units. A unit whose record or file is missing or damaged is converted again.
fn read_records(progress: &Path, units: usize) -> Result<BTreeMap<u32, UnitRecord>, ShardError> {
    let mut finished = BTreeMap::new();
    for unit in 0..units as u32 {
        let path = record_path(progress, unit);
        if !path.exists() {
            continue;
        }
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        let Ok(record) = serde_json::from_slice::<UnitRecord>(&text) else { continue };
        let whole = record.part.as_ref().is_none_or(|part| {
            let file = progress.with_file_name("data").join(&part.file);
            hash_file(&file).is_ok_and(|found| found == part.blake3)
        });
        if whole {
            finished.insert(unit, record);
        }
    }
    Ok(finished)
}
