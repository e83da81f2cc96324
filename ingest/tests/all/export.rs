//! Structures out again as extended XYZ: converted back, they are the same rows.

use std::path::Path;
use std::process::Command;

use ingest::formats::{Format, Labels};
use shards::{Dataset, Structure};

use crate::own_data::labelled;
use crate::{fixture, read, source};

fn run(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_jmp-ingest")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn ok(arguments: &[&str]) -> String {
    let (success, said) = run(arguments);
    assert!(success, "{arguments:?}: {said}");
    said
}

fn rows(dir: &Path) -> Vec<Structure> {
    let dataset = Dataset::open(dir).unwrap();
    (0..dataset.rows()).map(|row| dataset.structure(row).unwrap()).collect()
}

#[test]
fn what_is_exported_converts_back_to_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    for (dataset, input) in [
        ("oc20", "oc20/s2ef_train_fixture.tar"),
        ("db", "ase_files/rows.db"),
        ("ani1x", "ani1x/ani1x-release.h5"),
    ] {
        let shards = dir.path().join(dataset);
        let (text, out) = (shards.display().to_string(), dir.path().join(format!("{dataset}.extxyz")));
        let input = fixture(input).display().to_string();
        ok(&["convert", "--dataset", dataset, "--input", &input, "--output", &text, "--quiet"]);
        let said = ok(&["export", &text, &out.display().to_string()]);
        assert!(
            said.contains("wrote ") && !dir.path().join(format!("{dataset}.extxyz.partial")).exists(),
            "{said}"
        );
        let labels = Labels {
            id_key: Some("id".to_owned()),
            group_key: Some("group".to_owned()),
            ..Labels::default()
        };
        let back = read(source(Format::Extxyz, &[out], &labelled(labels)).as_ref()).structures;
        let stored = rows(&shards);
        assert_eq!(back.len(), stored.len());
        for (got, mut want) in back.into_iter().zip(stored) {
            // A text has no width: it is read as 64 bits.
            want.positions = shards::Floats::F64(want.positions.to_f64());
            want.forces = want.forces.map(|f| shards::Floats::F64(f.to_f64()));
            want.fixed = want.fixed.filter(|f| f.contains(&true));
            want.tags = want.tags.filter(|t| t.iter().any(|&t| t > 0));
            want.targets.clear();
            assert_eq!(got, want);
        }
    }
}

#[test]
fn a_split_and_a_number_of_structures() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let input = fixture("oc22/s2ef-total").display().to_string();
    ok(&["convert", "--dataset", "oc22", "--input", &input, "--output", &path("oc22"), "--quiet"]);
    let said = ok(&["export", &path("oc22"), &path("val.extxyz"), "--split", "val_id", "--limit", "3"]);
    assert!(said.contains("wrote 3 structures"), "{said}");
    let back =
        read(source(Format::Extxyz, &[dir.path().join("val.extxyz")], &labelled(Labels::default())).as_ref());
    assert_eq!(
        (back.structures.len(), back.structures[0].atoms()),
        (3, rows(&dir.path().join("oc22"))[28].atoms())
    );
    let (success, said) = run(&["export", &path("oc22"), &path("val.extxyz")]);
    assert!(!success && said.contains("exists: remove it"), "{said}");
    let (success, said) = run(&["export", &path("oc22"), &path("x.extxyz"), "--split", "nothing"]);
    assert!(!success && said.contains("has no split `nothing`"), "{said}");
    let said =
        ok(&["split", &path("oc22"), "--from", "train,val_id", "--random", "0", "--sizes", "sample=30"]);
    assert!(said.contains("made split sample: 30 rows"), "{said}");
}
