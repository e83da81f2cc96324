//! MD17 and MD22 as extended XYZ: the energy is the entry `Energy`, in kcal/mol, the forces are in kcal/mol/Å.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use shards::Structure;
use shards::units::Constants;

use super::extxyz::each_frame;
use super::labels::{Labels, TagRule};
use super::source_units::{Factors, SourceUnits};
use super::{Format, Options, description, frame_record, md17, md17_splits, molecule_name};
use crate::compressed::Stream;
use crate::error::{IngestError, input_error, io_error};
use crate::extxyz::{Frames, Mark, scan};
use crate::input::{Input, files};
use crate::source::{Description, Sink, Source, SplitPlan, Unit};

/// Frames of a unit.
const UNIT_FRAMES: u64 = 10_000;
/// Names of the files.
const EXTENSIONS: [&str; 2] = ["xyz", "extxyz"];

/// Whether the inputs are files of this kind.
pub(super) fn is_extxyz(inputs: &[Input]) -> bool {
    let named =
        |i: &Input| i.path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
    inputs.iter().all(named)
}

/// The opened file.
pub(super) struct MolecularDynamicsXyz {
    description: Description,
    path: PathBuf,
    molecule: String,
    /// Where each unit begins and the last one ends.
    marks: Vec<Mark>,
    labels: Labels,
    factors: Factors,
    atomic_numbers: Vec<u8>,
}

impl MolecularDynamicsXyz {
    pub(super) fn open(format: Format, inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &EXTENSIONS)?;
        let [file] = found.as_slice() else {
            let problem = "one file a dataset: convert each molecule into its own dataset";
            return Err(input_error(&inputs[0].path, problem));
        };
        let path = file.path.clone();
        let handle = File::open(&path).map_err(io_error("open", &path))?;
        let marks =
            scan(BufReader::with_capacity(1 << 20, handle), UNIT_FRAMES).map_err(io_error("read", &path))?;
        let rows = marks.last().map_or(0, |m| m.frame);
        if rows == 0 || rows > u64::from(u32::MAX) {
            return Err(input_error(&path, format!("{rows} frames of extended XYZ")));
        }
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let name = molecule_name::read(stem);
        let units = marks
            .windows(2)
            .map(|pair| Unit {
                name: format!("{stem}[{}..{}]", pair[0].frame, pair[1].frame),
                files: vec![path.clone()],
                structures: pair[1].frame - pair[0].frame,
            })
            .collect();
        let mut header = description::header(format, Some(options.constants));
        header.name = format!("{}-{}", format.name(), name.molecule);
        header.choices.insert("molecule".to_owned(), name.molecule.clone());
        let mut source = Self {
            description: Description {
                header,
                layout: description::layout(format, md17::float(options)),
                units,
                splits: vec![],
            },
            molecule: name.molecule,
            marks,
            labels: Labels::default(),
            factors: kcal_mol(options),
            atomic_numbers: vec![],
            path,
        };
        source.check_first()?;
        source.description.splits =
            source.splits(file.split.as_deref().or(name.part.as_deref()), rows as usize, options)?;
        Ok(source)
    }

    fn splits(
        &self,
        part: Option<&str>,
        rows: usize,
        options: &Options,
    ) -> Result<Vec<SplitPlan>, IngestError> {
        let id = |row: usize| format!("{}/{row}", self.molecule);
        let mut plans = vec![];
        if part.is_none() {
            let total = options.train_total.or_else(|| molecule_name::md22_total(&self.molecule));
            let total = total.unwrap_or(md17::TRAIN_TOTAL);
            plans = md17_splits::whole_file(&self.path, rows, total, options.seed, id)?;
        }
        if plans.is_empty() {
            let mut membership = super::members::Membership::default();
            (0..self.description.units.len()).for_each(|unit| membership.add(part, unit));
            plans = membership.into_splits();
        }
        Ok(plans)
    }

    /// Reads the first frame: which atoms there are.
    fn check_first(&mut self) -> Result<(), IngestError> {
        let first = self.frames(0)?.next_frame().map_err(|e| input_error(&self.path, e.to_string()))?;
        let Some(frame) = first else { return Err(input_error(&self.path, "holds no frames")) };
        self.atomic_numbers = frame.atomic_numbers;
        Ok(())
    }

    fn frames(&self, unit: usize) -> Result<Frames<Stream>, IngestError> {
        let (start, end) = (self.marks[unit], self.marks[unit + 1]);
        let mut file = File::open(&self.path).map_err(io_error("open", &self.path))?;
        file.seek(SeekFrom::Start(start.offset)).map_err(io_error("read", &self.path))?;
        // The last unit reads to the end, so that what follows the last whole frame is not passed over.
        let last = unit + 2 == self.marks.len();
        let part = file.take(if last { u64::MAX } else { end.offset - start.offset });
        let wanted = frame_record::wanted(&self.labels);
        Ok(Frames::new(Box::new(BufReader::with_capacity(1 << 18, part)), start, &wanted))
    }
}

fn kcal_mol(options: &Options) -> Factors {
    let factor = Constants::of(options.constants).kcal_mol_ev;
    Factors { energy: factor, force: factor, ..SourceUnits::default().factors(options.constants) }
}

impl Source for MolecularDynamicsXyz {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let mut frames = self.frames(unit)?;
        each_frame(&mut frames, &self.path, &self.molecule, sink, |frame| {
            let id = format!("{}/{}", self.molecule, frame.index);
            if frame.atomic_numbers != self.atomic_numbers {
                return Err("other atoms than the first frame: one dataset is one molecule".to_owned());
            }
            let raw = frame_record::raw(frame, &self.labels, id)?;
            let structure: Structure = raw.into_structure(self.factors, TagRule::Ignore)?;
            if structure.energy.is_none() && structure.forces.is_none() {
                return Err("neither an entry `Energy` nor a column `forces`".to_owned());
            }
            Ok(structure)
        })
    }
}
