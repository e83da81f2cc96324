//! A torch_geometric record of an LMDB → a [`Structure`].
//!
//! Three generations of names and types occur, also mixed in one file: every attribute is found by its name and
//! read by its dtype, never by a version.

use std::path::Path;

use shards::element::hill_formula;
use shards::{Floats, Structure};

use super::{Format, RelaxationFrames};
use crate::array::{Array, Dtype};
use crate::error::{IngestError, array_error};
use crate::pickle::{Attribute, Record};

/// Where a record lies, for messages and for ids of records that have none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) path: &'p Path,
    pub(super) key: &'p str,
    /// `split/file`, stable wherever the data lies.
    pub(super) name: &'p str,
}

/// The energy at the end of a relaxation (IS2RE).
pub(super) const RELAXED_ENERGY: &str = "y_relaxed";

/// What is taken of a record.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) format: Format,
    /// Frames of an IS2RE record.
    pub(super) frames: RelaxationFrames,
    /// Attributes that are scalar targets.
    pub(super) targets: Vec<&'static str>,
}

impl Wanted {
    /// What a dataset's records are read for.
    pub(super) fn new(format: Format) -> Self {
        let targets = if format == Format::Oc22 { vec!["nads"] } else { vec![] };
        Self { format, frames: RelaxationFrames::Initial, targets }
    }
}

/// Reads one record: one structure, or the ends of a relaxation that are wanted.
pub(super) fn structures(
    wanted: &Wanted,
    record: &Record<'_, '_>,
    place: Place<'_>,
) -> Result<Vec<Structure>, IngestError> {
    let reader = Reader { record, place };
    let initial = structure(wanted, &reader)?;
    let mut found = Vec::with_capacity(1);
    if wanted.frames != RelaxationFrames::Initial {
        found.extend(relaxed(&initial, &reader)?);
    }
    if wanted.frames != RelaxationFrames::Relaxed || found.is_empty() {
        found.insert(0, initial);
    }
    Ok(found)
}

/// The end of a relaxation; test sets have none.
fn relaxed(initial: &Structure, reader: &Reader<'_, '_, '_, '_>) -> Result<Option<Structure>, IngestError> {
    let Some(positions) = reader.optional_array("pos_relaxed")? else { return Ok(None) };
    Ok(Some(Structure {
        id: initial
            .id
            .strip_suffix("initial")
            .map_or_else(|| format!("{}/relaxed", initial.id), |s| format!("{s}relaxed")),
        positions: reader.floats("pos_relaxed", positions, initial.atoms())?,
        energy: reader.number(&[RELAXED_ENERGY])?,
        forces: None,
        ..initial.clone()
    }))
}

fn structure(wanted: &Wanted, reader: &Reader<'_, '_, '_, '_>) -> Result<Structure, IngestError> {
    let format = wanted.format;
    reader.check_dataset(format)?;
    let (_, numbers) = reader.array(&["atomic_numbers", "z"])?;
    let atomic_numbers = reader.small_integers("atomic_numbers", numbers, 1..=118)?;
    let n = atomic_numbers.len();
    reader.check_atom_count(n)?;
    let (pos_name, positions) = reader.array(&["pos"])?;
    let positions = reader.floats(pos_name, positions, n)?;
    let forces = match reader.record.first(&["forces", "force"]) {
        Some(_) => {
            let (name, forces) = reader.array(&["forces", "force"])?;
            Some(reader.floats(name, forces, n)?)
        }
        None => None,
    };
    let tags = reader.optional_array("tags")?.map(|a| reader.small_integers("tags", a, 0..=2)).transpose()?;
    let fixed =
        reader.optional_array("fixed")?.map(|a| reader.small_integers("fixed", a, 0..=1)).transpose()?;
    for (key, length) in [("tags", tags.as_ref().map(Vec::len)), ("fixed", fixed.as_ref().map(Vec::len))] {
        if let Some(found) = length.filter(|&l| l != n) {
            return Err(reader.malformed(key, format!("{n} values"), format!("{found}")));
        }
    }
    let pbc = reader.pbc(matches!(format, Format::Oc20 | Format::Oc22))?;
    // Molecules' records carry zeros or a dummy box where there is no cell.
    let cell = if pbc == [false; 3] { None } else { Some(reader.cell()?) };
    let (id, group) = reader.identity(format, &atomic_numbers)?;
    Ok(Structure {
        id,
        group,
        atomic_numbers,
        positions,
        cell,
        pbc,
        tags,
        fixed: fixed.map(|f| f.into_iter().map(|x| x == 1).collect()),
        charge: None,
        spin: None,
        // `y` until 2024, `energy` since; IS2RE's first frame has its own name.
        energy: reader.number(&["energy", "y", "y_init"])?,
        forces,
        stress: None,
        targets: wanted.targets.iter().map(|&name| reader.number(&[name])).collect::<Result<_, _>>()?,
    })
}

struct Reader<'r, 'd, 'a, 'p> {
    record: &'r Record<'d, 'a>,
    place: Place<'p>,
}

impl<'d, 'a> Reader<'_, 'd, 'a, '_> {
    fn place_text(&self) -> String {
        format!("key `{}`", self.place.key)
    }

    fn malformed(&self, key: &str, expected: String, found: String) -> IngestError {
        let (path, place) = (self.place.path.to_path_buf(), self.place_text().into());
        IngestError::Malformed { path, place, key: key.into(), expected, found }
    }

    fn array(&self, names: &[&'static str]) -> Result<(&'static str, &'d Array<'a>), IngestError> {
        match self.record.first(names) {
            Some((name, Attribute::Array(array))) => Ok((name, array)),
            Some((name, other)) => Err(self.malformed(name, "an array".to_owned(), kind(other))),
            None => Err(IngestError::Missing {
                path: self.place.path.to_path_buf(),
                place: self.place_text(),
                key: names.join("` or `"),
                known: self.record.names().map(str::to_owned).collect(),
            }),
        }
    }

    fn optional_array(&self, name: &'static str) -> Result<Option<&'d Array<'a>>, IngestError> {
        match self.record.get(name) {
            None => Ok(None),
            Some(_) => self.array(&[name]).map(|(_, array)| Some(array)),
        }
    }

    /// `[atoms, 3]` numbers at their own width.
    fn floats(&self, name: &str, array: &Array<'_>, atoms: usize) -> Result<Floats, IngestError> {
        if array.shape() != [atoms, 3] {
            return Err(self.malformed(name, format!("shape [{atoms}, 3]"), format!("{:?}", array.shape())));
        }
        Ok(match array.dtype() {
            Dtype::F64 => Floats::F64(array.to_f64()),
            _ => Floats::F32(array.to_f32()),
        })
    }

    fn small_integers(
        &self,
        name: &str,
        array: &Array<'_>,
        allowed: std::ops::RangeInclusive<i64>,
    ) -> Result<Vec<u8>, IngestError> {
        let values = array.to_i64().map_err(array_error(self.place.path, &self.place_text(), name))?;
        match values.iter().find(|v| !allowed.contains(v)) {
            Some(bad) => Err(self.malformed(
                name,
                format!("{} to {}", allowed.start(), allowed.end()),
                bad.to_string(),
            )),
            None => Ok(values.into_iter().map(|v| v as u8).collect()),
        }
    }

    /// OC22 marks its records (`oc22`, in early files `p`); read as OC20's they would get the wrong zero of energy and ids.
    fn check_dataset(&self, format: Format) -> Result<(), IngestError> {
        let marked = self.record.first(&["oc22", "p"]).is_some();
        if format == Format::Oc20 && marked {
            let found = "OC22's mark: convert with --dataset oc22".to_owned();
            return Err(self.malformed("oc22", "a record of OC20".to_owned(), found));
        }
        if format == Format::Oc22 && !marked {
            let found = "a record without it: if this is OC20, convert with --dataset oc20".to_owned();
            return Err(self.malformed(
                "oc22",
                "OC22's mark (`oc22`, or `p` in early files)".to_owned(),
                found,
            ));
        }
        Ok(())
    }

    fn check_atom_count(&self, atoms: usize) -> Result<(), IngestError> {
        match self.integer("natoms")? {
            Some(stated) if stated != atoms as i64 => Err(self.malformed(
                "natoms",
                format!("{atoms}, the number of atomic numbers"),
                stated.to_string(),
            )),
            _ => Ok(()),
        }
    }

    /// A number that may be a Python number or a tensor of one element.
    fn number(&self, names: &[&'static str]) -> Result<Option<f64>, IngestError> {
        match self.record.first(names) {
            None => Ok(None),
            Some((_, Attribute::Float(x))) => Ok(Some(x)),
            Some((_, Attribute::Int(i))) => Ok(Some(i as f64)),
            Some((_, Attribute::Array(a))) if a.len() == 1 => Ok(a.to_f64().first().copied()),
            Some((name, other)) => Err(self.malformed(name, "a number".to_owned(), kind(other))),
        }
    }

    fn integer(&self, name: &'static str) -> Result<Option<i64>, IngestError> {
        match self.record.get(name) {
            None => Ok(None),
            Some(Attribute::Int(i)) => Ok(Some(i)),
            Some(Attribute::Array(a)) if a.len() == 1 => {
                let values = a.to_i64().map_err(array_error(self.place.path, &self.place_text(), name))?;
                Ok(values.first().copied())
            }
            Some(other) => Err(self.malformed(name, "a whole number".to_owned(), kind(other))),
        }
    }

    fn pbc(&self, periodic: bool) -> Result<[bool; 3], IngestError> {
        let Some(array) = self.optional_array("pbc")? else { return Ok([periodic; 3]) };
        let values = array.to_f64();
        match values.as_slice() {
            [a, b, c] => Ok([*a != 0.0, *b != 0.0, *c != 0.0]),
            _ => Err(self.malformed("pbc", "3 values".to_owned(), values.len().to_string())),
        }
    }

    fn cell(&self) -> Result<[f64; 9], IngestError> {
        let (name, array) = self.array(&["cell"])?;
        let square = matches!(array.shape(), [1, 3, 3] | [3, 3]);
        let values = if square { array.to_f64().try_into().ok() } else { None };
        values
            .ok_or_else(|| self.malformed(name, "shape [1, 3, 3]".to_owned(), format!("{:?}", array.shape())))
    }

    /// The structure's id and the group that must not be split apart.
    fn identity(&self, format: Format, atomic_numbers: &[u8]) -> Result<(String, String), IngestError> {
        let (sid, fid) = (self.integer("sid")?, self.integer("fid")?);
        let frame = fid.map_or_else(|| "initial".to_owned(), |f| format!("frame{f}"));
        let row = fid.map_or_else(|| self.place.key.to_owned(), |f| f.to_string());
        let group = match (format, sid) {
            (Format::Oc20, Some(sid)) => return Ok((format!("random{sid}/{frame}"), format!("random{sid}"))),
            // Its numbers overlap with OC20's.
            (Format::Oc22, Some(sid)) => return Ok((format!("oc22-{sid}/{frame}"), format!("oc22-{sid}"))),
            // JMP numbers the reactions of all formulas in one range; the released file names them by formula and number.
            (Format::Transition1x, Some(sid)) => format!("{}_rxn{sid:04}", hill_formula(atomic_numbers)),
            (Format::Ani1x, Some(_)) => hill_formula(atomic_numbers),
            _ => {
                let id = format!("{}/{}", self.place.name, self.place.key);
                return Ok((id.clone(), id));
            }
        };
        Ok((format!("{group}/{row}"), group))
    }
}

fn kind(attribute: Attribute<'_, '_>) -> String {
    match attribute {
        Attribute::Int(i) => i.to_string(),
        Attribute::Float(x) => x.to_string(),
        Attribute::Str(s) => format!("the text {s:?}"),
        Attribute::Array(a) => format!("an array of shape {:?}", a.shape()),
        Attribute::Other => "something else".to_owned(),
    }
}
