//! Every command of README.md, run in its order in an empty folder, with fixtures in the place of downloads.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::programs::{fixture, program_dir, root};

/// What stands for a reader's own files.
const STAND_INS: [(&str, &str); 4] = [
    ("/data/ani1x-release.h5", "demo/ani1x/ani1x-release.h5"),
    ("/data/s2ef/200k/train", "oc20/s2ef_pyg2"),
    ("/data/s2ef/val_id", "oc20/s2ef_pyg1"),
    ("/data/rmd17/npz_data/rmd17_ethanol.npz", "demo/rmd17/npz_data/rmd17_ethanol.npz"),
];

/// The command lines of all `sh` blocks, comments removed and continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut inside, mut open) = (false, String::new());
    for line in text.lines() {
        match line.trim_end() {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                let line = line.split(" # ").next().unwrap_or_default().trim();
                if let Some(start) = line.strip_suffix('\\') {
                    open.push_str(start);
                } else if !line.is_empty() && !line.starts_with('#') {
                    found.push(std::mem::take(&mut open) + line);
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_command_of_the_readme_runs() {
    let dir = tempfile::tempdir().unwrap();
    symlink(root().join("configs"), dir.path().join("configs")).unwrap();
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let path = format!("{}:/usr/bin:/bin", program_dir().display());
    let mut ran = 0;
    for command in commands(&fs::read_to_string(root().join("README.md")).unwrap()) {
        if let Some(target) = command.strip_prefix("make ") {
            // CI runs `make test` itself, and `make demo` is scripts/demo, whose steps are those of the other cases.
            assert!(makefile.contains(&format!("\n{target}:")), "README: no `make {target}` in the Makefile");
            continue;
        }
        if command.starts_with("export PATH=") || command.starts_with("cd ") {
            continue;
        }
        let mut line = command.clone();
        for (told, stand_in) in STAND_INS {
            line = line.replace(told, &fixture(stand_in).display().to_string());
        }
        assert!(!line.contains("/data/"), "README: no stand-in for a file of: {command}");
        let mut shell = Command::new("sh");
        shell.args(["-euc", &line]).current_dir(dir.path()).env("PATH", &path).stdin(Stdio::null());
        let done = shell.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "README: {command}\n{}\n{said}", done.status);
        ran += 1;
    }
    assert!(ran >= 8, "README shows {ran} commands of the programs only");
}
