//! What tells a row from all others, 36 bytes each, in a file beside each unit's record until the dataset is finished:
//! hash of the id, hash of the structure, largest force.
//!
//! Equal hashes are found by sorting those of one range at a time, so that memory stays bounded: 100 million rows take
//! 3.6 GB of temporary files, which are read twelve times, while two times 8 million hashes are held (32 bytes each).

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{ShardError, io_error};
use crate::manifest::rename_durably;
use crate::structure::Structure;

use super::distance::inverse;
use super::largest_force;

/// Bytes of a row's keys.
const WIDTH: usize = 36;
/// Entries (hash, row) that are sorted at a time.
const HELD: u64 = 8 << 20;

/// Writes the keys of a part's rows, to a temporary file first.
#[derive(Debug)]
pub(crate) struct KeyWriter {
    file: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
}

impl KeyWriter {
    pub(crate) fn create(path: PathBuf) -> Result<Self, ShardError> {
        let temporary = path.with_extension("keys.tmp");
        let file = File::create(&temporary).map_err(io_error("create", &temporary))?;
        Ok(Self { file: BufWriter::new(file), temporary, path })
    }

    pub(crate) fn push(&mut self, structure: &Structure) -> Result<(), ShardError> {
        let mut key = [0; WIDTH];
        key[..16].copy_from_slice(&blake3::hash(structure.id.as_bytes()).as_bytes()[..16]);
        key[16..32].copy_from_slice(&structure_hash(structure));
        let force = largest_force(structure).map_or(f32::NAN, |f| f as f32);
        key[32..].copy_from_slice(&force.to_le_bytes());
        self.file.write_all(&key).map_err(io_error("write", &self.temporary))
    }

    /// Puts the file in its place.
    pub(crate) fn finish(self) -> Result<(), ShardError> {
        let Self { file, temporary, path } = self;
        let file = file.into_inner().map_err(|e| io_error("write", &temporary)(e.into_error()))?;
        file.sync_all().map_err(io_error("sync", &temporary))?;
        rename_durably(&temporary, &path)
    }
}

/// Atomic numbers and positions relative to the first atom, rounded to 10⁻³ Å (in a cell: 10⁻⁴ of it), in the order of the
/// atoms: the same whatever the structure was shifted by. What [`super::Check::DuplicateStructure`] goes by.
pub fn structure_hash(s: &Structure) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&s.atomic_numbers);
    let first: [f64; 3] = std::array::from_fn(|k| s.positions.get(k));
    let cell = s.cell.filter(|_| s.pbc == [true; 3]);
    let inverse = cell.map(|c| inverse(&c));
    let mut rounded = Vec::with_capacity(12 * s.atoms());
    for i in 0..s.atoms() {
        let d: [f64; 3] = std::array::from_fn(|k| s.positions.get(3 * i + k) - first[k]);
        for k in 0..3 {
            let place = match &inverse {
                Some(m) => {
                    let fraction = d[0] * m[k] + d[1] * m[3 + k] + d[2] * m[6 + k];
                    (fraction * 1e4).round().rem_euclid(1e4) as i32
                }
                None => (d[k] * 1e3).round() as i32,
            };
            rounded.extend_from_slice(&place.to_le_bytes());
        }
    }
    for x in cell.iter().flatten() {
        rounded.extend_from_slice(&((x * 1e3).round() as i32).to_le_bytes());
    }
    hasher.update(&rounded);
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

/// The key files of a dataset's parts, in row order.
#[derive(Debug)]
pub(crate) struct KeyFiles {
    /// File and rows.
    files: Vec<(PathBuf, u64)>,
    rows: u64,
    held: u64,
}

/// Rows whose hash an earlier row has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repeats {
    /// How many.
    pub(crate) count: u64,
    /// The first of them in row order, with the earliest row of the same hash.
    pub(crate) listed: Vec<(u64, u64)>,
}

impl KeyFiles {
    pub(crate) fn new(files: Vec<(PathBuf, u64)>) -> Self {
        let rows = files.iter().map(|f| f.1).sum();
        Self { files, rows, held: HELD }
    }

    #[cfg(test)]
    pub(crate) fn holding(self, held: u64) -> Self {
        Self { held, ..self }
    }

    fn each(&self, mut visit: impl FnMut(u64, &[u8])) -> Result<(), ShardError> {
        let mut row = 0;
        for (path, rows) in &self.files {
            for key in read(path, *rows)?.chunks_exact(WIDTH) {
                visit(row, key);
                row += 1;
            }
        }
        Ok(())
    }

    /// Repeated ids and repeated structures.
    pub(crate) fn repeats(&self, limit: usize) -> Result<[Repeats; 2], ShardError> {
        let passes = self.rows.div_ceil(self.held).max(1);
        let mut repeats = [Repeats::default(), Repeats::default()];
        for pass in 0..passes {
            let mut entries: [Vec<(u128, u64)>; 2] = [Vec::new(), Vec::new()];
            self.each(|row, key| {
                for (which, entries) in entries.iter_mut().enumerate() {
                    let hash = u128_of(&key[16 * which..16 * which + 16]);
                    // The high half decides the pass: hashes are spread evenly.
                    if ((hash >> 64) as u64 as u128 * u128::from(passes)) >> 64 == u128::from(pass) {
                        entries.push((hash, row));
                    }
                }
            })?;
            for (entries, repeats) in entries.iter_mut().zip(&mut repeats) {
                entries.sort_unstable();
                repeats.take(entries, limit);
            }
        }
        Ok(repeats)
    }

    /// Tells the largest force, eV/Å, of every row that has forces.
    pub(crate) fn forces(&self, mut visit: impl FnMut(u64, f64)) -> Result<(), ShardError> {
        self.each(|row, key| {
            let force = f32::from_le_bytes([key[32], key[33], key[34], key[35]]);
            if !force.is_nan() {
                visit(row, f64::from(force));
            }
        })
    }
}

impl Repeats {
    fn take(&mut self, sorted: &[(u128, u64)], limit: usize) {
        for run in sorted.chunk_by(|a, b| a.0 == b.0) {
            self.count += run.len() as u64 - 1;
            self.listed.extend(run[1..].iter().map(|&(_, row)| (row, run[0].1)));
        }
        self.listed.sort_unstable();
        self.listed.truncate(limit);
    }
}

fn u128_of(bytes: &[u8]) -> u128 {
    let mut array = [0; 16];
    array.copy_from_slice(bytes);
    u128::from_be_bytes(array)
}

/// Reads a part's keys, which must be those of so many rows.
pub(crate) fn read(path: &Path, rows: u64) -> Result<Vec<u8>, ShardError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    if bytes.len() as u64 == rows * WIDTH as u64 {
        return Ok(bytes);
    }
    Err(ShardError::Corrupt {
        path: path.to_path_buf(),
        what: "size in bytes".into(),
        expected: (rows * WIDTH as u64).to_string(),
        found: bytes.len().to_string(),
    })
}
