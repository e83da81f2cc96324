//! Whatever is wrong with the input is told, with exit code 2.

use std::fs;

use crate::made_up::{molecule, write};
use crate::overlap;

/// Asserts exit code 2 and a part of what is said.
#[track_caller]
fn check(arguments: &[&str], expected: &str) {
    let done = overlap(arguments);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains(expected), "{said}");
}

#[test]
fn wrong_usage_and_damage() {
    let home = tempfile::tempdir().unwrap();
    let row = |id: &str| molecule(id, &[1, 1], &[[0.0; 3], [0.8, 0.0, 0.0]]);
    let (data, other) = (home.path().join("d"), home.path().join("o/d"));
    write(&data, &[row("a"), row("b"), row("c"), row("d")], &[("all", 0..4), ("test", 0..2)]);
    fs::create_dir(home.path().join("o")).unwrap();
    write(&other, &[row("a"), row("b")], &[("test", 0..2)]);
    let text = |p: &std::path::Path| p.display().to_string();
    let (data, other, out) = (text(&data), text(&other), text(&home.path().join("out")));
    check(&["--output", &out], "nothing to compare");
    check(&["--pretrain", &data, "--output", &out], "--finetune");
    check(&["--within", &data, "--output", &out], "begins with `train`");
    check(&["--within", &text(home.path()), "--output", &out], "is not a finished dataset");
    check(&["--pretrain", &data, "--finetune", &format!("nope={data}"), "--output", &out], "nope");
    check(&["--pretrain", &data, "--finetune", &data, &other, "--output", &out], "have the same name");
    check(&["--pretrain", &data, "--finetune", &data, "--tolerance", "0", "--output", &out], "--tolerance 0");
    check(
        &["--pretrain", &data, "--finetune", &data, "--by", "colour", "--output", &out],
        "invalid value 'colour'",
    );
    let part = home.path().join("d/data/part-00001.parquet");
    let bytes = fs::read(&part).unwrap();
    fs::write(&part, &bytes[..bytes.len() - 9]).unwrap();
    check(&["--pretrain", &data, "--finetune", &data, "--output", &out], "part-00001.parquet");
}
