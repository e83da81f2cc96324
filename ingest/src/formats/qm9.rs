//! QM9 in its three forms: sdf + csv (MoleculeNet), the deposited xyz files, `qm9_v3.pt` (torch_geometric).
//!
//! The whole set is small: it is read when it is opened, then written unit by unit. Ids are `gdb_<number>`. Molecules that
//! `uncharacterized.txt` lists are left out, and the rest is split as JMP does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use shards::legacy_shuffle::permutation;
use shards::units::ConstantSet;
use shards::{FloatWidth, Floats, Structure};

use super::qm9_targets::Values;
use super::{Format, Options, description, qm9_sdf, qm9_targets, qm9_torch, qm9_xyz};
use crate::error::{IngestError, input_error, io_error};
use crate::input::{Input, sorted_dir};
use crate::source::{Description, Members, Sink, Source, SplitPlan, Unit};

/// Molecules of a unit.
const UNIT_MOLECULES: usize = 10_000;
/// Molecules after the uncharacterised ones are left out.
const ALL: usize = 130_831;
/// More molecules than QM9 has, which bounds the memory that another file may take.
pub(super) const MOST_MOLECULES: usize = 250_000;
/// Rows of JMP's validation and of its test set.
const HELD_OUT: usize = 10_000;
/// What is held out of an incomplete set, for validation and for testing.
const HELD_OUT_FRACTION: usize = 13;

/// A molecule as the readers give it, in Å and eV.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Molecule {
    /// Number in GDB-9, from 1.
    pub(super) id: u32,
    pub(super) atomic_numbers: Vec<u8>,
    pub(super) positions: Floats,
    pub(super) targets: Values,
}

/// The opened set.
pub(super) struct Qm9 {
    description: Description,
    molecules: Vec<Molecule>,
    uncharacterised: BTreeSet<u32>,
    warnings: Vec<String>,
}

/// Which of the three forms, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Sdf(PathBuf),
    XyzDirectory(PathBuf, Vec<PathBuf>),
    XyzFile(PathBuf),
    XyzArchive(PathBuf),
    Torch(PathBuf),
}

impl Qm9 {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let (input, list) = sort_inputs(inputs)?;
        let form = Form::find(&input.path)?;
        let molecules = form.read()?;
        let list = list.or_else(|| form.list_beside());
        let uncharacterised: BTreeSet<u32> =
            list.as_deref().map(qm9_sdf::read_list).transpose()?.unwrap_or_default().into_iter().collect();
        let mut files = form.files();
        files.extend(list.clone());
        let mut header = description::header(Format::Qm9, Some(ConstantSet::Pyg));
        header.choices.insert("form".to_owned(), form.words().to_owned());
        let told = match (&form, &list) {
            (_, Some(_)) => "left out as uncharacterized.txt lists them",
            (Form::Torch(_), None) => "left out by the maker of the file",
            (_, None) => "kept: there was no uncharacterized.txt",
        };
        header.choices.insert("uncharacterised molecules".to_owned(), told.to_owned());
        if form.lacks_atomisation() {
            let told = "computed from the energies of isolated atoms that torch_geometric lists";
            header.choices.insert("atomisation energies".to_owned(), told.to_owned());
        }
        let float = if options.narrow { FloatWidth::F32 } else { form.float() };
        let mut layout = description::layout(Format::Qm9, float);
        layout.targets = qm9_targets::layout();
        let units = molecules.chunks(UNIT_MOLECULES).map(|chunk| Unit {
            name: format!("{}..{}", id(chunk[0].id), id(chunk[chunk.len() - 1].id)),
            files: files.clone(),
            structures: chunk.len() as u64,
        });
        let units = units.collect();
        let kept: Vec<u32> =
            molecules.iter().map(|m| m.id).filter(|id| !uncharacterised.contains(id)).collect();
        let splits = match &input.split {
            Some(name) => vec![given_split(name, &kept)],
            None => jmp_splits(&kept, options.seed),
        };
        let told_why = list.is_none() && !matches!(form, Form::Torch(_));
        let warnings = warnings(kept.len(), told_why, input.split.is_none());
        let description = Description { header, layout, units, splits };
        Ok(Self { description, molecules, uncharacterised, warnings })
    }
}

/// The set itself, and `uncharacterized.txt` if it is given by itself.
fn sort_inputs(inputs: &[Input]) -> Result<(&Input, Option<PathBuf>), IngestError> {
    let is_list = |i: &&Input| i.path.extension().is_some_and(|e| e == "txt");
    let sets: Vec<&Input> = inputs.iter().filter(|i| !is_list(i)).collect();
    let lists: Vec<&Input> = inputs.iter().filter(is_list).collect();
    match (sets.as_slice(), lists.as_slice()) {
        ([set], []) => Ok((set, None)),
        ([set], [list]) => Ok((set, Some(list.path.clone()))),
        _ => Err(input_error(
            &inputs[0].path,
            "QM9 is one input: gdb9.sdf (with gdb9.sdf.csv beside it), dsgdb9nsd.xyz.tar.bz2 or the directory of its files, \
             or qm9_v3.pt; and, if it lies elsewhere, uncharacterized.txt",
        )),
    }
}

impl Form {
    /// Tells the form from a file's name, or finds the one form that a directory holds.
    fn find(path: &Path) -> Result<Self, IngestError> {
        if fs::metadata(path).map_err(io_error("open", path))?.is_file() {
            return Self::of_file(path).ok_or_else(|| {
                let problem = "expected gdb9.sdf, qm9_v3.pt, a file dsgdb9nsd_*.xyz or dsgdb9nsd.xyz.tar.bz2; unpack a zip archive first";
                input_error(path, problem)
            });
        }
        let mut found: Vec<Self> = Vec::new();
        for dir in [path.to_path_buf(), path.join("raw")] {
            if !dir.is_dir() {
                continue;
            }
            let files = qm9_xyz::files_of(&dir)?;
            if !files.is_empty() {
                found.push(Self::XyzDirectory(dir.clone(), files));
            }
            let entries = sorted_dir(&dir)?.into_iter().filter(|p| p.is_file());
            found
                .extend(entries.filter_map(|p| Self::of_file(&p)).filter(|f| !matches!(f, Self::XyzFile(_))));
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(input_error(
                path,
                "no file named *.sdf, *.pt, *.tar.bz2 or dsgdb9nsd_*.xyz in this directory",
            )),
            _ => {
                let names: Vec<String> = found.iter().map(|f| f.path().display().to_string()).collect();
                Err(input_error(path, format!("holds {}: name the one to read", names.join(" and "))))
            }
        }
    }

    fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let here = path.to_path_buf();
        let ends = |end: &str| name.strip_suffix(end).is_some();
        if ends(".sdf") {
            Some(Self::Sdf(here))
        } else if ends(".pt") {
            Some(Self::Torch(here))
        } else if ends(".tar.bz2") || ends(".tar") {
            Some(Self::XyzArchive(here))
        } else if qm9_xyz::is_molecule(name) {
            Some(Self::XyzFile(here))
        } else {
            None
        }
    }

    fn read(&self) -> Result<Vec<Molecule>, IngestError> {
        let molecules = match self {
            Self::Sdf(path) => qm9_sdf::read(path)?,
            Self::XyzDirectory(_, files) => qm9_xyz::read_files(files)?,
            Self::XyzFile(path) => qm9_xyz::read_files(std::slice::from_ref(path))?,
            Self::XyzArchive(path) => qm9_xyz::read_archive(path)?,
            Self::Torch(path) => qm9_torch::read(path)?,
        };
        if molecules.is_empty() {
            return Err(input_error(self.path(), "holds no molecules"));
        }
        Ok(molecules)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Sdf(path)
            | Self::XyzDirectory(path, _)
            | Self::XyzFile(path)
            | Self::XyzArchive(path)
            | Self::Torch(path) => path,
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Sdf(path) => vec![path.clone(), qm9_sdf::table_beside(path)],
            other => vec![other.path().to_path_buf()],
        }
    }

    /// `uncharacterized.txt` in the same directory, or beside the directory of the xyz files. The list does not concern
    /// `qm9_v3.pt`, which lacks its molecules already.
    fn list_beside(&self) -> Option<PathBuf> {
        let path = self.path();
        let places = match self {
            Self::Torch(_) => vec![],
            Self::XyzDirectory(..) => vec![Some(path), path.parent()],
            _ => vec![path.parent()],
        };
        let mut lists = places.into_iter().flatten().map(|dir| dir.join("uncharacterized.txt"));
        lists.find(|list| list.is_file())
    }

    fn words(&self) -> &'static str {
        match self {
            Self::Sdf(_) => "gdb9.sdf (coordinates of four decimals) and gdb9.sdf.csv",
            Self::XyzDirectory(..) | Self::XyzFile(_) | Self::XyzArchive(_) => "dsgdb9nsd xyz files",
            Self::Torch(_) => "qm9_v3.pt (eV in single precision)",
        }
    }

    fn lacks_atomisation(&self) -> bool {
        matches!(self, Self::XyzDirectory(..) | Self::XyzFile(_) | Self::XyzArchive(_))
    }

    /// Four decimals fit 32 bits, ten do not.
    fn float(&self) -> FloatWidth {
        if self.lacks_atomisation() { FloatWidth::F64 } else { FloatWidth::F32 }
    }
}

fn id(number: u32) -> String {
    format!("gdb_{number}")
}

fn warnings(kept: usize, without_list: bool, split: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if without_list {
        warnings.push(
            "no uncharacterized.txt beside the input: its 3,054 molecules are kept, which JMP and others leave out; give the list as \
             a further --input to leave them out"
                .to_owned(),
        );
    }
    if kept != ALL && split {
        warnings.push(format!(
            "{kept} molecules are not the {ALL} of the whole set: train, val and test are not JMP's rows"
        ));
    }
    warnings
}

fn given_split(name: &str, kept: &[u32]) -> SplitPlan {
    SplitPlan {
        name: name.to_owned(),
        algorithm: "all molecules of the input given under this name".to_owned(),
        seed: None,
        members: Members::Ids(kept.iter().map(|&k| id(k)).collect()),
    }
}

/// JMP's split: all molecules in the order of their numbers, shuffled; the last 10,000 test, the 10,000 before val, the rest train.
fn jmp_splits(kept: &[u32], seed: u32) -> Vec<SplitPlan> {
    let rows = kept.len();
    let held_out = if rows >= ALL { HELD_OUT } else { rows / HELD_OUT_FRACTION };
    let (train, val) = (rows - 2 * held_out, rows - held_out);
    let order = permutation(rows as u32, seed);
    let algorithm = format!(
        "molecules in the order of their numbers, shuffled by numpy's RandomState({seed}); the first {train} train, the next {held_out} \
         val, the last {held_out} test{}",
        if rows == ALL { " (JMP)" } else { "" }
    );
    let cuts = [("train", 0..train), ("val", train..val), ("test", val..rows)];
    let kept_cuts = cuts.into_iter().filter(|(_, range)| !range.is_empty());
    kept_cuts
        .map(|(name, range)| SplitPlan {
            name: name.to_owned(),
            algorithm: algorithm.clone(),
            seed: Some(u64::from(seed)),
            members: Members::Ids(order[range].iter().map(|&row| id(kept[row as usize])).collect()),
        })
        .collect()
}

impl Source for Qm9 {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        for molecule in self.molecules.iter().skip(unit * UNIT_MOLECULES).take(UNIT_MOLECULES) {
            let id = id(molecule.id);
            if self.uncharacterised.contains(&molecule.id) {
                sink.leave_out(&id, "uncharacterised", "uncharacterized.txt lists it");
                continue;
            }
            sink.structure(Structure {
                targets: molecule.targets.to_vec(),
                ..Structure::new(id.clone(), id, molecule.atomic_numbers.clone(), molecule.positions.clone())
            })?;
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_of_the_whole_set_is_jmps() {
        // Molecules numbered by twos, so that rows and numbers cannot be mistaken for one another.
        let kept: Vec<u32> = (0..ALL as u32).map(|row| 2 * row + 1).collect();
        let splits = jmp_splits(&kept, 42);
        let has = |split: usize, row: u32| match &splits[split].members {
            Members::Ids(ids) => ids.contains(&id(2 * row + 1)),
            _ => false,
        };
        let sizes: Vec<usize> = splits
            .iter()
            .map(|s| match &s.members {
                Members::Ids(ids) => ids.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(sizes, [110_831, 10_000, 10_000]);
        // The ends of numpy's own shuffle of 130,831 rows.
        assert!([112_526, 100_113, 55_940, 12_786, 34_071].into_iter().all(|row| has(0, row)));
        assert!([15_795, 121_958].into_iter().all(|row| has(2, row)));
        // Where numpy's shuffle is cut: the last of train, the first of val, the last of val, the first of test.
        assert!(has(0, 97_520) && has(1, 27_257) && has(1, 11_957) && has(2, 19_187));
        assert!(splits[0].algorithm.ends_with("(JMP)"));
    }
}
