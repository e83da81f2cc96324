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
use crate::schema::SCHEMA_VERSION;
use crate::splits::{self, SplitDefinition};

const PROGRESS: &str = ".progress";

/// A dataset that is being written.
#[derive(Debug)]
pub struct DatasetWriter {
    dir: PathBuf,
    plan: Plan,
    finished: BTreeMap<u32, UnitRecord>,
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
            let occupied = fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some());
            if occupied {
                return refuse("holds other files; choose an empty or new directory");
            }
            for new in [dir.join("data"), dir.join("splits"), progress.clone()] {
                fs::create_dir_all(&new).map_err(io_error("create", &new))?;
            }
            let text = serde_json::to_string_pretty(&plan).unwrap_or_default();
            write_durably(&plan_path, text.as_bytes())?;
        }
        Ok(Self { dir, plan, finished })
    }

    /// The record of a unit that an earlier run finished.
    pub fn finished(&self, unit: u32) -> Option<&UnitRecord> {
        self.finished.get(&unit)
    }

    /// Starts writing a unit. Units may be written at the same time by several threads.
    pub fn unit(&self, unit: u32) -> Result<UnitWriter<'_>, ShardError> {
        let name = self.plan.units.get(unit as usize).map_or("", String::as_str);
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
        let mut parts: Vec<_> = records.iter().filter_map(|r| r.part.clone()).collect();
        parts.sort_by_key(|p| p.unit);
        let mut sources: Vec<SourceFile> = records.iter().flat_map(|r| r.sources.clone()).collect();
        sources.sort();
        sources.dedup();
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
            splits: BTreeMap::new(),
            hash: String::new(),
        };
        let dataset = Dataset::assemble(self.dir.clone(), manifest);
        let definitions = make_splits(&dataset)?;
        let records = splits::measure_and_write(&dataset, definitions)?;
        if !rejected.is_empty() {
            rejects::write(&self.dir, &rejected)?;
        }
        let mut manifest = dataset.into_manifest();
        manifest.splits = records;
        manifest.write(&self.dir)?;
        let progress = self.dir.join(PROGRESS);
        fs::remove_dir_all(&progress).map_err(io_error("remove", &progress))?;
        Ok(manifest)
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
            fs::metadata(&file).is_ok_and(|m| m.len() == part.bytes)
        });
        if whole {
            finished.insert(unit, record);
        }
    }
    Ok(finished)
}
