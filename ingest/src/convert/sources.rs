//! The source files: hashed once, and compared with what an interrupted run has read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use shards::manifest::SourceFile;
use shards::verify::hash_file;
use shards::writer::{ReadFile, UnitRecord};

use crate::error::{IngestError, input_error, io_error};
use crate::input::{relative_names, sorted_dir};
use crate::source::Source;

/// Hashes of the source files, each computed once, when the first unit that reads it is finished.
pub(super) struct SourceHashes {
    names: BTreeMap<PathBuf, String>,
    known: Mutex<BTreeMap<PathBuf, ReadFile>>,
}

impl SourceHashes {
    pub(super) fn new(source: &dyn Source) -> Self {
        let mut files: Vec<PathBuf> = source.units().iter().flat_map(|u| u.files.clone()).collect();
        files.sort();
        files.dedup();
        let names = files.iter().cloned().zip(relative_names(&files)).collect();
        Self { names, known: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn of(&self, files: &[PathBuf]) -> Result<Vec<ReadFile>, IngestError> {
        files.iter().map(|f| self.one(f)).collect()
    }

    fn one(&self, path: &Path) -> Result<ReadFile, IngestError> {
        // Held while hashing, so that two units of one file do not both read it.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(path) {
            return Ok(found.clone());
        }
        let modified = stamp(path)?.1;
        let name =
            self.names.get(path).ok_or_else(|| input_error(path, "is not one of the source's files"))?;
        let (bytes, blake3) = if path.is_dir() { hash_directory(path)? } else { size_and_hash(path)? };
        let file = SourceFile { name: name.clone(), bytes, blake3 };
        let read = ReadFile { file, modified };
        known.insert(path.to_path_buf(), read.clone());
        Ok(read)
    }

    /// Compares the files of a unit that an earlier run finished with those of today: same size and time, or else same hash.
    pub(super) fn compare(&self, files: &[PathBuf], record: &UnitRecord) -> Result<(), IngestError> {
        for path in files {
            let Some(name) = self.names.get(path) else { continue };
            let Some(earlier) = record.sources.iter().find(|s| s.file.name == *name) else { continue };
            let now = stamp(path)?;
            // The time of a directory does not tell whether files in it have changed.
            let plain = !path.is_dir();
            if plain && now == (earlier.file.bytes, earlier.modified) {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.entry(path.clone()).or_insert_with(|| earlier.clone());
                continue;
            }
            if (plain && now.0 != earlier.file.bytes) || self.one(path)?.file.blake3 != earlier.file.blake3 {
                let problem = format!(
                    "is not the file that the interrupted conversion has read ({} bytes then, {} now); give that file again, or \
                     convert into a new directory",
                    earlier.file.bytes, now.0
                );
                return Err(input_error(path, problem));
            }
        }
        Ok(())
    }
}

fn size_and_hash(file: &Path) -> Result<(u64, String), IngestError> {
    let bytes = std::fs::metadata(file).map_err(io_error("look at", file))?.len();
    Ok((bytes, hash_file(file)?))
}

/// Size and hash of a directory of very many small files, which would swell the manifest if each stood in it: the hash is that
/// of a list of names and hashes, sorted by name.
fn hash_directory(dir: &Path) -> Result<(u64, String), IngestError> {
    let (mut total, mut list) = (0, Vec::new());
    for file in sorted_dir(dir)?.into_iter().filter(|p| p.is_file()) {
        let (bytes, hash) = size_and_hash(&file)?;
        total += bytes;
        list.push(format!("{hash}  {}\n", file.file_name().unwrap_or_default().to_string_lossy()));
    }
    Ok((total, blake3::hash(list.concat().as_bytes()).to_hex().to_string()))
}

/// Size and time of the last change, nanoseconds since 1970.
fn stamp(path: &Path) -> Result<(u64, u64), IngestError> {
    let metadata = std::fs::metadata(path).map_err(io_error("look at", path))?;
    let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    Ok((metadata.len(), modified.map_or(0, |t| t.as_nanos() as u64)))
}
