//! Safetensors files read one tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ::safetensors::tensor::Dtype;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::CheckpointError;

/// A header of more bytes describes no model.
const LARGEST_HEADER: u64 = 100 << 20;

/// One tensor as the header describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    dtype: Dtype,
    /// Extent of every axis.
    pub shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Entry {
    /// Element type, if tch has it.
    pub fn kind(&self) -> Option<Kind> {
        match self.dtype {
            Dtype::F32 => Some(Kind::Float),
            Dtype::F64 => Some(Kind::Double),
            Dtype::I64 => Some(Kind::Int64),
            Dtype::F16 => Some(Kind::Half),
            Dtype::BF16 => Some(Kind::BFloat16),
            _ => None,
        }
    }
}

/// An open file. Every entry lies inside it and has as many bytes as its shape says.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: File,
    start: u64,
    entries: BTreeMap<String, Entry>,
}

impl SafetensorsFile {
    /// Reads and checks the header.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let mut file = File::open(path).map_err(CheckpointError::io("open", path))?;
        let length = file.metadata().map_err(CheckpointError::io("read", path))?.len();
        let refused = |problem: String| {
            CheckpointError::content(path, format!("not a whole safetensors file: {problem}"))
        };
        let mut head = [0; 8];
        file.read_exact(&mut head).map_err(|e| refused(e.to_string()))?;
        let size = u64::from_le_bytes(head);
        let start = size.saturating_add(8);
        if size > LARGEST_HEADER || start > length {
            return Err(refused(format!("a header of {size} bytes in a file of {length}")));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(|e| refused(e.to_string()))?;
        let mut raw: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|e| refused(format!("header: {e}")))?;
        raw.remove("__metadata__");
        let mut entries = BTreeMap::new();
        for (name, value) in raw {
            let entry: Entry =
                serde_json::from_value(value).map_err(|e| refused(format!("tensor `{name}`: {e}")))?;
            let (begin, end) = entry.data_offsets;
            let kind = entry.kind().ok_or_else(|| {
                CheckpointError::content(path, format!("tensor `{name}`: unknown type {:?}", entry.dtype))
            })?;
            let width = kind.elt_size_in_bytes();
            let bytes = entry.shape.iter().try_fold(width, |n, &s| n.checked_mul(s));
            if end > length - start || end.checked_sub(begin) != bytes.map(|n| n as u64) {
                return Err(refused(format!(
                    "tensor `{name}` of shape {:?} is said to lie at {begin}..{end} of {} bytes",
                    entry.shape,
                    length - start
                )));
            }
            entries.insert(name, entry);
        }
        Ok(Self { path: path.to_path_buf(), file, start, entries })
    }

    /// The tensors by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Reads one tensor.
    pub fn read(&mut self, name: &str) -> Result<Tensor, CheckpointError> {
        let refused = |problem: String| CheckpointError::content(&self.path, problem);
        let entry = self.entries.get(name).ok_or_else(|| refused(format!("tensor `{name}` is missing")))?;
        let (begin, end) = entry.data_offsets;
        let io = |e| CheckpointError::io("read", &self.path)(e);
        self.file.seek(SeekFrom::Start(self.start + begin)).map_err(io)?;
        let mut bytes = vec![0; (end - begin) as usize];
        self.file.read_exact(&mut bytes).map_err(io)?;
        let size: Vec<i64> = entry.shape.iter().map(|&n| n as i64).collect();
        Tensor::f_from_data_size(&bytes, &size, entry.kind().unwrap_or(Kind::Float))
            .map_err(|e| refused(format!("tensor `{name}`: {e}")))
    }
}
