//! Input that is broken or hostile: exit code 2, a message that tells file and fault, no panic, nothing executed.

use std::fs;
use std::path::Path;

use super::convert::convert;
use crate::programs::{Ended, fixture, ingest};

/// Replaces every `from` by the equally long `to`, as a faulty writer or an attacker would.
fn patched(source: &Path, target: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut content = fs::read(source).unwrap();
    let places: Vec<usize> = content
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{} does not hold {:?}", source.display(), String::from_utf8_lossy(from));
    for at in places {
        content[at..at + to.len()].copy_from_slice(to);
    }
    fs::write(target, content).unwrap();
}

/// Converts a file made by `make` and expects to be refused with the file's name and `words`.
#[track_caller]
fn refused(dataset: &str, file: &str, words: &[&str], make: impl FnOnce(&Path)) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (dir.path().join(file), dir.path().join("out"));
    make(&input);
    let ended = convert(dataset, &input, &out, "1").refused(words).refused(&[file]);
    assert!(!out.join("manifest.json").exists(), "a refused input left a dataset behind");
    ended
}

#[test]
fn truncated_lmdb() {
    let source = fs::read(fixture("oc22/s2ef-total/train/data.0000.lmdb")).unwrap();
    for keep in [0, 1, 4096, source.len() / 2, source.len() - 4096] {
        refused("oc22", "data.lmdb", &[], |path| fs::write(path, &source[..keep]).unwrap());
    }
}

#[test]
fn hostile_pickle_is_refused_and_not_executed() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("executed");
    let code = format!("cposix\nsystem\n(S'touch {}'\ntR.", trace.display());
    refused("oc22", "data.lmdb", &["posix"], |path| {
        let mut content = fs::read(fixture("oc22/s2ef-total/train/data.0000.lmdb")).unwrap();
        // Every value that starts a pickle of protocol 2 or later becomes the hostile one; what follows is never reached.
        let starts: Vec<usize> = (0..content.len() - code.len())
            .filter(|&i| {
                content[i] == 0x80 && matches!(content[i + 1], 2..=5) && matches!(content[i + 2], b'c' | 0x95)
            })
            .collect();
        assert!(!starts.is_empty(), "no pickle found in the fixture");
        for at in starts {
            content[at..at + code.len()].copy_from_slice(code.as_bytes());
        }
        fs::write(path, content).unwrap();
    });
    assert!(!trace.exists(), "the pickle was executed");
}

#[test]
fn hdf5_with_a_missing_dataset() {
    refused("ani1x", "ani1x.h5", &["wb97x_dz.energy"], |path| {
        patched(&fixture("ani1x/ani1x-release.h5"), path, b"wb97x_dz.energy", b"wb97x_dz.enerzy");
    });
}

#[test]
fn truncated_hdf5() {
    let source = fs::read(fixture("ani1x/ani1x-release.h5")).unwrap();
    for keep in [0, 7, 100, source.len() / 2, source.len() - 100] {
        refused("ani1x", "ani1x.h5", &[], |path| fs::write(path, &source[..keep]).unwrap());
    }
}

#[test]
fn npz_with_missing_keys() {
    // Energies may be missing: forces alone are labels enough.
    for (key, wrong) in [("coords.npy", "coorxs.npy"), ("nuclear_charges.npy", "nuclear_charxes.npy")] {
        refused("rmd17", "rmd17_ethanol.npz", &[key.trim_end_matches(".npy")], |path| {
            let source = fixture("rmd17/rmd17/npz_data/rmd17_ethanol.npz");
            patched(&source, path, key.as_bytes(), wrong.as_bytes());
        });
    }
}

#[test]
fn a_file_of_another_format() {
    for dataset in ["ani1x", "oc22", "rmd17"] {
        refused(dataset, "notes.txt", &[], |path| fs::write(path, "not a dataset\n").unwrap());
    }
}

#[test]
fn no_such_file_or_dataset() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    convert("ani1x", &dir.path().join("absent.h5"), &out, "1").refused(&["absent.h5"]);
    convert("ani2x", &fixture("ani1x/ani1x-release.h5"), &out, "1").refused(&["ani2x", "ani1x"]);
    ingest(&[&"verify", &dir.path().join("nothing")]).refused(&["nothing"]);
}

#[test]
fn an_existing_dataset_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let input = fixture("ani1x/ani1x-release.h5");
    convert("ani1x", &input, &out, "1").ok();
    let before = crate::programs::tree(&out);
    convert("ani1x", &input, &out, "1").refused(&["out"]);
    assert_eq!(crate::programs::tree(&out), before);
}
