//! HDF5 files, through the crate `hdf5-pure`.
//!
//! Why not the C library: `hdf5-pure` builds without cmake, has no global lock (threads read one file side by side through
//! `pread`) and no C parser between an untrusted file and this process. Every fixture decodes to its truth, and rewrites of
//! ANI-1x by h5py with old (superblock 0) and new (1.10) groups, 26 datasets a group, contiguous, chunked and resizable storage,
//! shuffle, gzip, lzf and Fletcher-32 filters, big-endian numbers, names with dots and parentheses convert to the same shard
//! bytes. Reading 200,000 ANI-1x-like conformers takes it 0.14 s of processor time, h5py 0.25 s;
//! of a conversion that is a fiftieth. Two gaps, both told by an error: soft links are not listed (see [`links`]), and the
//! chunk layout 5 that HDF5 2.0 writes on request (`libver='latest'`) is unknown.

pub mod links;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use hdf5_pure::{
    DType, Error as LibraryError, FileAccessProperties, FormatError, MetadataCacheConfig, Source,
    VlenStringReadOptions,
};

use crate::error::{IngestError, io_error};

/// Bytes of metadata kept in memory: the symbol tables of some thousand groups.
const METADATA_CACHE: usize = 16 << 20;
/// The most that a compressed dataset may be larger than its whole file.
const MAX_INFLATION: u64 = 64;
/// Longest text that is read from a string dataset.
const MAX_TEXT: u64 = 1 << 20;

/// An open HDF5 file. Reads are positional and take no lock: clones may be used by several threads at once.
#[derive(Debug, Clone)]
pub struct Hdf5 {
    path: PathBuf,
    bytes: u64,
    file: hdf5_pure::File,
}

/// A group of a file.
#[derive(Debug, Clone)]
pub struct Group {
    file: Hdf5,
    name: String,
    group: hdf5_pure::Group,
}

/// Numbers of a dataset at their stored width; integers widened.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
    /// Any integer type.
    Int(Vec<i64>),
}

/// `pread` on the file, so that readers on several threads share nothing.
struct Positional {
    file: File,
    bytes: u64,
}

impl Source for Positional {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        self.file.read_exact_at(buf, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => FormatError::UnexpectedEof {
                expected: buf.len(),
                available: self.bytes.saturating_sub(offset) as usize,
            },
            _ => FormatError::Source(e.to_string()),
        })
    }
}

impl Hdf5 {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// When it cannot be opened or is no HDF5 file.
    pub fn open(path: &Path) -> Result<Self, IngestError> {
        let handle = File::open(path).map_err(io_error("open", path))?;
        let bytes = handle.metadata().map_err(io_error("look at", path))?.len();
        let properties =
            FileAccessProperties::new().with_metadata_cache(MetadataCacheConfig::new(METADATA_CACHE));
        let file = hdf5_pure::File::from_source_with_options(Positional { file: handle, bytes }, properties)
            .map_err(|e| problem(path, "/", &e))?;
        Ok(Self { path: path.to_path_buf(), bytes, file })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root group.
    pub fn root(&self) -> Group {
        Group { file: self.clone(), name: String::new(), group: self.file.root() }
    }
}

impl Group {
    /// The group's path in the file; empty for the root.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All sub-groups with their names, in bytewise order.
    ///
    /// # Errors
    /// When the group's table is damaged.
    pub fn groups(&self) -> Result<Vec<(String, Group)>, IngestError> {
        let members = self.group.iter_groups().map_err(|e| self.problem("", &e))?;
        let mut groups: Vec<(String, Group)> = members
            .map(|(name, group)| {
                let path = self.child(&name);
                (name, Group { file: self.file.clone(), name: path, group })
            })
            .collect();
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(groups)
    }

    /// Names of the datasets, in bytewise order.
    ///
    /// # Errors
    /// When the group's table is damaged.
    pub fn datasets(&self) -> Result<Vec<String>, IngestError> {
        let mut names = self.group.datasets().map_err(|e| self.problem("", &e))?;
        names.sort();
        Ok(names)
    }

    /// The datasets of these names, in their order, looked up in one walk of the group.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn require<const N: usize>(&self, names: [&str; N]) -> Result<[Dataset; N], IngestError> {
        let mut all = Vec::with_capacity(N);
        for (dataset, name) in self.find(names)?.into_iter().zip(names) {
            let Some(dataset) = dataset else {
                return Err(IngestError::Missing {
                    path: self.file.path.clone(),
                    place: format!("group `/{}`", self.name),
                    key: name.to_owned(),
                    known: self.datasets()?,
                });
            };
            all.push(dataset);
        }
        let too_few = |all: Vec<Dataset>| self.error("", format!("{} of {N} datasets", all.len()));
        all.try_into().map_err(too_few)
    }

    /// As [`Group::require`], for datasets that may be missing.
    ///
    /// # Errors
    /// When the group's table is damaged.
    pub fn find<const N: usize>(&self, names: [&str; N]) -> Result<[Option<Dataset>; N], IngestError> {
        let members = self.group.iter_datasets().map_err(|e| self.problem("", &e))?;
        let mut found: [Option<Dataset>; N] = [const { None }; N];
        for (name, dataset) in members {
            if let Some(slot) = names.iter().position(|n| *n == name) {
                found[slot] = Some(Dataset { file: self.file.clone(), name: self.child(&name), dataset });
            }
        }
        Ok(found)
    }

    /// The text of a string dataset's first element, if the group has it.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn text(&self, name: &str) -> Result<Option<String>, IngestError> {
        let Ok(dataset) = self.group.dataset(name) else { return Ok(None) };
        let texts = match dataset.dtype().map_err(|e| self.problem(name, &e))? {
            DType::VariableLengthString => {
                let limit = dataset.vlen_string_payload_size().map_err(|e| self.problem(name, &e))?;
                if limit > MAX_TEXT {
                    return Err(self.error(name, format!("{limit} bytes of text, expected a name")));
                }
                dataset.read_vlen_strings(VlenStringReadOptions::default())
            }
            _ => dataset.read_string(),
        };
        Ok(texts.map_err(|e| self.problem(name, &e))?.into_iter().next())
    }

    fn child(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_owned() } else { format!("{}/{name}", self.name) }
    }

    fn problem(&self, name: &str, error: &LibraryError) -> IngestError {
        problem(&self.file.path, &self.child(name), error)
    }

    fn error(&self, name: &str, text: String) -> IngestError {
        IngestError::Hdf5 { path: self.file.path.clone(), object: self.child(name), problem: text }
    }
}

/// A dataset of a file.
#[derive(Debug, Clone)]
pub struct Dataset {
    file: Hdf5,
    name: String,
    dataset: hdf5_pure::Dataset,
}

impl Dataset {
    /// Path in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Extent of every axis.
    ///
    /// # Errors
    /// When the description is damaged.
    pub fn shape(&self) -> Result<Vec<usize>, IngestError> {
        let shape = self.dataset.shape().map_err(|e| self.problem(&e))?;
        Ok(shape.into_iter().map(|n| n as usize).collect())
    }

    /// Whether the elements are 32-bit floats.
    ///
    /// # Errors
    /// When the description is damaged.
    pub fn is_f32(&self) -> Result<bool, IngestError> {
        Ok(matches!(self.dataset.dtype().map_err(|e| self.problem(&e))?, DType::F32))
    }

    /// The text of the attribute `units`, if there is one.
    ///
    /// # Errors
    /// When the attributes are damaged.
    pub fn units(&self) -> Result<Option<String>, IngestError> {
        let attributes = self.dataset.attrs().map_err(|e| self.problem(&e))?;
        Ok(attributes.get("units").and_then(|a| a.as_str()).map(str::to_owned))
    }

    /// All numbers, in row-major order.
    ///
    /// # Errors
    /// When the dataset is not numeric, is damaged, or claims more than its file can hold.
    pub fn numbers(&self) -> Result<Numbers, IngestError> {
        self.check_size()?;
        let d = &self.dataset;
        let read = match d.dtype().map_err(|e| self.problem(&e))? {
            DType::F32 => d.read_f32().map(Numbers::F32),
            DType::F64 => d.read_f64().map(Numbers::F64),
            DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64 => d.read_i64().map(Numbers::Int),
            other => return Err(self.error(format!("expected numbers, found {other}"))),
        };
        let numbers = read.map_err(|e| self.problem(&e))?;
        let (expected, found) = (self.shape()?.iter().product::<usize>(), numbers.len());
        if found == expected {
            Ok(numbers)
        } else {
            Err(self.malformed(&format!("{expected} numbers"), &found.to_string()))
        }
    }

    /// Whole numbers in 1..=118.
    ///
    /// # Errors
    /// When the dataset holds anything else.
    pub fn atomic_numbers(&self) -> Result<Vec<u8>, IngestError> {
        let Numbers::Int(values) = self.numbers()? else {
            return Err(self.error("expected whole numbers, found floats".to_owned()));
        };
        let convert = |z: i64| u8::try_from(z).ok().filter(|z| (1..=118).contains(z));
        values
            .iter()
            .map(|&z| convert(z).ok_or_else(|| self.error(format!("{z} is no atomic number"))))
            .collect()
    }

    /// Refuses a dataset whose declared size its file cannot hold, before memory is taken for it.
    fn check_size(&self) -> Result<(), IngestError> {
        let shape = self.dataset.shape().map_err(|e| self.problem(&e))?;
        let element = self.dataset.element_size().map_err(|e| self.problem(&e))?;
        let bytes = shape.iter().try_fold(element, |n, &s| n.checked_mul(s));
        let inflation = if self.dataset.filters().is_empty() { 1 } else { MAX_INFLATION };
        match bytes {
            Some(bytes) if bytes <= self.file.bytes.saturating_mul(inflation) => Ok(()),
            _ => Err(self.error(format!(
                "shape {shape:?} needs more bytes than the whole file of {} has: it is truncated or damaged",
                self.file.bytes
            ))),
        }
    }

    /// An error that says what was expected of this dataset and what was found.
    pub fn malformed(&self, expected: &str, found: &str) -> IngestError {
        self.error(format!("expected {expected}, found {found}"))
    }

    fn problem(&self, error: &LibraryError) -> IngestError {
        problem(&self.file.path, &self.name, error)
    }

    fn error(&self, text: String) -> IngestError {
        IngestError::Hdf5 { path: self.file.path.clone(), object: self.name.clone(), problem: text }
    }
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::Int(v) => v.len(),
        }
    }

    /// As f64, whatever the stored type.
    pub fn into_f64(self) -> Vec<f64> {
        match self {
            Self::F32(v) => v.into_iter().map(f64::from).collect(),
            Self::F64(v) => v,
            Self::Int(v) => v.into_iter().map(|x| x as f64).collect(),
        }
    }
}

fn problem(path: &Path, object: &str, error: &LibraryError) -> IngestError {
    let problem = match error {
        LibraryError::Format(FormatError::UnexpectedEof { expected, available }) => {
            format!(
                "{expected} bytes are needed where {available} are left: the file is truncated; fetch it again"
            )
        }
        LibraryError::Format(FormatError::SignatureNotFound) => "not an HDF5 file".to_owned(),
        other => other.to_string(),
    };
    IngestError::Hdf5 { path: path.to_path_buf(), object: object.to_owned(), problem }
}

#[cfg(test)]
mod tests;
