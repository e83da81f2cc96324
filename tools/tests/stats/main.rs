//! `jmp-tools stats` as a user runs it.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod bad_input;
mod made_up;
mod numbers;
mod page;
mod well_formed;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs `jmp-tools stats` with the given arguments.
fn stats<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jmp-tools")).arg("stats").args(arguments).output().unwrap()
}

/// The report on one made-up dataset and one run, both its forms.
fn report(home: &Path, more: &[&str]) -> (Value, String) {
    let (dataset, run, page) = (home.join("dataset"), home.join("run"), home.join("report.html"));
    if !dataset.exists() {
        made_up::write(&dataset);
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("metrics.jsonl"), made_up::METRICS).unwrap();
    }
    let text = |path: &Path| path.display().to_string();
    let (dataset, run, output) = (text(&dataset), text(&run), text(&page));
    let mut arguments = vec![dataset.as_str(), "--run", &run, "--output", &output];
    arguments.extend(more);
    let done = stats(&arguments);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let numbers = std::fs::read_to_string(home.join("report.json")).unwrap();
    if more.contains(&"--json") {
        assert_eq!(String::from_utf8_lossy(&done.stdout), numbers);
    }
    (serde_json::from_str(&numbers).unwrap(), std::fs::read_to_string(page).unwrap())
}
