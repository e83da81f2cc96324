//! Which files of QMOF were given: the database's folder, its zip archive, or some of its files.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{IngestError, input_error, io_error};
use crate::input::{Input, sorted_dir};
use crate::packed::{Packed, members};

/// The parts that were found.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// `qmof.json`: properties.
    pub(super) properties: Option<Packed>,
    /// `qmof_structure_data.json`: structures in the same order.
    pub(super) structures: Option<Packed>,
    /// A table of properties.
    pub(super) table: Option<Packed>,
    /// A file of each structure, sorted by path.
    pub(super) cifs: Vec<Packed>,
}

impl Parts {
    /// Looks at what was given.
    ///
    /// # Errors
    /// When a path does not exist, a part is given twice, or nothing of QMOF is there.
    pub(super) fn find(inputs: &[Input]) -> Result<Self, IngestError> {
        let mut parts = Self::default();
        for input in inputs {
            let path = &input.path;
            let kind = std::fs::metadata(path).map_err(io_error("open", path))?;
            let found = if kind.is_dir() {
                parts.folder(path)?
            } else if has_extension(path, "zip") {
                parts.archive(path)?
            } else {
                let file = Packed::file(path).map_err(io_error("read", path))?;
                parts.file(file, true)?
            };
            if !found {
                let problem = "no file named *.json, *.csv, *.cif or relaxed_structures.zip in it; expected QMOF's \
                     folder, its zip, qmof.json with qmof_structure_data.json, or qmof.csv with the CIF files";
                return Err(input_error(path, problem));
            }
        }
        parts.cifs.sort_by(|a, b| a.path().cmp(b.path()).then(a.name().cmp(b.name())));
        Ok(parts)
    }

    /// The released folder, or one of CIF files. Of two ways to the same data the JSON pair is taken: it is in double
    /// precision.
    fn folder(&mut self, dir: &Path) -> Result<bool, IngestError> {
        let mut found = false;
        let entries = sorted_dir(dir)?;
        for path in entries.iter().filter(|p| p.is_file()) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name == "relaxed_structures.zip" {
                found |= self.archive(path)?;
            } else if is_known(name) || has_extension(path, "cif") {
                let file = Packed::file(path).map_err(io_error("read", path))?;
                found |= self.file(file, false)?;
            }
        }
        let below = dir.join("relaxed_structures");
        if below.is_dir() {
            found |= self.folder(&below)?;
        }
        self.choose();
        Ok(found)
    }

    fn archive(&mut self, path: &Path) -> Result<bool, IngestError> {
        let mut found = false;
        for member in members(path).map_err(io_error("read", path))? {
            if is_known(member.name()) || Path::new(member.name()).extension().is_some_and(|e| e == "cif") {
                found |= self.file(member, false)?;
            }
        }
        self.choose();
        Ok(found)
    }

    /// Takes a file by its name; `named` by the user, any table and JSON is taken.
    fn file(&mut self, file: Packed, named: bool) -> Result<bool, IngestError> {
        let name = file.name().to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let place = match plain.rsplit_once('.') {
            Some((_, "cif")) => {
                self.cifs.push(file);
                return Ok(true);
            }
            Some((stem, "json")) if stem.contains("structure") => &mut self.structures,
            Some((stem, "json")) if named || stem == "qmof" => &mut self.properties,
            Some((_, "csv")) => &mut self.table,
            _ => return Ok(false),
        };
        if let Some(other) = place {
            let problem = format!("is the second of its kind beside {}; give one", other.path().display());
            return Err(input_error(file.path(), problem));
        }
        *place = Some(file);
        Ok(true)
    }

    fn choose(&mut self) {
        if self.properties.is_some() && self.structures.is_some() {
            self.table = None;
            self.cifs.clear();
        }
    }

    /// A path for messages about the whole.
    pub(super) fn some_path(&self) -> PathBuf {
        let single = [&self.properties, &self.structures, &self.table];
        let any = single.into_iter().flatten().chain(self.cifs.first()).next();
        any.map(|p| p.path().to_path_buf()).unwrap_or_default()
    }
}

/// Names that the release has, and the table of its first version.
fn is_known(name: &str) -> bool {
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    ["qmof.json", "qmof_structure_data.json", "qmof.csv", "opt-bandgaps.csv"].contains(&plain)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

/// Opens a part for reading.
pub(super) fn open(file: &Packed) -> Result<Box<dyn io::Read + Send>, IngestError> {
    file.open().map_err(io_error("read", file.path()))
}
