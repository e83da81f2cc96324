//! `jmp-tools overlap` as a user runs it, on sets whose overlap is known.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod bad_input;
mod by_structure;
mod made_up;
mod partition;

use std::path::Path;
use std::process::{Command, Output};

use polars::prelude::*;
use serde_json::Value;

/// Runs `jmp-tools overlap` with the given arguments.
fn overlap<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jmp-tools")).arg("overlap").args(arguments).output().unwrap()
}

/// Runs it in a folder and returns the numbers.
#[track_caller]
fn numbers(home: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_jmp-tools"))
        .current_dir(home)
        .arg("overlap")
        .args(arguments)
        .args(["--output", "out", "--json", "--write-masks"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = std::fs::read_to_string(home.join("out/overlap.json")).unwrap();
    assert_eq!(json, String::from_utf8_lossy(&output.stdout));
    serde_json::from_str(&json).unwrap()
}

/// A mask as pairs of id and flag.
fn mask(home: &Path, name: &str) -> Vec<(String, bool)> {
    let frame = table(home, &format!("masks/{name}"));
    let (ids, flags) = (frame.column("id").unwrap().str().unwrap(), frame.column("overlapping").unwrap());
    ids.iter()
        .zip(flags.bool().unwrap().iter())
        .map(|(id, flag)| (id.unwrap().into(), flag.unwrap()))
        .collect()
}

/// A Parquet file of the output.
fn table(home: &Path, name: &str) -> DataFrame {
    let path = home.join("out").join(name);
    ParquetReader::new(std::fs::File::open(&path).unwrap()).finish().unwrap()
}
