//! ULM, the binary container of ASE's trajectories (`.traj`): items of JSON whose arrays lie elsewhere in the file.
//!
//! Every length and offset is compared with the file before memory is taken; arrays are read where they are asked for.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::ase_json;
use crate::error::{IngestError, input_error, io_error};
use crate::pickle::array::{Array, Blob, Dtype};

/// Bytes of JSON of an item; those of a frame with all of VASP's parameters are some thousands.
const LARGEST_JSON: u64 = 1 << 25;
/// Dimensions of an array.
const MOST_DIMENSIONS: usize = 8;

/// An open file; reading from several threads is fine.
#[derive(Debug)]
pub struct Ulm {
    file: File,
    path: PathBuf,
    bytes: u64,
    offsets: Vec<u64>,
    tag: String,
}

impl Ulm {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read, is no ULM file, or is truncated.
    pub fn open(path: &Path) -> Result<Self, IngestError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let bytes = file.metadata().map_err(io_error("look at", path))?.len();
        let mut ulm = Self { file, path: path.to_path_buf(), bytes, offsets: vec![], tag: String::new() };
        let start = ulm.read(0, bytes.min(48)).map_err(|p| input_error(path, p))?;
        if start.starts_with(b"PickleTrajectory") {
            let problem = "is a trajectory of ASE before 3.9, a pickle; convert it with `python -m ase.io.trajectory FILE`";
            return Err(input_error(path, problem));
        }
        if start.len() < 48 || !(start.starts_with(b"- of Ulm") || start.starts_with(b"AFFormat")) {
            return Err(input_error(
                path,
                "is no ULM file (ASE trajectory): it does not begin with `- of Ulm`",
            ));
        }
        String::from_utf8_lossy(&start[8..24]).trim_end().clone_into(&mut ulm.tag);
        let (items, place) = (word(&start, 32), word(&start, 40));
        let list = items.checked_mul(8).ok_or_else(|| "the number of items is absurd".to_owned());
        let offsets = list.and_then(|list| ulm.read(place, list)).map_err(|problem| {
            input_error(path, format!("the list of its {items} items at byte {place}: {problem}"))
        })?;
        ulm.offsets = offsets.chunks_exact(8).map(|c| word(c, 0)).collect();
        Ok(ulm)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// What the file says it is, for example `ASE-Trajectory`.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The JSON of an item.
    ///
    /// # Errors
    /// When it does not exist, lies outside the file, or is no JSON.
    pub fn item(&self, index: usize) -> Result<Json, IngestError> {
        let wrong = |problem: String| input_error(&self.path, format!("item {index}: {problem}"));
        let offset = *self.offsets.get(index).ok_or_else(|| wrong("does not exist".to_owned()))?;
        let length = word(&self.read(offset, 8).map_err(wrong)?, 0);
        if length > LARGEST_JSON {
            return Err(wrong(format!("its description claims {length} bytes, more than {LARGEST_JSON}")));
        }
        let text = self.read(offset.saturating_add(8), length).map_err(wrong)?;
        let item = ase_json::parse(&text).map_err(wrong)?;
        if item.get("_little_endian") == Some(&Json::Bool(false)) {
            return Err(wrong("was written by a big-endian machine, whose numbers are not read".to_owned()));
        }
        Ok(item)
    }

    /// The array that `{"ndarray": [shape, type, offset]}` describes.
    ///
    /// # Errors
    /// When it is no such description, or reaches outside the file.
    pub fn array(&self, description: &Json) -> Result<Array<'static>, String> {
        let wrong = || format!("expected the place of an array, found {}", ase_json::shown(description));
        let parts = description.get("ndarray").and_then(Json::as_array).ok_or_else(wrong)?;
        let [shape, dtype, offset] = parts.as_slice() else { return Err(wrong()) };
        let shape: Option<Vec<usize>> = shape
            .as_array()
            .filter(|s| s.len() <= MOST_DIMENSIONS)
            .and_then(|s| s.iter().map(|n| n.as_u64().map(|n| n as usize)).collect());
        let dtype = dtype.as_str().and_then(dtype_of);
        let (Some(shape), Some(dtype), Some(offset)) = (shape, dtype, offset.as_u64()) else {
            return Err(wrong());
        };
        let elements = shape.iter().try_fold(1u64, |n, &s| n.checked_mul(s as u64));
        let bytes = elements.and_then(|n| n.checked_mul(dtype.size() as u64)).unwrap_or(u64::MAX);
        let data = self.read(offset, bytes)?;
        Array::dense(dtype, shape, false, Blob::shared(Arc::from(data))).map_err(|e| e.to_string())
    }

    /// Bytes of the file; none are taken before it is known that they are there.
    fn read(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, String> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(format!(
                "{bytes} bytes from byte {offset} reach beyond the file's {}: it is truncated or damaged",
                self.bytes
            ));
        }
        let mut out = vec![0; bytes as usize];
        self.file
            .read_exact_at(&mut out, offset)
            .map_err(|e| format!("cannot read at byte {offset}: {e}"))?;
        Ok(out)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn dtype_of(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}
