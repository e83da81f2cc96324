//! Files in which ASE keeps structures: ASE-LMDB (`.aselmdb`), trajectories (`.traj`) and databases (`.db`).
//!
//! Ids are the entry that `--id-key` names, else `<file>/<number>`: the row's own number, or the frame's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use shards::FloatWidth;

use super::ase_row::Row;
use super::extxyz::missing_labels;
use super::labels::Labels;
use super::members::Membership;
use super::source_units::Factors;
use super::{Format, Options, ase_db, ase_lmdb, ase_traj, description};
use crate::error::{IngestError, input_error};
use crate::input::{Input, files, relative_names};
use crate::source::{Description, Sink, Source, Unit};

/// Structures of a unit: a large file is read by several threads.
const UNIT_ROWS: usize = 10_000;

/// A file whose rows can be read in any order.
pub(super) trait Rows {
    /// How many there are.
    fn len(&self) -> usize;

    /// The number that names a row in the file.
    fn number(&self, row: usize) -> u64;

    /// Reads a row. `Err` concerns this row alone.
    fn row(&mut self, row: usize) -> Result<Row, IngestError>;
}

fn open_rows(format: Format, path: &Path) -> Result<Box<dyn Rows>, IngestError> {
    Ok(match format {
        Format::Traj => Box::new(ase_traj::Trajectory::open(path)?),
        Format::Db => Box::new(ase_db::AseDatabase::open(path)?),
        _ => Box::new(ase_lmdb::AseLmdb::open(path)?),
    })
}

/// The opened files.
pub(super) struct AseFiles {
    format: Format,
    description: Description,
    parts: Vec<Part>,
    labels: Labels,
    factors: Factors,
    without_energy: AtomicU64,
    without_forces: AtomicU64,
    like_energy: Mutex<BTreeSet<String>>,
}

/// Rows of a file.
struct Part {
    path: PathBuf,
    name: String,
    first: usize,
    end: usize,
}

impl AseFiles {
    pub(super) fn open(format: Format, inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &[format.name()])?;
        let paths: Vec<PathBuf> = found.iter().map(|f| f.path.clone()).collect();
        let (mut units, mut parts, mut membership) = (vec![], vec![], Membership::default());
        for (file, relative) in found.iter().zip(relative_names(&paths)) {
            let rows = open_rows(format, &file.path)?.len();
            let end = format!(".{}", format.name());
            let name = relative.strip_suffix(&end).unwrap_or(&relative);
            for first in (0..rows).step_by(UNIT_ROWS) {
                let end = (first + UNIT_ROWS).min(rows);
                membership.add(file.split.as_deref(), units.len());
                let unit = if rows > UNIT_ROWS { format!("{name}[{first}..{end}]") } else { name.to_owned() };
                units.push(Unit {
                    name: unit,
                    files: vec![file.path.clone()],
                    structures: (end - first) as u64,
                });
                parts.push(Part { path: file.path.clone(), name: name.to_owned(), first, end });
            }
        }
        if units.is_empty() {
            return Err(input_error(&inputs[0].path, "the files hold no structures"));
        }
        let labels = options.labels.clone();
        let constants = labels.units.needs_constants().then_some(options.constants);
        let mut header = description::header(format, constants);
        header.source_units = Some(labels.units.described(options.constants));
        labels.describe(&mut header);
        let float = if options.narrow { FloatWidth::F32 } else { FloatWidth::F64 };
        let mut layout = description::layout(format, float);
        layout.targets = labels.columns();
        Ok(Self {
            format,
            description: Description { header, layout, units, splits: membership.into_splits() },
            parts,
            factors: labels.units.factors(options.constants),
            labels,
            without_energy: AtomicU64::new(0),
            without_forces: AtomicU64::new(0),
            like_energy: Mutex::default(),
        })
    }

    fn structure(&self, row: &Row, id: String, part: &Part) -> Result<shards::Structure, String> {
        let mut raw = row.raw(&self.labels, id)?;
        if raw.energy.is_none() && self.without_energy.fetch_add(1, Ordering::Relaxed) < 100 {
            let like = row.names().into_iter().filter(|k| k.to_lowercase().contains("energy"));
            self.like_energy.lock().unwrap_or_else(PoisonError::into_inner).extend(like);
        }
        self.without_forces.fetch_add(u64::from(raw.forces.is_none()), Ordering::Relaxed);
        if self.format == Format::Traj && raw.group.is_none() {
            // Frames of one trajectory are much alike: a split must not take them apart.
            raw.group = Some(part.name.clone());
        }
        raw.into_structure(self.factors, self.labels.tag_rule())
    }
}

impl Source for AseFiles {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let part = &self.parts[unit];
        let mut rows = open_rows(self.format, &part.path)?;
        for index in part.first..part.end.min(rows.len()) {
            let id = format!("{}/{}", part.name, rows.number(index));
            let wrap = |problem: String| format!("{}: {}: {problem}", part.path.display(), id);
            let result = match rows.row(index) {
                Ok(row) => self.structure(&row, id.clone(), part).map_err(wrap),
                Err(error) => Err(error.to_string()),
            };
            match result {
                Ok(structure) => sink.structure(structure)?,
                Err(reason) => sink.reject(&id, "unreadable", &reason)?,
            }
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        let energy = self.without_energy.load(Ordering::Relaxed);
        let forces = self.without_forces.load(Ordering::Relaxed);
        let like = self.like_energy.lock().unwrap_or_else(PoisonError::into_inner);
        let like: Vec<&str> = like.iter().map(String::as_str).collect();
        missing_labels(&self.labels, energy, forces, &like)
    }
}
