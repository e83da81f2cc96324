//! Compares graphs and network with the reference's values (tests/goldens/gemnet, or the folder that the environment
//! variable JMP_GOLDEN_DIR names): every `{tiny,small,large}_{pt,ft}_*.npz` there is run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed read fails the test")]
#![allow(clippy::print_stderr, reason = "errors of each quantity and skipped cases are worth seeing")]

mod case;
mod fill;
mod graphs;
mod names;
mod npz;
mod outputs;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use case::Case;
use tch::Kind;

/// The files of this repository.
const OWN_COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/gemnet");

/// Cases are run one at a time: the larger ones would not fit into memory together.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[allow(clippy::disallowed_methods, reason = "tests may be pointed at other golden files")]
fn folder() -> PathBuf {
    match std::env::var("JMP_GOLDEN_DIR") {
        Ok(folder) => PathBuf::from(folder),
        Err(_) => PathBuf::from(OWN_COPY),
    }
}

fn files(size: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("folder of golden files")
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(size) && name.ends_with(".npz")
        })
        .collect();
    files.sort();
    files
}

/// Runs every case of a size and reports all failures at once.
fn run(size: &str, check: impl Fn(&Case) -> Vec<String>) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let files = files(size);
    if files.is_empty() {
        eprintln!("skipped: no {size}_*.npz in {}", folder().display());
        return;
    }
    let failures: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let case = Case::read(file);
            check(&case).into_iter().map(move |failure| format!("{}: {failure}", case.name))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn golden_graphs() {
    for size in ["tiny", "small", "large"] {
        run(size, graphs::check);
    }
}

#[test]
fn golden_tiny_in_double_precision() {
    run("tiny", |case| outputs::check(case, Kind::Double));
}

#[test]
fn golden_tiny_in_single_precision() {
    run("tiny", |case| outputs::check(case, Kind::Float));
}

#[test]
fn golden_small_in_double_precision() {
    run("small", |case| outputs::check(case, Kind::Double));
}

#[test]
fn golden_small_in_single_precision() {
    run("small", |case| outputs::check(case, Kind::Float));
}

/// JMP-L takes about 6 GB here and some minutes; it is left out, with a word, where that much is not free.
#[test]
fn golden_large_in_double_precision() {
    let free = free_gigabytes();
    if free < 10.0 {
        eprintln!("skipped: JMP-L in double precision needs 10 GB, {free:.1} GB are free");
        return;
    }
    run("large", |case| outputs::check(case, Kind::Double));
}

fn free_gigabytes() -> f64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1e6
}
