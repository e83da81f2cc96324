//! Writes a torch file that holds one dict of tensors by name, as `torch.save(module.state_dict())` does.
//!
//! `torch.load(…, weights_only=True)` opens it: the pickle names nothing but `OrderedDict`, storage classes and
//! `_rebuild_tensor_v2`. Equal tensors give equal bytes.

use std::io::{self, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::array::Dtype;
use crate::globals::storage_class;

/// A name of the dict.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Key in the dict.
    pub name: String,
    /// Index of the storage that holds its elements; aliases share one.
    pub storage: usize,
    /// Element type.
    pub dtype: Dtype,
    /// Extent of every axis; rows lie one after the other.
    pub shape: Vec<usize>,
}

impl Entry {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Writes the entries in their order. `bytes` gives the elements of each storage, little-endian, when its turn comes, so
/// that only one is in memory.
///
/// # Errors
/// Those of `out` and `bytes`; an element type that torch has no storage class for; bytes of another length than the shape
/// says.
pub fn write<W: Write + Seek>(
    out: W,
    entries: &[Entry],
    mut bytes: impl FnMut(usize) -> io::Result<Vec<u8>>,
) -> io::Result<W> {
    let mut zip = ZipWriter::new(out);
    // torch aligns members for mapping the file.
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(64);
    let mut member = |name: &str, content: &[u8]| -> io::Result<()> {
        let options = options.large_file(content.len() >= u32::MAX as usize);
        zip.start_file(format!("archive/{name}"), options).map_err(io::Error::other)?;
        zip.write_all(content)
    };
    member("data.pkl", &pickle(entries)?)?;
    member("byteorder", b"little")?;
    let mut written = std::collections::BTreeSet::new();
    for entry in entries {
        if !written.insert(entry.storage) {
            continue;
        }
        let content = bytes(entry.storage)?;
        let expected = entry.elements() * entry.dtype.size();
        if content.len() != expected {
            let (name, found) = (&entry.name, content.len());
            return Err(io::Error::other(format!("tensor `{name}`: {found} bytes, expected {expected}")));
        }
        member(&format!("data/{}", entry.storage), &content)?;
    }
    member("version", b"3\n")?;
    zip.finish().map_err(io::Error::other)
}

fn pickle(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for entry in entries {
        let class = storage_class(entry.dtype).ok_or_else(|| {
            io::Error::other(format!("tensor `{}`: torch cannot hold {:?}", entry.name, entry.dtype))
        })?;
        text(&mut out, &entry.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{class}\n").bytes());
        text(&mut out, &entry.storage.to_string());
        text(&mut out, "cpu");
        integer(&mut out, entry.elements());
        // The storage, offset 0.
        out.extend(b"tQK\x00");
        tuple(&mut out, &entry.shape);
        tuple(&mut out, &strides(&entry.shape));
        // No gradient wanted, no hooks.
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    Ok(out)
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn integer(out: &mut Vec<u8>, value: usize) {
    if let Ok(byte) = u8::try_from(value) {
        out.extend([b'K', byte]);
    } else if let Ok(small) = i32::try_from(value) {
        out.push(b'J');
        out.extend(small.to_le_bytes());
    } else {
        // Nine bytes: the sign has one of its own.
        out.extend([0x8a, 9]);
        out.extend((value as u64).to_le_bytes());
        out.push(0);
    }
}

fn tuple(out: &mut Vec<u8>, values: &[usize]) {
    out.push(b'(');
    values.iter().for_each(|&value| integer(out, value));
    out.push(b't');
}
