//! `jmp-tools results`, `compare`, `cost`, `embedding-map` and `element-similarity` as a user runs them.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod bad_input;
mod embeddings;
mod models;
mod runs;
mod shifted;
#[path = "../stats/well_formed.rs"]
mod well_formed;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs `jmp-tools` in a directory.
fn tools(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jmp-tools")).current_dir(home).args(arguments).output().unwrap()
}

/// Runs a command that writes `page.html`; its numbers, its page, its CSV file. The page is well-formed and self-contained.
fn report(home: &Path, arguments: &[&str]) -> (Value, String, String) {
    let mut all = arguments.to_vec();
    all.extend(["--output", "page.html", "--json", "--quiet"]);
    let done = tools(home, &all);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read = |name: &str| std::fs::read_to_string(home.join(name)).unwrap();
    let (json, page, csv) = (read("page.json"), read("page.html"), read("page.csv"));
    assert_eq!(String::from_utf8_lossy(&done.stdout), json);
    for tag in well_formed::tags(&page).unwrap() {
        assert!(!tag.contains(" src=") && !tag.contains("href=\"http"), "{tag}");
    }
    assert!(!page.split("<script>").next().unwrap().contains("NaN"), "a number is missing");
    (serde_json::from_str(&json).unwrap(), page, csv)
}
