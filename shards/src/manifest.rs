//! `manifest.json`: what a dataset is, which files it has and what was measured about it.
//!
//! Written last and by rename: a directory without one does not exist for readers. It carries its own hash.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checks::CheckSummary;
use crate::error::{ShardError, io_error};
use crate::layout::Layout;
use crate::schema::SCHEMA_VERSION;
use crate::splits::SplitRecord;
use crate::units::Constants;

/// File name of the manifest in a dataset's directory.
pub const FILE_NAME: &str = "manifest.json";

/// File name by which a directory is known to hold one partition of a dataset.
pub const PARTITION_FILE: &str = "partition.json";

/// What a dataset is, apart from its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetHeader {
    /// Short name, for example `ani1x`.
    pub name: String,
    /// `molecules`, `surfaces`, `materials`, ….
    pub domain: String,
    /// Functional, basis or code that made the labels.
    pub level_of_theory: String,
    /// Licence of the data.
    pub licence: String,
    /// Constants that converted the source's units. `None`: the source is in eV and Å.
    pub constants: Option<Constants>,
    /// What the source's numbers are in; `None`: not told (a dataset of schema version 1).
    #[serde(default)]
    pub source_units: Option<SourceUnits>,
    /// Choices made at conversion, name → value (filters, energy kind, …).
    pub choices: BTreeMap<String, String>,
}

/// The units of a source, with what one of each is here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceUnits {
    /// Energies, in eV.
    pub energy: Unit,
    /// Forces, in eV/Å.
    pub forces: Unit,
    /// Lengths, in Å.
    pub length: Unit,
}

/// A unit by name and size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Its name, such as `kcal/mol`.
    pub name: String,
    /// How much one is in eV, eV/Å or Å; negative where the source holds gradients.
    pub size: f64,
}

impl SourceUnits {
    /// eV, eV/Å and Å, as the shards have them.
    pub fn same() -> Self {
        Self::new(("eV", 1.0), ("eV/Å", 1.0), ("Å", 1.0))
    }

    /// From names and sizes.
    pub fn new(energy: (&str, f64), forces: (&str, f64), length: (&str, f64)) -> Self {
        let unit = |(name, size): (&str, f64)| Unit { name: name.to_owned(), size };
        Self { energy: unit(energy), forces: unit(forces), length: unit(length) }
    }
}

/// A source file that was converted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Path relative to the input given.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of its content.
    pub blake3: String,
}

/// One Parquet file: the rows of one source unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// Number of the source unit, also in the file name.
    pub unit: u32,
    /// The source unit's name.
    pub source: String,
    /// File name below `data/`.
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Atoms over all rows.
    pub atoms: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub blake3: String,
    /// BLAKE3 of the footer alone (from its start to the file's end), checked whenever the file is opened.
    pub footer_blake3: String,
    /// Where the footer starts.
    pub footer_start: u64,
}

/// The whole manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the on-disk format.
    pub schema_version: u32,
    /// Program and version that wrote it.
    pub tool: String,
    /// What the dataset is.
    pub dataset: DatasetHeader,
    /// Columns, graph specification, neighbour storage.
    pub layout: Layout,
    /// Source files, sorted by name.
    pub sources: Vec<SourceFile>,
    /// Rows over all parts.
    pub rows: u64,
    /// Atoms over all parts.
    pub atoms: u64,
    /// Parquet files in row order.
    pub parts: Vec<PartRecord>,
    /// Rejected structures by reason; the list itself is `rejects.parquet`.
    pub rejects: BTreeMap<String, u64>,
    /// BLAKE3 of `rejects.parquet`; `None`: nothing was rejected and there is no such file.
    pub rejects_blake3: Option<String>,
    /// What the physics checks found; `None` in a dataset of schema version 1.
    #[serde(default)]
    pub checks: Option<CheckSummary>,
    /// Named row sets with their statistics.
    pub splits: BTreeMap<String, SplitRecord>,
    /// BLAKE3 of this file with this field empty.
    pub hash: String,
}

impl Manifest {
    /// Reads and checks the manifest of a dataset's directory.
    pub fn read(dir: &Path) -> Result<Self, ShardError> {
        let path = dir.join(FILE_NAME);
        match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.join(PARTITION_FILE).exists() => {
                Err(ShardError::Partition { dir: dir.to_path_buf() })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(ShardError::NoManifest { dir: dir.to_path_buf() })
            }
            other => Self::decode(&other.map_err(io_error("read", &path))?, &path),
        }
    }

    /// Checks the content of a manifest's file. `path` is for messages.
    pub(crate) fn decode(content: &[u8], path: &Path) -> Result<Self, ShardError> {
        let corrupt = |what: &str, expected: String, found: String| ShardError::Corrupt {
            path: path.to_path_buf(),
            what: what.to_string(),
            expected,
            found,
        };
        let text =
            std::str::from_utf8(content).map_err(|e| corrupt("content", "UTF-8".into(), e.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| corrupt("content", "JSON".into(), e.to_string()))?;
        let version = value.get("schema_version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if version == 0 || version > u64::from(SCHEMA_VERSION) {
            let expected = format!("1 to {SCHEMA_VERSION}; a newer version needs a newer program");
            return Err(corrupt("schema_version", expected, version.to_string()));
        }
        let manifest: Self =
            serde_json::from_str(text).map_err(|e| corrupt("content", "a manifest".into(), e.to_string()))?;
        let hash = hash_of_text(text, &manifest.hash);
        if manifest.hash != hash {
            return Err(corrupt("hash", manifest.hash.clone(), hash));
        }
        manifest.check().map_err(|(what, expected, found)| corrupt(what, expected, found))?;
        Ok(manifest)
    }

    /// Writes the manifest beside its final place and renames it there.
    pub fn write(&mut self, dir: &Path) -> Result<(), ShardError> {
        let path = dir.join(FILE_NAME);
        self.hash = String::new();
        let unsigned = self.to_json(&path)?;
        self.hash = blake3::hash(unsigned.as_bytes()).to_hex().to_string();
        let text = self.to_json(&path)?;
        // A number that JSON cannot say (NaN, infinity) must not end in a dataset that no one can open.
        if serde_json::from_str::<Self>(&text).ok().as_ref() != Some(self) {
            return Err(ShardError::Corrupt {
                path,
                what: "statistics".into(),
                expected: "finite numbers".into(),
                found: "one that is NaN or infinite; nothing was written".into(),
            });
        }
        write_durably(&path, text.as_bytes())
    }

    fn to_json(&self, path: &Path) -> Result<String, ShardError> {
        let failed = |e: serde_json::Error| ShardError::Io {
            action: "write",
            path: path.to_path_buf(),
            source: e.into(),
        };
        let mut text = serde_json::to_string_pretty(self).map_err(failed)?;
        text.push('\n');
        Ok(text)
    }

    /// What readers rely on and a hash alone does not promise.
    fn check(&self) -> Result<(), (&'static str, String, String)> {
        let sum = |of: fn(&PartRecord) -> u64| {
            self.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(of(part)))
        };
        if sum(|p| p.rows) != Some(self.rows) || self.rows > MOST_ROWS {
            return Err(("rows", "the sum over the parts".into(), self.rows.to_string()));
        }
        if sum(|p| p.atoms) != Some(self.atoms) {
            return Err(("atoms", "the sum over the parts".into(), self.atoms.to_string()));
        }
        if self.layout.row_group_rows == 0 {
            return Err(("layout.row_group_rows", "at least 1".into(), "0".into()));
        }
        let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        for part in &self.parts {
            let hashes = [&part.blake3, &part.footer_blake3];
            if part.rows == 0
                || part.file != part_file(part.unit)
                || part.footer_start > part.bytes
                || !hashes.into_iter().all(|hash| is_hash(hash))
            {
                let expected = format!("{}, with rows, a footer and their BLAKE3", part_file(part.unit));
                return Err(("parts", expected, part.file.clone()));
            }
        }
        let row_groups: u64 =
            self.parts.iter().map(|p| p.rows.div_ceil(self.layout.row_group_rows.into())).sum();
        if row_groups > MOST_ROW_GROUPS {
            return Err((
                "layout.row_group_rows",
                format!("{MOST_ROW_GROUPS} row groups at most"),
                row_groups.to_string(),
            ));
        }
        for (name, split) in &self.splits {
            let file = format!("splits/{name}.parquet");
            if split.file != file || name.contains('/') || !is_hash(&split.blake3) {
                return Err(("splits", format!("{file} with its BLAKE3"), split.file.clone()));
            }
            let references = split.statistics.labels.values().flat_map(|l| l.reference.coefficients.keys());
            if let Some(z) =
                references.chain(split.statistics.elements.keys()).find(|z| !(1..=118).contains(*z))
            {
                return Err(("splits", "atomic numbers from 1 to 118".into(), z.to_string()));
            }
        }
        Ok(())
    }

    /// The split of that name.
    pub fn split(&self, dir: &Path, name: &str) -> Result<&SplitRecord, ShardError> {
        self.splits.get(name).ok_or_else(|| ShardError::UnknownSplit {
            dir: dir.to_path_buf(),
            name: name.to_string(),
            known: self.splits.keys().cloned().collect(),
        })
    }
}

/// More than any dataset has; with the next, bounds what a lying manifest makes a reader allocate.
const MOST_ROWS: u64 = 1 << 40;
/// More than any dataset has.
const MOST_ROW_GROUPS: u64 = 1 << 28;

/// File name of a unit's part.
pub(crate) fn part_file(unit: u32) -> String {
    format!("part-{unit:05}.parquet")
}

/// BLAKE3 of a manifest's text with the last occurrence of its hash taken out, so that every byte counts and fields that
/// later versions add do not change what earlier files hash to.
fn hash_of_text(text: &str, hash: &str) -> String {
    let unsigned = match text.rfind(hash) {
        Some(at) if !hash.is_empty() => [&text[..at], &text[at + hash.len()..]].concat(),
        _ => text.to_string(),
    };
    blake3::hash(unsigned.as_bytes()).to_hex().to_string()
}

/// Writes a file so that a crash leaves either the old content or the new: temporary file, sync, rename, sync of the directory.
pub fn write_durably(path: &Path, content: &[u8]) -> Result<(), ShardError> {
    use std::io::Write as _;
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary).map_err(io_error("create", &temporary))?;
    file.write_all(content).map_err(io_error("write", &temporary))?;
    file.sync_all().map_err(io_error("sync", &temporary))?;
    drop(file);
    rename_durably(&temporary, path)
}

/// Renames and makes the rename survive a power cut.
pub(crate) fn rename_durably(from: &Path, to: &Path) -> Result<(), ShardError> {
    fs::rename(from, to).map_err(io_error("rename into place", to))?;
    if let Some(parent) = to.parent() {
        let dir = fs::File::open(parent).map_err(io_error("open", parent))?;
        dir.sync_all().map_err(io_error("sync", parent))?;
    }
    Ok(())
}
