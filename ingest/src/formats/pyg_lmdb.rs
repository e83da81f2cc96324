//! LMDB files of pickled torch_geometric records: OC20 and OC22 as released, ANI-1x and Transition-1x as JMP made them.

use std::path::{Path, PathBuf};

use shards::{FloatWidth, Floats, Structure, Target};

use super::members::Membership;
use super::oc20_energy::{EnergyCheck, References, id_prefix};
use super::pyg_record::{Place, RELAXED_ENERGY, Wanted, structures};
use super::{EnergyKind, Format, Options, description};
use crate::error::{IngestError, input_error};
use crate::input::{Input, SplitFile, files, relative_names};
use crate::lmdb::Reader;
use crate::pickle::{Item, Limits, Record, decode};
use crate::source::{Description, Sink, Source, Unit};

/// Keys of a unit: a large file is read by several threads.
const UNIT_KEYS: u64 = 10_000;

/// Whether a path is an LMDB file, or a directory in which some are to be looked for.
pub(super) fn is_lmdb(path: &Path) -> bool {
    let named = |p: &Path| p.extension().is_some_and(|e| e == "lmdb");
    let below = || files(&[Input { split: None, path: path.to_path_buf() }], &["lmdb"]).is_ok();
    named(path) || (path.is_dir() && below())
}

/// The opened files.
pub(super) struct PygLmdb {
    description: Description,
    parts: Vec<Part>,
    wanted: Wanted,
    references: Option<References>,
    check: EnergyCheck,
}

/// A range of keys of a file.
struct Part {
    path: PathBuf,
    /// `train/data.0000`, for ids of records without any.
    name: String,
    prefix: &'static str,
    first: u64,
    end: u64,
}

impl PygLmdb {
    pub(super) fn open(format: Format, inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let references = match &options.oc20_ref {
            Some(path) if format == Format::Oc20 => Some(References::read(path)?),
            _ => None,
        };
        if let Some(references) = references.as_ref().filter(|_| options.energy == EnergyKind::Total) {
            let problem =
                "its energies are added to referenced ones: give --energy referenced, if the files hold such";
            return Err(input_error(&references.path, problem));
        }
        let found = files(inputs, &["lmdb"])?;
        let (mut units, parts, membership) = cut(&found)?;
        let Some(first) = parts.first() else {
            return Err(input_error(&inputs[0].path, "the LMDB files hold no structures"));
        };
        let mut header = description::header(format, None);
        if let Some(references) = &references {
            header
                .choices
                .insert("energy".to_owned(), "total (referenced + reference of the system)".to_owned());
            units.iter_mut().for_each(|u| u.files.push(references.path.clone()));
        } else if format == Format::Oc20 {
            header.choices.insert("energy".to_owned(), options.energy.name().to_owned());
        }
        let sample = Sample::of(format, first)?;
        let mut wanted = Wanted::new(format);
        let float = if options.narrow { FloatWidth::F32 } else { sample.width };
        let mut layout = description::layout(format, float);
        if format == Format::Oc20 && sample.relaxed {
            wanted.targets.push(RELAXED_ENERGY);
            wanted.frames = options.relaxation;
            header.choices.insert("frames".to_owned(), options.relaxation.name().to_owned());
        }
        let total = options.energy == EnergyKind::Total || references.is_some();
        layout.targets = wanted.targets.iter().map(|name| target(name, total)).collect();
        Ok(Self {
            description: Description { header, layout, units, splits: membership.into_splits() },
            parts,
            wanted,
            references,
            check: EnergyCheck::new(options.energy, true),
        })
    }

    /// Makes referenced energies total ones, if the references are given.
    fn add_reference(&self, structure: &mut Structure) -> Result<(), String> {
        let Some(references) = &self.references else { return Ok(()) };
        let reference = references.of(&structure.group)?;
        let relaxed = self.wanted.targets.iter().position(|t| *t == RELAXED_ENERGY);
        let target = relaxed.and_then(|at| structure.targets[at].as_mut());
        for energy in structure.energy.iter_mut().chain(target) {
            *energy += reference;
        }
        Ok(())
    }
}

/// The scalar targets of records; of energies, total ones are learned after a linear reference.
fn target(name: &str, total: bool) -> Target {
    let (name, unit, meaning) = match name {
        RELAXED_ENERGY => ("energy_relaxed", "eV", "energy at the end of the relaxation"),
        other => (other, "1", "number of adsorbates; 0 for a clean slab"),
    };
    let referenced = total && name == "energy_relaxed";
    Target { name: name.to_owned(), unit: unit.to_owned(), meaning: meaning.to_owned(), referenced }
}

/// Cuts files into ranges of keys.
fn cut(found: &[SplitFile]) -> Result<(Vec<Unit>, Vec<Part>, Membership), IngestError> {
    let (mut units, mut parts, mut membership) = (vec![], vec![], Membership::default());
    let paths: Vec<PathBuf> = found.iter().map(|f| f.path.clone()).collect();
    for (SplitFile { split, path }, relative) in found.iter().zip(relative_names(&paths)) {
        let count = stored(path)?;
        let stem = relative.strip_suffix(".lmdb").unwrap_or(&relative);
        let name = match split {
            Some(split) if !stem.starts_with(&format!("{split}/")) => format!("{split}/{stem}"),
            _ => stem.to_owned(),
        };
        for first in (0..count).step_by(UNIT_KEYS as usize) {
            let end = (first + UNIT_KEYS).min(count);
            membership.add(split.as_deref(), units.len());
            let unit_name = if count > UNIT_KEYS { format!("{name}[{first}..{end}]") } else { name.clone() };
            units.push(Unit { name: unit_name, files: vec![path.clone()], structures: end - first });
            let prefix = id_prefix(split.as_deref());
            parts.push(Part { path: path.clone(), name: name.clone(), prefix, first, end });
        }
    }
    Ok((units, parts, membership))
}

/// The number of structures: `length` if the file has it, else its entries.
fn stored(path: &Path) -> Result<u64, IngestError> {
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

/// Records that are looked at to know what the others are like.
const SAMPLE: u64 = 100;

/// What the first record that can be read is like.
struct Sample {
    /// Width of positions.
    width: FloatWidth,
    /// Whether it has the end of a relaxation.
    relaxed: bool,
}

impl Sample {
    fn of(format: Format, part: &Part) -> Result<Self, IngestError> {
        let end = part.end.min(part.first + SAMPLE);
        let sample = Part { path: part.path.clone(), name: part.name.clone(), end, ..*part };
        let mut found = None;
        let wanted = Wanted { targets: vec![RELAXED_ENERGY], ..Wanted::new(format) };
        for_each_record(&wanted, &sample, &mut |record| {
            // An unreadable record is reported when its turn comes.
            let first = record.ok().and_then(|structures| structures.into_iter().next());
            found = found.take().or(first.map(|s| Self {
                width: if matches!(s.positions, Floats::F64(_)) { FloatWidth::F64 } else { FloatWidth::F32 },
                relaxed: s.targets.iter().any(Option::is_some),
            }));
            if found.is_some() { Err(IngestError::Interrupted) } else { Ok(()) }
        })
        .or_else(|error| if matches!(error, IngestError::Interrupted) { Ok(()) } else { Err(error) })?;
        Ok(found.unwrap_or(Self { width: FloatWidth::F32, relaxed: false }))
    }
}

type Visit<'v> = dyn FnMut(Result<Vec<Structure>, IngestError>) -> Result<(), IngestError> + 'v;

/// Decodes the records of a part in the order of their keys. LMDB's own order is bytewise ("0", "1", "10", …).
fn for_each_record(wanted: &Wanted, part: &Part, visit: &mut Visit<'_>) -> Result<(), IngestError> {
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
        visit(record(wanted, part, &key, &value))?;
    }
    Ok(())
}

fn record(wanted: &Wanted, part: &Part, key: &str, value: &[u8]) -> Result<Vec<Structure>, IngestError> {
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
    structures(wanted, &record, Place { path, key, name: &part.name })
}

/// The structures of one value, for a value that is at hand without its file.
///
/// # Errors
/// When it is no record of the format.
pub fn value_structures(format: Format, value: &[u8]) -> Result<Vec<Structure>, IngestError> {
    let part = Part { path: PathBuf::from("value"), name: String::new(), prefix: "", first: 0, end: 1 };
    record(&Wanted::new(format), &part, "0", value)
}

impl Source for PygLmdb {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let part = &self.parts[unit];
        let mut index = part.first;
        for_each_record(&self.wanted, part, &mut |result| {
            let at = format!("{}{}/{index}", part.prefix, part.name);
            index += 1;
            let structures = match result {
                Ok(structures) => structures,
                Err(error) => return sink.reject(&at, "unreadable", &error.to_string()),
            };
            for mut structure in structures {
                if let Some(energy) = structure.energy {
                    self.check.note(energy);
                }
                if let Err(reason) = self.add_reference(&mut structure) {
                    sink.reject(&structure.id, "no_reference", &reason)?;
                    continue;
                }
                structure.id.insert_str(0, part.prefix);
                sink.structure(structure)?;
            }
            Ok(())
        })
    }

    fn warnings(&self) -> Vec<String> {
        match self.wanted.format {
            Format::Oc20 => self.check.warnings(),
            _ => Vec::new(),
        }
    }
}
