//! Writes npz files: a zip of .npy arrays, as numpy's `savez` does.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An array to store.
pub(crate) struct Array {
    name: &'static str,
    descr: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    pub(crate) fn floats(name: &'static str, shape: &[usize], values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name, descr: "<f8", shape: shape.to_vec(), bytes }
    }

    pub(crate) fn integers(name: &'static str, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name, descr: "<i8", shape: vec![values.len()], bytes }
    }

    pub(crate) fn bytes(name: &'static str, values: &[u8]) -> Self {
        Self { name, descr: "|u1", shape: vec![values.len()], bytes: values.to_vec() }
    }

    /// The array as a .npy file of version 1.0, whose data begins at a multiple of 64.
    fn npy(&self) -> Vec<u8> {
        let shape: Vec<String> = self.shape.iter().map(|n| format!("{n},")).collect();
        let shape = shape.join(" ");
        let mut header =
            format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}", self.descr);
        while !(10 + header.len() + 1).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(&self.bytes);
        file
    }
}

pub(crate) fn write(path: &Path, arrays: &[Array]) {
    let mut archive = ZipWriter::new(File::create(path).unwrap());
    for array in arrays {
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        archive.start_file(format!("{}.npy", array.name), stored).unwrap();
        archive.write_all(&array.npy()).unwrap();
    }
    archive.finish().unwrap();
}
