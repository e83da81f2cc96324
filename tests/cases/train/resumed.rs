//! What a run may go on with, and what not: its settings and its data.

use std::fs;

use super::{convert, pretrained, train, workshop};
use crate::programs::{copy_tree, fixture};

#[test]
fn other_settings_are_told_one_by_one() {
    let run = pretrained();
    let words: [&dyn AsRef<std::ffi::OsStr>; 10] = [
        &"pretrain",
        &"pretrain.toml",
        &"--resume",
        &run,
        &"--set",
        &"optimizer.lr=5e-4",
        &"--set",
        &"sampling.temperature=1.0",
        &"--set",
        &"run.threads=2",
    ];
    let told = train(&words).refused(&[
        "cannot be resumed",
        "`optimizer.lr` was 0.001, is 0.0005",
        "`sampling.temperature` was 2.0, is 1.0",
    ]);
    // Threads change nothing of what is computed.
    assert!(!told.stderr.contains("run.threads"), "{}", told.stderr);
}

#[test]
fn data_may_move_but_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let (run, data) = (dir.path().join("run"), dir.path().join("ani1x"));
    copy_tree(pretrained(), &run);
    copy_tree(&workshop().join("ani1x"), &data);
    let moved = format!("dataset.ani1x.path={}", data.display());
    let resume = || train(&[&"pretrain", &"--resume", &run, &"--set", &moved]);
    let told = resume().ok().stdout;
    assert!(told.contains("resumed at step 30"), "{told}");
    // Converted anew from another file, to the same place.
    fs::remove_dir_all(&data).unwrap();
    convert("ani1x", &fixture("ani1x/ani1x-release.h5"), &data, "2").ok();
    let told = resume().refused(&["cannot be resumed", "dataset `ani1x`: its manifest's hash was "]);
    let place = data.display().to_string();
    assert!(told.stderr.contains(&place) && !told.stderr.contains("`oc22`"), "{}", told.stderr);
}
