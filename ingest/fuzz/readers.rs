//! What is fuzzed: each reader, given bytes that nobody vouches for. A reader may refuse them or not; it may not panic, run
//! for long or take much memory. The fuzz targets call these functions, and a test of `ingest` replays the corpora through
//! them.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use ingest::formats::{Format, Options, open, value_structures};
use ingest::input::Input;
use ingest::pickle::{Attribute, Limits, Record, decode};
use ingest::source::Sink;
use ingest::{IngestError, cif, crystal::Crystal, csv, json_stream::JsonStream, npz::Npz, pymatgen};
use shards::Structure;

/// A target's name, which is its corpus' folder, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 15] = [
    ("aselmdb", aselmdb),
    ("cif", cif),
    ("csv", csv),
    ("db", db),
    ("extxyz", extxyz),
    ("json", json),
    ("lmdb", lmdb),
    ("lmdb_value", lmdb_value),
    ("matbench", matbench),
    ("npz", npz),
    ("pickle", pickle),
    ("qm9_xyz", qm9_xyz),
    ("sdf", sdf),
    ("structure", structure),
    ("traj", traj),
];

/// The restricted pickle machine, torch's two archives included, and the arrays it finds.
pub fn pickle(bytes: &[u8]) {
    let Ok(decoded) = decode(bytes, Limits::RECORD) else { return };
    let Some(record) = Record::of(&decoded, decoded.root()) else { return };
    let names: Vec<&str> = record.names().collect();
    for name in names {
        if let Some(Attribute::Array(array)) = record.get(name) {
            array.to_f64();
        }
    }
}

/// A pickled record of a dataset.
pub fn lmdb_value(bytes: &[u8]) {
    for format in [Format::Oc20, Format::Ani1x] {
        for structure in value_structures(format, bytes).unwrap_or_default() {
            let _ = structure.check();
        }
    }
}

/// A whole LMDB file of records.
pub fn lmdb(bytes: &[u8]) {
    convert(Format::Oc22, "data.0000.lmdb", bytes);
}

/// An ASE-LMDB.
pub fn aselmdb(bytes: &[u8]) {
    convert(Format::AseLmdb, "x.aselmdb", bytes);
}

/// A database of ASE: SQLite.
pub fn db(bytes: &[u8]) {
    convert(Format::Db, "x.db", bytes);
}

/// A trajectory of ASE: ULM.
pub fn traj(bytes: &[u8]) {
    convert(Format::Traj, "x.traj", bytes);
}

/// An archive of arrays, and a dataset in one.
pub fn npz(bytes: &[u8]) {
    with_file("rmd17_x.npz", bytes, |path| {
        let Ok(mut npz) = Npz::open(path) else { return };
        for name in npz.names() {
            let _ = npz.info(&name);
            if let Ok(array) = npz.array(&name) {
                array.to_f64();
            }
        }
        read(Format::Rmd17, path);
    });
}

/// A text of frames.
pub fn extxyz(bytes: &[u8]) {
    convert(Format::Extxyz, "x.extxyz", bytes);
}

/// A structure file of QM9 with its table: a zero byte divides them.
pub fn sdf(bytes: &[u8]) {
    let cut = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let (sdf, table) = bytes.split_at(cut);
    with_file("gdb9.sdf.csv", table.get(1..).unwrap_or_default(), |_| {});
    convert(Format::Qm9, "gdb9.sdf", sdf);
}

/// A molecule as QM9 was deposited.
pub fn qm9_xyz(bytes: &[u8]) {
    with_file("dsgdb9nsd/dsgdb9nsd_000001.xyz", bytes, |path| {
        read(Format::Qm9, path.parent().unwrap_or(path));
    });
}

/// The walk over a document that is larger than memory.
pub fn json(bytes: &[u8]) {
    let mut json = JsonStream::new(bytes, 0);
    let mut text = Vec::new();
    if json.begin_array().is_ok() {
        let mut first = true;
        while json.next_element(first).unwrap_or(false) {
            first = false;
            text.clear();
            if json.take(&mut text, 1 << 16).is_err() {
                return;
            }
            let _ = serde_json::from_slice::<serde_json::Value>(&text);
        }
        let _ = json.end();
    } else if json.begin_object().is_ok() {
        let mut first = true;
        while let Ok(Some(_)) = json.next_key(first) {
            first = false;
            if json.skip().is_err() {
                return;
            }
        }
    }
}

/// A whole table of structures.
pub fn matbench(bytes: &[u8]) {
    convert(Format::Matbench, "matbench_dielectric.json", bytes);
}

/// A structure of pymatgen.
pub fn structure(bytes: &[u8]) {
    if let Ok(dict) = serde_json::from_slice::<pymatgen::StructureDict>(bytes) {
        check(Crystal::try_from(dict).ok());
    }
}

/// A crystallographic file.
pub fn cif(bytes: &[u8]) {
    check(cif::parse(bytes).ok());
}

/// A table.
pub fn csv(bytes: &[u8]) {
    let Ok(mut table) = csv::Csv::new(bytes) else { return };
    while let Ok(Some(_)) = table.record() {}
}

fn check(crystal: Option<Crystal>) {
    if let Some(crystal) = crystal {
        let structure =
            crystal.into_structure("x".to_owned(), shards::FloatWidth::F64, None, vec![Some(0.0)]);
        let _ = structure.check();
    }
}

/// Reads a file of a format as a conversion does.
fn convert(format: Format, name: &str, bytes: &[u8]) {
    with_file(name, bytes, |path| read(format, path));
}

fn read(format: Format, path: &Path) {
    let inputs = [Input { split: None, path: path.to_path_buf() }];
    let Ok(source) = open(format, &inputs, &Options::default()) else { return };
    for unit in 0..source.units().len() {
        let _ = source.read(unit, &mut Discard);
    }
    source.warnings();
}

/// Judges structures as a writer does, and keeps none.
struct Discard;

impl Sink for Discard {
    fn structure(&mut self, structure: Structure) -> Result<(), IngestError> {
        let _ = structure.check();
        Ok(())
    }

    fn reject(&mut self, _: &str, _: &'static str, _: &str) -> Result<(), IngestError> {
        Ok(())
    }

    fn leave_out(&mut self, _: &str, _: &'static str, _: &str) {}
}

thread_local! {
    static FOLDER: OnceCell<Option<tempfile::TempDir>> = const { OnceCell::new() };
}

/// Some readers want a file.
fn with_file(name: &str, bytes: &[u8], use_it: impl FnOnce(&Path)) {
    let made = |folder: &OnceCell<Option<tempfile::TempDir>>| {
        folder.get_or_init(|| tempfile::tempdir().ok()).as_ref().map(|f| f.path().join(name))
    };
    let Some(path): Option<PathBuf> = FOLDER.with(made) else { return };
    if path.parent().is_some_and(|p| std::fs::create_dir_all(p).is_ok())
        && std::fs::write(&path, bytes).is_ok()
    {
        use_it(&path);
    }
}
