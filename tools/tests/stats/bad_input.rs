//! Whatever is wrong with the input is told, with exit code 2 and no report.

use std::fs;
use std::path::Path;

use crate::{made_up, stats};

/// Runs on `dir` and asserts the exit code and a part of what is said.
#[track_caller]
fn check(dir: &Path, arguments: &[&str], code: i32, expected: &str) {
    let output = dir.join("out.html");
    let mut all = arguments.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
    if !arguments.contains(&"--output") {
        all.extend(["--output".into(), output.clone().into()]);
    }
    let done = stats(&all);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{said}");
    assert_eq!(said.matches(expected).count(), 1, "said once: {said}");
    assert!(!output.exists(), "a report was written");
}

#[test]
fn a_directory_that_is_no_dataset() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().display().to_string();
    check(home.path(), &[&dir], 2, "is not a finished dataset");
    check(home.path(), &["/nowhere/at/all"], 2, "/nowhere/at/all is not a finished dataset");
    check(home.path(), &["--run", &dir], 2, "holds no metrics.jsonl");
}

#[test]
fn damage_is_named() {
    let home = tempfile::tempdir().unwrap();
    let dataset = home.path().join("d");
    made_up::write(&dataset);
    let dir = dataset.display().to_string();
    let manifest = dataset.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();

    fs::write(&manifest, text.replacen("\"rows\": 23", "\"rows\": 24", 1)).unwrap();
    check(home.path(), &[&dir], 2, "manifest.json: hash: expected");
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    check(home.path(), &[&dir], 2, "manifest.json: content: expected JSON");
    fs::write(&manifest, &text).unwrap();

    let part = dataset.join("data").join("part-00001.parquet");
    let bytes = fs::read(&part).unwrap();
    fs::write(&part, &bytes[..bytes.len() - 7]).unwrap();
    check(home.path(), &[&dir], 2, "part-00001.parquet: expected a file of");
    fs::remove_file(&part).unwrap();
    check(home.path(), &[&dir], 2, "part-00001.parquet: expected a file of");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 3] ^= 0x10;
    fs::write(&part, flipped).unwrap();
    check(home.path(), &[&dir], 2, "part-00001.parquet");
}

#[test]
fn wrong_usage() {
    let home = tempfile::tempdir().unwrap();
    let dataset = home.path().join("d");
    made_up::write(&dataset);
    let dir = dataset.display().to_string();
    check(home.path(), &[], 2, "nothing to report on");
    check(home.path(), &[&dir, "--output", "r.json"], 2, "expected a name that ends with .html");
    check(home.path(), &[&dir, "--output", "/nowhere/r.html"], 2, "there is no directory /nowhere");
    check(home.path(), &[&dir, "--temperatures", "1,cold"], 2, "expected a positive number or inf");
    check(home.path(), &[&dir, "--sample", "0"], 2, "invalid value '0'");
    check(home.path(), &[&dir, "--no-such-flag"], 2, "unexpected argument");
}

#[test]
fn a_place_that_cannot_be_written_is_no_fault_of_the_input() {
    let home = tempfile::tempdir().unwrap();
    let (dataset, taken) = (home.path().join("d"), home.path().join("taken.html"));
    made_up::write(&dataset);
    fs::create_dir(&taken).unwrap();
    let (dir, taken) = (dataset.display().to_string(), taken.display().to_string());
    check(home.path(), &[&dir, "--output", &taken], 1, "cannot write");
}
