//! QM9 as JMP downloads it: `qm9_v3.pt`, a list of dicts of tensors, in eV already, in single precision, without the
//! uncharacterised molecules.

use std::path::Path;

use shards::Floats;

use super::qm9::{MOST_MOLECULES, Molecule};
use super::qm9_targets::{PROPERTIES, Values};
use crate::array::Array;
use crate::error::{IngestError, array_error, input_error, io_error};
use crate::pickle::{Attribute, Item, Limits, Record, decode};

/// Bytes that the file may have; the released one has some hundred million.
const LARGEST_FILE: u64 = 4 << 30;

/// Reads all molecules.
pub(super) fn read(path: &Path) -> Result<Vec<Molecule>, IngestError> {
    let size = std::fs::metadata(path).map_err(io_error("open", path))?.len();
    if size > LARGEST_FILE {
        return Err(input_error(path, format!("{size} bytes; no release of QM9 is so large")));
    }
    let bytes = std::fs::read(path).map_err(io_error("read", path))?;
    let key = || "the whole file".to_owned();
    let wrap =
        |source| IngestError::Pickle { path: path.to_path_buf(), key: key(), source: Box::new(source) };
    let decoded = decode(&bytes, Limits::FILE).map_err(wrap)?;
    let Item::Sequence(items) = decoded.item(decoded.root()) else {
        return Err(no_list(path));
    };
    if items.len() > MOST_MOLECULES {
        return Err(input_error(path, format!("{} molecules: this is not QM9", items.len())));
    }
    let mut molecules = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let Some(record) = Record::of(&decoded, *item) else { return Err(no_list(path)) };
        molecules.push(Dict { path, at, record }.molecule()?);
    }
    if molecules.is_empty() {
        return Err(no_list(path));
    }
    Ok(molecules)
}

fn no_list(path: &Path) -> IngestError {
    input_error(
        path,
        "expected a list of dicts, one a molecule, as the raw qm9_v3.pt is; files that torch_geometric has processed \
         (data_v3.pt) are not read: give the raw file",
    )
}

/// A molecule's dict and where it stands.
struct Dict<'d, 'a> {
    path: &'d Path,
    at: usize,
    record: Record<'d, 'a>,
}

impl<'d, 'a> Dict<'d, 'a> {
    fn molecule(&self) -> Result<Molecule, IngestError> {
        let z = self.array("z")?;
        let charges = z.to_i64().map_err(array_error(self.path, &self.place(), "z"))?;
        let known = |z: &i64| u8::try_from(*z).ok().filter(|z| (1..=118).contains(z));
        let atomic_numbers: Option<Vec<u8>> = charges.iter().map(known).collect();
        let atomic_numbers = atomic_numbers
            .filter(|z| !z.is_empty())
            .ok_or_else(|| self.malformed("z", "atomic numbers from 1 to 118", "others"))?;
        let (positions, y) = (self.array("pos")?, self.array("y")?);
        let shape = [atomic_numbers.len(), 3];
        if positions.shape() != shape {
            return Err(self.malformed(
                "pos",
                &format!("shape {shape:?}"),
                &format!("{:?}", positions.shape()),
            ));
        }
        let values = y.to_f64();
        if ![&[1, PROPERTIES][..], &[PROPERTIES]].contains(&y.shape()) {
            let expected = format!("shape [1, {PROPERTIES}]");
            return Err(self.malformed("y", &expected, &format!("{:?}", y.shape())));
        }
        let mut targets: Values = [None; PROPERTIES];
        targets.iter_mut().zip(values).for_each(|(slot, value)| *slot = Some(value));
        Ok(Molecule { id: self.id()?, atomic_numbers, positions: Floats::F32(positions.to_f32()), targets })
    }

    /// The number in `name` (gdb_1), or `idx` + 1.
    fn id(&self) -> Result<u32, IngestError> {
        if let Some(Attribute::Str(name)) = self.record.get("name") {
            let id = name.strip_prefix("gdb_").and_then(|n| n.parse().ok());
            return id.ok_or_else(|| self.malformed("name", "a name like gdb_1", &shown(name)));
        }
        let index = match self.record.get("idx") {
            Some(Attribute::Int(index)) => Some(index),
            Some(Attribute::Array(array)) if array.len() == 1 => array.to_i64().ok().map(|v| v[0]),
            _ => None,
        };
        let id = index.and_then(|i| u32::try_from(i).ok()?.checked_add(1));
        id.ok_or_else(|| self.malformed("name` or `idx", "the molecule's number", "neither"))
    }

    fn array(&self, key: &str) -> Result<&'d Array<'a>, IngestError> {
        match self.record.get(key) {
            Some(Attribute::Array(array)) => Ok(array),
            Some(_) => Err(self.malformed(key, "a tensor", "something else")),
            None => Err(IngestError::Missing {
                path: self.path.to_path_buf(),
                place: self.place(),
                key: key.to_owned(),
                known: self.record.names().take(40).map(str::to_owned).collect(),
            }),
        }
    }

    fn place(&self) -> String {
        format!("molecule {} of the list", self.at)
    }

    fn malformed(&self, key: &str, expected: &str, found: &str) -> IngestError {
        IngestError::Malformed {
            path: self.path.to_path_buf(),
            place: self.place().into(),
            key: key.into(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}
