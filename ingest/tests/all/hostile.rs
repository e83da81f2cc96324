//! Inputs that are wrong: each ends in an error that names the file and what is wrong in it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use ingest::formats::{Format, Options, open};
use ingest::input::Input;

use crate::{Collect, fixture};

/// Opens and reads everything; the error, or the first reject, as text.
#[track_caller]
pub(crate) fn refused(format: Format, path: &Path) -> String {
    let inputs = [Input { split: None, path: path.to_path_buf() }];
    let result = open(format, &inputs, &Options::default()).and_then(|source| {
        let mut all = Collect::default();
        (0..source.units().len()).try_for_each(|u| source.read(u, &mut all)).map(|()| all.rejects)
    });
    match result {
        Err(error) => {
            assert!(error.is_bad_input(), "exit code 1 for {error}");
            error.to_string()
        }
        Ok(rejects) => rejects.into_iter().map(|r| r.1).next().expect("nothing was refused"),
    }
}

#[track_caller]
pub(crate) fn check(format: Format, path: &Path, expected: &[&str]) {
    let text = refused(format, path);
    for part in expected {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

fn changed(dir: &tempfile::TempDir, name: &str, from: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = std::fs::read(fixture(from)).unwrap();
    change(&mut bytes);
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Replaces the first occurrence of some bytes by as many others.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|w| w == from).expect("not in the file");
    bytes[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn paths_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        check(format, Path::new("/no/such/thing"), &["/no/such/thing", "No such file"]);
        check(format, dir.path(), &["no file named *."]);
    }
    let text = dir.path().join("rmd17_x.npz");
    std::fs::write(&text, "not an archive").unwrap();
    check(Format::Rmd17, &text, &["rmd17_x.npz", "not a readable npz archive"]);
    let h5 = dir.path().join("x.h5");
    std::fs::write(&h5, "not hdf5 either").unwrap();
    check(Format::Ani1x, &h5, &["x.h5", "not an HDF5 file"]);
    let lmdb = dir.path().join("x.lmdb");
    std::fs::write(&lmdb, vec![0; 9000]).unwrap();
    check(Format::Oc20, &lmdb, &["x.lmdb", "not a readable LMDB file"]);
}

#[test]
fn a_truncated_lmdb_says_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let from = "oc22/s2ef-total/train/data.0000.lmdb";
    let path = changed(&dir, "data.0000.lmdb", from, |b| b.truncate(b.len() - 5 * 4096));
    check(Format::Oc22, &path, &["data.0000.lmdb", "is truncated", "fetch it again"]);
}

#[test]
fn a_hostile_pickle_in_an_lmdb_is_named_and_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let from = "oc22/s2ef-total/train/data.0000.lmdb";
    let path = changed(&dir, "evil.lmdb", from, |b| {
        replace(b, b"torch_geometric.data.data", b"torch_geometric.data.evil");
    });
    check(
        Format::Oc22,
        &path,
        &["key `0`: byte 46", "torch_geometric.data.evil.Data", "nothing was executed"],
    );
}

#[test]
fn a_record_with_other_names_says_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let from = "oc22/s2ef-total/train/data.0000.lmdb";
    let path = changed(&dir, "named.lmdb", from, |b| replace(b, b"atomic_numbers", b"atomic_letters"));
    check(Format::Oc22, &path, &["key `0`: no `atomic_numbers` or `z`; there is atomic_letters, cell"]);
}

#[test]
fn oc22_is_not_read_as_oc20() {
    check(
        Format::Oc20,
        &fixture("oc22/s2ef-total/train/data.0000.lmdb"),
        &["key `0`: `oc22`", "--dataset oc22"],
    );
}

#[test]
fn oc20_is_not_read_as_oc22() {
    check(Format::Oc22, &fixture("oc20/s2ef_pyg2/data.0000.lmdb"), &["key `0`: `oc22`", "--dataset oc20"]);
}

#[test]
fn hdf5_without_a_dataset() {
    let dir = tempfile::tempdir().unwrap();
    let from = "ani1x/ani1x-release.h5";
    let path = changed(&dir, "renamed.h5", from, |b| {
        let (old, new) = (b"wb97x_dz.energy", b"wb97x_dz.enthal");
        while b.windows(old.len()).any(|w| w == old) {
            replace(b, old, new);
        }
    });
    check(Format::Ani1x, &path, &["group `/C10H2`: no `wb97x_dz.energy`; there is", "wb97x_dz.enthal"]);
    check(Format::Transition1x, &path, &["no `data`; there is C10H2"]);
}

#[test]
fn npz_without_a_key_or_of_another_molecule() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rmd17_ethanol.npz");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    zip.start_file("coords.npy", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"\x93NUMPY").unwrap();
    zip.finish().unwrap();
    check(Format::Rmd17, &path, &["no `nuclear_charges` or `z`; there is coords"]);

    let both = ["ethanol", "salicylic"]
        .map(|m| Input { split: None, path: fixture("rmd17/rmd17/npz_data").join(format!("rmd17_{m}.npz")) });
    let error = open(Format::Rmd17, &both, &Options::default()).err().unwrap().to_string();
    assert!(error.contains("holds salicylic") && error.contains("own dataset"), "{error}");
}
