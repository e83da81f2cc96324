//! Arrays of numbers from NumPy's .npz: a zip of .npy files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A little-endian numeric array, widened to f64, in row-major order.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

pub(crate) fn read(path: &Path) -> BTreeMap<String, Array> {
    let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    (0..zip.len())
        .map(|i| {
            let mut entry = zip.by_index(i).unwrap();
            let name = entry.name().trim_end_matches(".npy").to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (name, parse(&bytes))
        })
        .collect()
}

fn parse(bytes: &[u8]) -> Array {
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let (length, start) = match bytes[6] {
        1 => (u16::from_le_bytes([bytes[8], bytes[9]]) as usize, 10),
        _ => (u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize, 12),
    };
    let header = std::str::from_utf8(&bytes[start..start + length]).unwrap();
    let after = |key: &str| header.split_once(key).unwrap().1;
    let kind = after("'descr':").trim_start().trim_start_matches('\'').split('\'').next().unwrap();
    let shape = after("'shape':").split_once('(').unwrap().1.split_once(')').unwrap().0;
    let shape: Vec<usize> = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let fortran = after("'fortran_order':").trim_start().starts_with("True");
    let body = &bytes[start + length..];
    let data: Vec<f64> = match kind {
        "<f8" => chunks(body, f64::from_le_bytes),
        "<i8" => chunks(body, |b| i64::from_le_bytes(b) as f64),
        "<i4" => chunks(body, |b| f64::from(i32::from_le_bytes(b))),
        "|i1" => chunks(body, |b| f64::from(i8::from_le_bytes(b))),
        other => panic!("dtype {other}"),
    };
    assert_eq!(data.len(), shape.iter().product::<usize>());
    if fortran && shape.len() == 2 {
        let (rows, columns) = (shape[0], shape[1]);
        let data = (0..rows * columns).map(|i| data[(i % columns) * rows + i / columns]).collect();
        return Array { shape, data };
    }
    Array { shape, data }
}

fn chunks<const N: usize>(bytes: &[u8], parse: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.chunks_exact(N).map(|chunk| parse(chunk.try_into().unwrap())).collect()
}
