//! LMDB files of pickled torch_geometric records: OC20 and OC22 as released, ANI-1x and Transition-1x as JMP made them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use shards::{FloatWidth, Floats};

use super::pyg_record::{Place, structure};
use super::{EnergyKind, Format, Options, description};
use crate::error::{IngestError, input_error};
use crate::input::{Input, SplitFile, files, relative_names};
use crate::lmdb::Reader;
use crate::pickle::{Item, Limits, Record, decode};
use crate::source::{Description, Members, Sink, Source, SplitPlan, Unit};

/// Keys of a unit: a large file is read by several threads.
const UNIT_KEYS: u64 = 10_000;
/// Adsorption energies lie within ±10 eV, where upstream cut them off; raw DFT energies of slabs are far below.
const REFERENCED_RANGE_EV: f64 = 12.0;

/// Whether a path is an LMDB file, or a directory in which some are to be looked for.
pub(super) fn is_lmdb(path: &Path) -> bool {
    let named = |p: &Path| p.extension().is_some_and(|e| e == "lmdb");
    let below = || files(&[Input { split: None, path: path.to_path_buf() }], &["lmdb"]).is_ok();
    named(path) || (path.is_dir() && below())
}

/// The opened files.
pub(super) struct PygLmdb {
    format: Format,
    description: Description,
    parts: Vec<Part>,
    energy: EnergyKind,
    labelled: AtomicU64,
    near_zero: AtomicU64,
}

/// A range of keys of a file.
struct Part {
    path: PathBuf,
    /// `train/data.0000`, for ids of records without any.
    name: String,
    first: u64,
    end: u64,
}

impl PygLmdb {
    pub(super) fn open(format: Format, inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &["lmdb"])?;
        let paths: Vec<PathBuf> = found.iter().map(|f| f.path.clone()).collect();
        let (mut units, mut parts) = (Vec::new(), Vec::new());
        let mut by_split: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for (SplitFile { split, path }, relative) in found.iter().zip(relative_names(&paths)) {
            let count = structures(path)?;
            let stem = relative.strip_suffix(".lmdb").unwrap_or(&relative);
            let name = match split {
                Some(split) if !stem.starts_with(&format!("{split}/")) => format!("{split}/{stem}"),
                _ => stem.to_owned(),
            };
            for first in (0..count).step_by(UNIT_KEYS as usize) {
                let end = (first + UNIT_KEYS).min(count);
                let members = by_split.entry(split.clone().unwrap_or_else(|| "all".to_owned())).or_default();
                members.insert(units.len() as u32);
                let unit_name =
                    if count > UNIT_KEYS { format!("{name}[{first}..{end}]") } else { name.clone() };
                units.push(Unit { name: unit_name, files: vec![path.clone()], structures: end - first });
                parts.push(Part { path: path.clone(), name: name.clone(), first, end });
            }
        }
        if units.is_empty() {
            return Err(input_error(&inputs[0].path, "the LMDB files hold no structures"));
        }
        let mut header = description::header(format, None);
        if format == Format::Oc20 {
            header.choices.insert("energy".to_owned(), options.energy.name().to_owned());
        }
        let float = if options.narrow { FloatWidth::F32 } else { width(format, &parts[0])? };
        let layout = description::layout(format, float);
        let splits = by_split.into_iter().map(split_plan).collect();
        Ok(Self {
            format,
            description: Description { header, layout, units, splits },
            parts,
            energy: options.energy,
            labelled: AtomicU64::new(0),
            near_zero: AtomicU64::new(0),
        })
    }
}

fn split_plan((name, units): (String, BTreeSet<u32>)) -> SplitPlan {
    let algorithm = "all rows of the files given under this name or found in a directory of this name";
    SplitPlan { name, algorithm: algorithm.to_owned(), seed: None, members: Members::Units(units) }
}

/// The number of structures: `length` if the file has it, else its entries.
fn structures(path: &Path) -> Result<u64, IngestError> {
    let wrap = |source| IngestError::Lmdb { path: path.to_path_buf(), source };
    let mut reader = Reader::open(path).map_err(wrap)?;
    let Some(value) = reader.get(b"length").map_err(wrap)? else { return Ok(reader.entries()) };
    let pickle = |source| IngestError::Pickle {
        path: path.to_path_buf(),
        key: "length".to_owned(),
        source: Box::new(source),
    };
    let decoded = decode(&value, Limits::RECORD).map_err(pickle)?;
    match decoded.item(decoded.root()) {
        // More structures than keys would be a loop over nothing.
        Item::Int(n) if (0..=reader.entries() as i64).contains(&n) => Ok(n as u64),
        _ => Err(IngestError::Malformed {
            path: path.to_path_buf(),
            place: "key `length`".into(),
            key: "length".into(),
            expected: format!("a number of at most {}, the entries of the file", reader.entries()),
            found: "something else".to_owned(),
        }),
    }
}

/// Records that are looked at for the width of positions.
const WIDTH_SAMPLE: u64 = 100;

/// The width of positions, from the first record that can be read.
fn width(format: Format, part: &Part) -> Result<FloatWidth, IngestError> {
    let end = part.end.min(part.first + WIDTH_SAMPLE);
    let sample = Part { path: part.path.clone(), name: part.name.clone(), first: part.first, end };
    let mut found = None;
    for_each_record(format, &sample, &mut |structure| {
        let width = structure
            .map(|s| if matches!(s.positions, Floats::F64(_)) { FloatWidth::F64 } else { FloatWidth::F32 });
        // An unreadable record is reported when its turn comes.
        found = found.or(width.ok());
        if found.is_some() { Err(IngestError::Interrupted) } else { Ok(()) }
    })
    .or_else(|error| if matches!(error, IngestError::Interrupted) { Ok(()) } else { Err(error) })?;
    Ok(found.unwrap_or(FloatWidth::F32))
}

type Visit<'v> = dyn FnMut(Result<shards::Structure, IngestError>) -> Result<(), IngestError> + 'v;

/// Decodes the records of a part in the order of their keys. LMDB's own order is bytewise ("0", "1", "10", …).
fn for_each_record(format: Format, part: &Part, visit: &mut Visit<'_>) -> Result<(), IngestError> {
    let path = part.path.as_path();
    let wrap = |source| IngestError::Lmdb { path: path.to_path_buf(), source };
    let mut reader = Reader::open(path).map_err(wrap)?;
    for index in part.first..part.end {
        let key = index.to_string();
        let value = reader.get(key.as_bytes()).map_err(wrap)?.ok_or_else(|| IngestError::Missing {
            path: path.to_path_buf(),
            place: "the file".to_owned(),
            key: key.clone(),
            known: vec![format!("{} entries", reader.entries())],
        })?;
        visit(record(format, part, &key, &value))?;
    }
    Ok(())
}

fn record(format: Format, part: &Part, key: &str, value: &[u8]) -> Result<shards::Structure, IngestError> {
    let path = part.path.as_path();
    let pickle = |source| IngestError::Pickle {
        path: path.to_path_buf(),
        key: key.to_owned(),
        source: Box::new(source),
    };
    let decoded = decode(value, Limits::RECORD).map_err(pickle)?;
    let record = Record::of(&decoded, decoded.root()).ok_or_else(|| IngestError::Malformed {
        path: path.to_path_buf(),
        place: format!("key `{key}`").into(),
        key: "value".into(),
        expected: "a torch_geometric record".to_owned(),
        found: "another object".to_owned(),
    })?;
    structure(format, &record, Place { path, key, name: &part.name })
}

impl Source for PygLmdb {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let part = &self.parts[unit];
        let mut index = part.first;
        for_each_record(self.format, part, &mut |result| {
            let at = index;
            index += 1;
            match result {
                Ok(structure) => {
                    if let Some(energy) = structure.energy {
                        self.labelled.fetch_add(1, Ordering::Relaxed);
                        self.near_zero
                            .fetch_add(u64::from(energy.abs() <= REFERENCED_RANGE_EV), Ordering::Relaxed);
                    }
                    sink.structure(structure)
                }
                Err(error) => sink.reject(&format!("{}/{at}", part.name), "unreadable", &error.to_string()),
            }
        })
    }

    fn warnings(&self) -> Vec<String> {
        let (labelled, near) =
            (self.labelled.load(Ordering::Relaxed), self.near_zero.load(Ordering::Relaxed));
        if self.format != Format::Oc20 || labelled == 0 {
            return Vec::new();
        }
        let range = format!("{near} of {labelled} energies lie within ±{REFERENCED_RANGE_EV} eV");
        match self.energy {
            EnergyKind::Total if 2 * near > labelled => vec![format!(
                "{range}: they look like referenced (adsorption) energies, but were stored as totals; convert with --energy referenced"
            )],
            EnergyKind::Referenced if 2 * near < labelled => vec![format!(
                "{range}: they look like total energies, but were stored as referenced ones; convert with --energy total"
            )],
            _ => Vec::new(),
        }
    }
}
