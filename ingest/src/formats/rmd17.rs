//! Revised MD17: one npz a molecule, energies in kcal/mol, forces in kcal/mol/Å.
//!
//! Ids are `<molecule>/<old_index>`, the frame's number in the original MD17. Splits: a file given or named as a part (such as
//! `rmd17_ethanol_train_01.npz`) is a split by itself; for the whole file, the published index lists beside it and JMP's own
//! shuffle.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use shards::legacy_shuffle::permutation;
use shards::units::Constants;
use shards::{FloatWidth, Floats, Structure};

use super::{Format, Options, description};
use crate::array::Array;
use crate::error::{IngestError, array_error, input_error, io_error};
use crate::input::{Input, files};
use crate::npz::{Npz, NpzError};
use crate::source::{Description, Members, Sink, Source, SplitPlan, Unit};

/// Rows of a unit.
const UNIT_ROWS: usize = 10_000;
/// The part of JMP's training rows that is held out for validation, truncated to whole rows.
const VALIDATION_FRACTION: f64 = 0.05;

/// The opened files of one molecule.
pub(super) struct Rmd17 {
    description: Description,
    /// File and rows of each unit.
    parts: Vec<(usize, usize, usize)>,
    files: Vec<MoleculeFile>,
    kcal_mol_ev: f64,
    molecule: String,
}

/// A file, and its arrays while some thread uses them.
struct MoleculeFile {
    path: PathBuf,
    frames: Mutex<Weak<Frames>>,
}

/// The arrays of a file.
struct Frames {
    atomic_numbers: Vec<u8>,
    positions: Array<'static>,
    energies: Vec<f64>,
    forces: Array<'static>,
    old_indices: Vec<i64>,
}

impl Rmd17 {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &["npz"])?;
        let (mut units, mut parts, mut molecule_files, mut splits) = (vec![], vec![], vec![], vec![]);
        let mut first: Option<(String, Vec<u8>)> = None;
        for file in &found {
            let (molecule, part) = names(&file.path)?;
            let frames = Frames::read(&file.path)?;
            match &first {
                None => first = Some((molecule.clone(), frames.atomic_numbers.clone())),
                Some((known, numbers)) if *known != molecule || *numbers != frames.atomic_numbers => {
                    let problem = format!(
                        "holds {molecule}, but {} holds {known}: convert each molecule into its own dataset",
                        found[0].path.display()
                    );
                    return Err(input_error(&file.path, problem));
                }
                Some(_) => {}
            }
            let begin = units.len() as u32;
            let rows = frames.energies.len();
            let stem = file.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            for start in (0..rows).step_by(UNIT_ROWS) {
                let end = (start + UNIT_ROWS).min(rows);
                let name = if rows > UNIT_ROWS { format!("{stem}[{start}..{end}]") } else { stem.clone() };
                units.push(Unit { name, files: vec![file.path.clone()], structures: (end - start) as u64 });
                parts.push((molecule_files.len(), start, end));
            }
            let all = begin..units.len() as u32;
            if let Some(name) = file.split.clone().or(part) {
                splits.push(file_split(name, all));
            } else {
                let made = whole_file_splits(&file.path, &molecule, &frames, options)?;
                if made.is_empty() {
                    splits.push(file_split("all".to_owned(), all));
                }
                splits.extend(made);
            }
            molecule_files.push(MoleculeFile { path: file.path.clone(), frames: Mutex::new(Weak::new()) });
        }
        let molecule = first.map(|f| f.0).unwrap_or_default();
        let mut header = description::header(Format::Rmd17, Some(options.constants));
        header.name = format!("rmd17-{molecule}");
        header.choices.insert("molecule".to_owned(), molecule.clone());
        let float = if options.narrow { FloatWidth::F32 } else { FloatWidth::F64 };
        let layout = description::layout(Format::Rmd17, float);
        let kcal_mol_ev = Constants::of(options.constants).kcal_mol_ev;
        Ok(Self {
            description: Description { header, layout, units, splits: merge(splits) },
            parts,
            files: molecule_files,
            kcal_mol_ev,
            molecule,
        })
    }

    fn frames(&self, file: usize) -> Result<Arc<Frames>, IngestError> {
        let MoleculeFile { path, frames } = &self.files[file];
        let mut held = frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frames) = held.upgrade() {
            return Ok(frames);
        }
        let read = Arc::new(Frames::read(path)?);
        *held = Arc::downgrade(&read);
        Ok(read)
    }
}

impl Frames {
    fn read(path: &Path) -> Result<Self, IngestError> {
        let wrap = |source: NpzError| IngestError::Npz { path: path.to_path_buf(), source: Box::new(source) };
        let mut npz = Npz::open(path).map_err(wrap)?;
        let mut array = |name: &str| npz.array(name).map_err(wrap);
        let numbers = array("nuclear_charges")?;
        let (positions, energies, forces) = (array("coords")?, array("energies")?, array("forces")?);
        let old_indices = array("old_indices")?;
        let (frames, atoms) = (energies.len(), numbers.len());
        for (key, array, shape) in [
            ("coords", &positions, vec![frames, atoms, 3]),
            ("forces", &forces, vec![frames, atoms, 3]),
            ("old_indices", &old_indices, vec![frames]),
        ] {
            if array.shape() != shape {
                return Err(IngestError::Malformed {
                    path: path.to_path_buf(),
                    place: format!("{frames} energies of {atoms} atoms").into(),
                    key: key.into(),
                    expected: format!("shape {shape:?}"),
                    found: format!("{:?}", array.shape()),
                });
            }
        }
        let integers = |a: &Array<'_>, key: &str| a.to_i64().map_err(array_error(path, "the archive", key));
        let charges = integers(&numbers, "nuclear_charges")?;
        let atomic_numbers: Option<Vec<u8>> = charges.iter().map(|&z| u8::try_from(z).ok()).collect();
        let Some(atomic_numbers) = atomic_numbers else {
            return Err(input_error(path, format!("nuclear_charges {charges:?} are no atomic numbers")));
        };
        let old_indices = integers(&old_indices, "old_indices")?;
        Ok(Self { atomic_numbers, positions, energies: energies.to_f64(), forces, old_indices })
    }
}

impl Source for Rmd17 {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let (file, start, end) = self.parts[unit];
        let frames = self.frames(file)?;
        let width = 3 * frames.atomic_numbers.len();
        let positions = frames.positions.rows(start, end).to_f64();
        let forces = Floats::F64(frames.forces.rows(start, end).to_f64()).scaled(self.kcal_mol_ev).to_f64();
        for (i, row) in (start..end).enumerate() {
            let here = i * width..(i + 1) * width;
            sink.structure(Structure {
                id: format!("{}/{}", self.molecule, frames.old_indices[row]),
                group: format!("{}/{}", self.molecule, frames.old_indices[row]),
                atomic_numbers: frames.atomic_numbers.clone(),
                positions: Floats::F64(positions[here.clone()].to_vec()),
                cell: None,
                pbc: [false; 3],
                tags: None,
                fixed: None,
                charge: None,
                spin: None,
                energy: Some(frames.energies[row] * self.kcal_mol_ev),
                forces: Some(Floats::F64(forces[here].to_vec())),
                stress: None,
                targets: vec![],
            })?;
        }
        Ok(())
    }
}

/// `rmd17_ethanol_train_01.npz` → the molecule and, if the name goes on, the part.
fn names(path: &Path) -> Result<(String, Option<String>), IngestError> {
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let Some(rest) = stem.strip_prefix("rmd17_").filter(|r| !r.is_empty()) else {
        return Err(input_error(
            path,
            "expected a file named rmd17_<molecule>.npz, which tells the molecule",
        ));
    };
    let (molecule, part) = rest.split_once('_').map_or((rest, None), |(m, p)| (m, Some(p.to_owned())));
    Ok((molecule.to_owned(), part))
}

fn file_split(name: String, units: std::ops::Range<u32>) -> SplitPlan {
    let algorithm = "all rows of the files given under this name, or named so".to_owned();
    SplitPlan { name, algorithm, seed: None, members: Members::Units(units.collect()) }
}

/// Files given under one name make one split.
fn merge(plans: Vec<SplitPlan>) -> Vec<SplitPlan> {
    let mut merged: Vec<SplitPlan> = Vec::new();
    for plan in plans {
        match (merged.iter_mut().find(|m| m.name == plan.name).map(|m| &mut m.members), &plan.members) {
            (Some(Members::Units(known)), Members::Units(more)) => known.extend(more),
            _ => merged.push(plan),
        }
    }
    merged
}

/// The published index lists beside a whole file, and JMP's own split of it.
fn whole_file_splits(
    path: &Path,
    molecule: &str,
    frames: &Frames,
    options: &Options,
) -> Result<Vec<SplitPlan>, IngestError> {
    let id = |row: usize| format!("{molecule}/{}", frames.old_indices[row]);
    let mut splits = Vec::new();
    for (name, list) in published_lists(path) {
        let rows = read_index(&list, frames.energies.len())?;
        splits.push(SplitPlan {
            name,
            algorithm: format!("published list {}", list.file_name().unwrap_or_default().to_string_lossy()),
            seed: None,
            members: Members::Ids(rows.into_iter().map(id).collect()),
        });
    }
    let (rows, total) = (frames.energies.len(), options.train_total as usize);
    if total >= rows {
        return Ok(splits);
    }
    let order = permutation(rows as u32, options.seed);
    let train = total - (total as f64 * VALIDATION_FRACTION) as usize;
    let cuts = [("train", 0..train), ("val", train..total), ("test", total..rows)];
    let algorithm = format!(
        "JMP: rows shuffled by numpy's RandomState({}); the first {train} train, the next {} val, the rest test",
        options.seed,
        total - train
    );
    splits.extend(cuts.map(|(name, range)| SplitPlan {
        name: name.to_owned(),
        algorithm: algorithm.clone(),
        seed: Some(u64::from(options.seed)),
        members: Members::Ids(order[range].iter().map(|&row| id(row as usize)).collect::<BTreeSet<_>>()),
    }));
    Ok(splits)
}

/// `splits/index_<name>.csv` beside the directory of the npz files, as the archive unpacks.
fn published_lists(path: &Path) -> Vec<(String, PathBuf)> {
    let Some(dir) = path.parent().and_then(Path::parent).map(|d| d.join("splits")) else { return Vec::new() };
    let entries = crate::input::sorted_dir(&dir).unwrap_or_default();
    let named = entries.into_iter().filter_map(|p| {
        let name = p.file_name()?.to_str()?.strip_prefix("index_")?.strip_suffix(".csv")?.to_owned();
        Some((name, p))
    });
    named.collect()
}

fn read_index(path: &Path, rows: usize) -> Result<Vec<usize>, IngestError> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let number = |(at, line): (usize, &str)| {
        let row = line.trim().parse().ok().filter(|&row: &usize| row < rows);
        row.ok_or_else(|| {
            input_error(path, format!("line {}: expected a row number below {rows}, found {line:?}", at + 1))
        })
    };
    lines.map(number).collect()
}
