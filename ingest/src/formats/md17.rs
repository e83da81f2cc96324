//! Trajectories of one molecule: MD17, revised MD17 and MD22, an npz each, energies in kcal/mol, forces in kcal/mol/Å.
//!
//! Ids are `<molecule>/<old_index>` where the file has the frames' numbers in MD17, else `<molecule>/<row>`. Splits: a file
//! given or named as a part (such as `rmd17_ethanol_train_01.npz`) is a split by itself; for a whole file, the published
//! index lists beside it, JMP's own shuffle, and fifty rows of its training set.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use shards::units::Constants;
use shards::{FloatWidth, Floats, Structure};

use super::md17_frames::{Contents, Frames};
use super::members::Membership;
use super::{Format, Options, description, md17_splits, molecule_name};
use crate::error::{IngestError, input_error};
use crate::input::{Input, SplitFile, files};
use crate::source::{Description, Sink, Source, Unit};

/// Rows of a unit.
const UNIT_ROWS: usize = 10_000;
/// Rows of JMP's training and validation sets together, for the molecules of MD17.
pub(super) const TRAIN_TOTAL: u64 = 1000;

/// The opened files of one molecule.
pub(super) struct MolecularDynamics {
    description: Description,
    /// File and rows of each unit.
    parts: Vec<(usize, usize, usize)>,
    files: Vec<MoleculeFile>,
    kcal_mol_ev: f64,
}

/// A file, and its arrays from the first unit that needs them to the last.
struct MoleculeFile {
    path: PathBuf,
    contents: Contents,
    /// Ids begin with it.
    prefix: String,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    frames: Option<Arc<Frames>>,
    units_left: usize,
}

impl MolecularDynamics {
    pub(super) fn open(format: Format, inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &["npz"])?;
        let mut source = Self {
            description: Description {
                header: description::header(format, Some(options.constants)),
                layout: description::layout(format, float(options)),
                units: vec![],
                splits: vec![],
            },
            parts: vec![],
            files: vec![],
            kcal_mol_ev: Constants::of(options.constants).kcal_mol_ev,
        };
        let mut membership = Membership::default();
        for file in &found {
            source.add(file, found.len() > 1, options, &mut membership)?;
        }
        source.description.splits.extend(membership.into_splits());
        let molecule = molecule_name::read(stem(&found[0].path)).molecule;
        let header = &mut source.description.header;
        header.name = format!("{}-{molecule}", format.name());
        header.choices.insert("molecule".to_owned(), molecule);
        if let Some(theory) = &source.files[0].contents.theory {
            header.choices.insert("theory, as the file says".to_owned(), theory.clone());
        }
        Ok(source)
    }

    fn add(
        &mut self,
        file: &SplitFile,
        several: bool,
        options: &Options,
        membership: &mut Membership,
    ) -> Result<(), IngestError> {
        let stem = stem(&file.path);
        let name = molecule_name::read(stem);
        let contents = Contents::read(&file.path)?;
        if let Some(first) = self.files.first() {
            check_same(first, &name.molecule, &contents, &file.path)?;
        }
        let prefix = if several && contents.old_indices.is_none() {
            format!("{}/{}", name.molecule, name.part.as_deref().unwrap_or(stem))
        } else {
            name.molecule.clone()
        };
        let rows = contents.frames;
        if rows == 0 {
            return Err(input_error(&file.path, "holds no frames"));
        }
        let added = MoleculeFile {
            path: file.path.clone(),
            contents,
            prefix,
            held: Mutex::new(Held { frames: None, units_left: rows.div_ceil(UNIT_ROWS) }),
        };
        let begin = self.parts.len();
        for start in (0..rows).step_by(UNIT_ROWS) {
            let end = (start + UNIT_ROWS).min(rows);
            let name = if rows > UNIT_ROWS { format!("{stem}[{start}..{end}]") } else { stem.to_owned() };
            let unit = Unit { name, files: vec![added.path.clone()], structures: (end - start) as u64 };
            self.description.units.push(unit);
            self.parts.push((self.files.len(), start, end));
        }
        let mut plans = vec![];
        let part = file.split.clone().or(name.part);
        if part.is_none() {
            let total = options.train_total.or_else(|| molecule_name::md22_total(&name.molecule));
            let total = total.unwrap_or(TRAIN_TOTAL);
            plans = md17_splits::whole_file(&added.path, rows, total, options.seed, |row| added.id(row))?;
        }
        if plans.is_empty() {
            (begin..self.parts.len()).for_each(|unit| membership.add(part.as_deref(), unit));
        }
        self.description.splits.extend(plans);
        self.files.push(added);
        Ok(())
    }
}

pub(super) fn float(options: &Options) -> FloatWidth {
    if options.narrow { FloatWidth::F32 } else { FloatWidth::F64 }
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|s| s.to_str()).unwrap_or_default()
}

/// One dataset is one molecule.
fn check_same(
    first: &MoleculeFile,
    molecule: &str,
    contents: &Contents,
    path: &Path,
) -> Result<(), IngestError> {
    let known = molecule_name::read(stem(&first.path)).molecule;
    if known == molecule && first.contents.atomic_numbers == contents.atomic_numbers {
        return Ok(());
    }
    let problem = format!(
        "holds {molecule}, but {} holds {known}: convert each molecule into its own dataset",
        first.path.display()
    );
    Err(input_error(path, problem))
}

impl MoleculeFile {
    fn id(&self, row: usize) -> String {
        match &self.contents.old_indices {
            Some(old) => format!("{}/{}", self.prefix, old[row]),
            None => format!("{}/{row}", self.prefix),
        }
    }

    fn frames(&self) -> Result<Arc<Frames>, IngestError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let frames = match held.frames.take() {
            Some(frames) => frames,
            None => Arc::new(Frames::read(&self.path, &self.contents)?),
        };
        held.units_left = held.units_left.saturating_sub(1);
        if held.units_left > 0 {
            held.frames = Some(Arc::clone(&frames));
        }
        Ok(frames)
    }
}

impl Source for MolecularDynamics {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let (file, start, end) = self.parts[unit];
        let file = &self.files[file];
        let frames = file.frames()?;
        let width = 3 * file.contents.atomic_numbers.len();
        let positions = frames.positions.rows(start, end).to_f64();
        let forces = frames.forces.as_ref().map(|f| f.rows(start, end).to_f64());
        for (i, row) in (start..end).enumerate() {
            let here = i * width..(i + 1) * width;
            let force = |f: &Vec<f64>| Floats::F64(f[here.clone()].to_vec()).scaled(self.kcal_mol_ev);
            let id = file.id(row);
            sink.structure(Structure {
                energy: frames.energies.as_ref().map(|e| e[row] * self.kcal_mol_ev),
                forces: forces.as_ref().map(force),
                ..Structure::new(
                    id.clone(),
                    id,
                    file.contents.atomic_numbers.clone(),
                    Floats::F64(positions[here.clone()].to_vec()),
                )
            })?;
        }
        Ok(())
    }
}
