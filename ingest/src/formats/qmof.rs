//! QMOF: relaxed metal-organic frameworks with band gaps, as the JSON pair or as a table with CIF files.
//!
//! Ids are `qmof_id`s (reference codes in the first release's table), the order is that of the properties; the reduced
//! formula is the group. Splits: `train`, `val`, `test` with 10,000 training rows as in the JMP paper, and `split80_train`,
//! `split80_val`, `split80_test` as the published script cuts them.

use std::collections::BTreeMap;

use serde::Deserialize;
use shards::legacy_shuffle::permutation;
use shards::{FloatWidth, Target};

use super::qmof_input::{Parts, open};
use super::qmof_table::{self, Entry, FUNCTIONALS};
use super::{Format, Options, description};
use crate::cif;
use crate::crystal::Crystal;
use crate::error::{IngestError, input_error, io_error, json_error};
use crate::input::Input;
use crate::json_stream::{JsonStream, describe};
use crate::packed::Packed;
use crate::pymatgen::StructureDict;
use crate::source::{Description, Members, Sink, Source, SplitPlan, Unit};

/// Bytes of one structure's text; 500 atoms with all their properties have 1 MB.
const MAX_STRUCTURE: usize = 16 << 20;
/// Rows of a unit.
const UNIT_ROWS: usize = 500;
const SEED: u32 = 42;

/// The opened database.
pub(super) struct Qmof {
    description: Description,
    entries: Vec<Entry>,
    structures: Structures,
    /// Which of [`FUNCTIONALS`] become targets.
    targets: Vec<usize>,
    warnings: Vec<String>,
}

/// Where the structures are.
enum Structures {
    /// One document, and where each unit's first entry lies in it.
    Json { file: Packed, starts: Vec<u64> },
    /// A file of each, by id.
    Cif { files: BTreeMap<String, Packed> },
}

/// An entry of `qmof_structure_data.json`.
#[derive(Deserialize)]
struct StructureEntry {
    qmof_id: String,
    structure: StructureDict,
}

impl Qmof {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let parts = Parts::find(inputs)?;
        let some_path = parts.some_path();
        let (entries, structures, files) = match parts {
            Parts { properties: Some(properties), structures: Some(file), .. } => {
                let entries = qmof_table::from_json(&properties)?;
                let starts = survey(&file, entries.len(), &properties)?;
                let files = vec![properties.path().to_path_buf(), file.path().to_path_buf()];
                (entries, Structures::Json { file, starts }, files)
            }
            Parts { table: Some(table), cifs, .. } if !cifs.is_empty() => {
                let entries = qmof_table::from_csv(&table)?;
                let named = cifs.into_iter().map(|cif| (stem(&cif).to_owned(), cif)).collect();
                (entries, Structures::Cif { files: named }, vec![table.path().to_path_buf()])
            }
            Parts { properties: Some(_), .. } | Parts { structures: Some(_), .. } => {
                let problem = "expected both qmof.json and qmof_structure_data.json";
                return Err(input_error(&some_path, problem));
            }
            _ => {
                let problem =
                    "expected both a table (qmof.csv) and CIF files (relaxed_structures, folder or zip)";
                return Err(input_error(&some_path, problem));
            }
        };
        let mut source = Self {
            description: Description {
                header: description::header(Format::Qmof, None),
                layout: description::layout(
                    Format::Qmof,
                    if options.narrow { FloatWidth::F32 } else { FloatWidth::F64 },
                ),
                units: Vec::new(),
                splits: splits(&entries, options.train_size),
            },
            entries,
            structures,
            targets: if options.all_targets { (0..FUNCTIONALS.len()).collect() } else { vec![0] },
            warnings: Vec::new(),
        };
        source.describe(files, options);
        Ok(source)
    }

    /// Fills in units, targets and warnings.
    fn describe(&mut self, mut files: Vec<std::path::PathBuf>, options: &Options) {
        files.dedup();
        let rows = self.entries.len();
        for begin in (0..rows).step_by(UNIT_ROWS) {
            let end = (begin + UNIT_ROWS).min(rows);
            let mut own = files.clone();
            if let Structures::Cif { files } = &self.structures {
                let cifs = self.entries[begin..end].iter().filter_map(|e| files.get(&e.id));
                own.extend(cifs.map(|cif| cif.path().to_path_buf()));
                own.dedup();
            }
            let name = format!("qmof[{begin}..{end}]");
            self.description.units.push(Unit { name, files: own, structures: (end - begin) as u64 });
        }
        let target = |&k: &usize| Target {
            name: FUNCTIONALS[k].1.to_owned(),
            unit: "eV".to_owned(),
            meaning: format!("band gap with {} (outputs.{0}.bandgap)", FUNCTIONALS[k].0),
            referenced: false,
        };
        self.description.layout.targets = self.targets.iter().map(target).collect();
        if let Structures::Cif { files } = &self.structures {
            let listed = self.entries.iter().filter(|e| files.contains_key(&e.id)).count();
            if listed < files.len() {
                let extra = files.len() - listed;
                self.warnings.push(format!("{extra} CIF files are not in the table and were not read"));
            }
        }
        if options.train_size as usize >= rows {
            self.warnings.push(format!(
                "{rows} entries are too few for {} training rows: the splits train, val and test were not made \
                 (--train-size N chooses another number)",
                options.train_size
            ));
        }
    }

    fn row(&self, entry: &Entry, crystal: Crystal, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let targets: Vec<Option<f64>> = self.targets.iter().map(|&k| entry.gaps[k]).collect();
        if targets.iter().all(Option::is_none) {
            sink.leave_out(&entry.id, "no_target", "has no band gap of the chosen kind");
            return Ok(());
        }
        let float = self.description.layout.float;
        sink.structure(crystal.into_structure(entry.id.clone(), float, entry.energy, targets))
    }

    fn read_json(
        &self,
        file: &Packed,
        offset: u64,
        entries: &[Entry],
        sink: &mut dyn Sink,
    ) -> Result<(), IngestError> {
        let (path, wrap) = (file.path(), json_error(file.path()));
        let reader = file.open_at(offset).map_err(io_error("read", path))?;
        let mut json = JsonStream::new(reader, offset);
        let mut text = Vec::new();
        for (k, entry) in entries.iter().enumerate() {
            if k > 0 {
                json.next_element(false).map_err(&wrap)?;
            }
            text.clear();
            json.take(&mut text, MAX_STRUCTURE).map_err(&wrap)?;
            match serde_json::from_slice::<StructureEntry>(&text) {
                Ok(found) if found.qmof_id != entry.id => {
                    let problem = format!(
                        "has `{}` where the properties have `{}`: the two files are of different releases",
                        found.qmof_id, entry.id
                    );
                    return Err(input_error(path, problem));
                }
                Ok(found) => match Crystal::try_from(found.structure) {
                    Ok(crystal) => self.row(entry, crystal, sink)?,
                    Err(fault) => sink.reject(&entry.id, fault.code(), &fault.to_string())?,
                },
                Err(error) => sink.reject(&entry.id, "malformed", &describe(&text, &error))?,
            }
        }
        Ok(())
    }

    fn read_cifs(
        &self,
        files: &BTreeMap<String, Packed>,
        entries: &[Entry],
        sink: &mut dyn Sink,
    ) -> Result<(), IngestError> {
        for entry in entries {
            let Some(file) = files.get(&entry.id) else {
                sink.reject(&entry.id, "no_structure", &format!("there is no {}.cif", entry.id))?;
                continue;
            };
            let text = file.read(cif::MAX_BYTES).map_err(io_error("read", file.path()))?;
            match cif::parse(&text) {
                Ok(crystal) => self.row(entry, crystal, sink)?,
                Err(fault) => {
                    sink.reject(&entry.id, fault.code(), &format!("{}: {fault}", file.name()))?;
                }
            }
        }
        Ok(())
    }
}

fn stem(cif: &Packed) -> &str {
    cif.name().rsplit_once('.').map_or("", |(stem, _)| stem)
}

/// Finds where the units' first entries lie, and that there are as many as properties.
fn survey(file: &Packed, expected: usize, properties: &Packed) -> Result<Vec<u64>, IngestError> {
    let wrap = json_error(file.path());
    let mut json = JsonStream::new(open(file)?, 0);
    let (mut starts, mut count) = (Vec::new(), 0);
    json.begin_array().map_err(&wrap)?;
    while json.next_element(count == 0).map_err(&wrap)? {
        if count % UNIT_ROWS == 0 && count < expected {
            starts.push(json.position());
        }
        json.skip().map_err(&wrap)?;
        count += 1;
    }
    json.end().map_err(&wrap)?;
    if count == expected {
        return Ok(starts);
    }
    let problem = format!(
        "{count} structures, but {} has {expected} entries: both must be of one release",
        properties.name()
    );
    Err(input_error(file.path(), problem))
}

fn splits(entries: &[Entry], train_size: u64) -> Vec<SplitPlan> {
    let rows = entries.len();
    let order = permutation(rows as u32, SEED);
    let shuffled = format!("rows shuffled by numpy's RandomState({SEED})");
    let plan = |name: &str, algorithm: &str, range: std::ops::Range<usize>| SplitPlan {
        name: name.to_owned(),
        algorithm: algorithm.to_owned(),
        seed: Some(SEED.into()),
        members: Members::Ids(order[range].iter().map(|&row| entries[row as usize].id.clone()).collect()),
    };
    // The script takes whole parts of the products for train and test, and leaves the rest to validation.
    let train = (rows as f64 * 0.8) as usize;
    let test = rows - (rows as f64 * 0.1) as usize;
    let script = format!("{shuffled}; the first int(0.8 n) train, the last int(0.1 n) test, the rest val");
    let mut plans = vec![
        plan("split80_train", &script, 0..train),
        plan("split80_val", &script, train..test),
        plan("split80_test", &script, test..rows),
    ];
    let size = train_size as usize;
    if size < rows {
        let paper =
            format!("{shuffled}; the first {size} train, the next half of the rest val, the others test");
        let half = size + (rows - size) / 2;
        plans.push(plan("train", &paper, 0..size));
        plans.push(plan("val", &paper, size..half));
        plans.push(plan("test", &paper, half..rows));
    }
    plans
}

impl Source for Qmof {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let begin = unit * UNIT_ROWS;
        let entries = &self.entries[begin..(begin + UNIT_ROWS).min(self.entries.len())];
        match &self.structures {
            Structures::Json { file, starts } => self.read_json(file, starts[unit], entries, sink),
            Structures::Cif { files } => self.read_cifs(files, entries, sink),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}
