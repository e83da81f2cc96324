//! Named tensors in safetensors files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use ::safetensors::tensor::{Dtype, View};
use tch::{Kind, Tensor};

use super::CheckpointError;
use super::safetensors::SafetensorsFile;

/// A tensor as the safetensors crate wants to see it; bytes are copied one tensor at a time.
struct Stored {
    tensor: Tensor,
    shape: Vec<usize>,
    dtype: Dtype,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

fn dtype(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::Float => Some(Dtype::F32),
        Kind::Double => Some(Dtype::F64),
        Kind::Int64 => Some(Dtype::I64),
        _ => None,
    }
}

/// Writes tensors by name; equal tensors give equal bytes.
pub fn write(file: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), CheckpointError> {
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = dtype(tensor.kind()).ok_or_else(|| {
            CheckpointError::content(file, format!("tensor `{name}`: cannot store {:?}", tensor.kind()))
        })?;
        let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        stored.push((name.as_str(), Stored { tensor, shape, dtype }));
    }
    ::safetensors::serialize_to_file(stored, None, file)
        .map_err(|e| CheckpointError::content(file, format!("writing tensors: {e}")))
}

/// Reads all tensors of a file.
pub fn read(file: &Path) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let mut source = SafetensorsFile::open(file)?;
    let names: Vec<String> = source.entries().keys().cloned().collect();
    names.into_iter().map(|name| Ok((name.clone(), source.read(&name)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tensors_come_back_to_the_bit_and_files_are_equal() {
        let dir = tempfile::tempdir().unwrap();
        let mut tensors = BTreeMap::new();
        tensors.insert("a".to_owned(), Tensor::from_slice(&[1.5_f32, f32::MIN_POSITIVE, -0.0]).view([3, 1]));
        tensors.insert("b".to_owned(), Tensor::from_slice(&[std::f64::consts::PI]));
        tensors.insert("scale_factor".to_owned(), Tensor::from(2.0_f64).view(&[] as &[i64]));
        let files = ["one", "two"].map(|name| dir.path().join(name));
        for file in &files {
            write(file, &tensors).unwrap();
        }
        assert_eq!(fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());
        let back = read(&files[0]).unwrap();
        for (name, tensor) in &tensors {
            assert_eq!(back[name].size(), tensor.size());
            assert_eq!(back[name].kind(), tensor.kind());
            assert!(back[name].equal(tensor), "{name}");
        }
    }

    #[test]
    fn a_cut_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.safetensors");
        write(&file, &BTreeMap::from([("a".to_owned(), Tensor::from_slice(&[1.0_f32; 100]))])).unwrap();
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        let message = read(&file).unwrap_err().to_string();
        assert!(
            message.contains("x.safetensors") && message.contains("not a whole safetensors file"),
            "{message}"
        );
    }
}
