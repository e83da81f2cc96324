//! Every command of README.md, run in its order in an empty folder, with fixtures in the place of downloads.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::programs::{fixture, program_dir, root};

/// What stands for a reader's own files.
const STAND_INS: [(&str, &str); 4] = [
    ("/data/ani1x-release.h5", "demo/ani1x/ani1x-release.h5"),
    ("/data/s2ef/200k/train", "oc20/s2ef_pyg2/data.0000.lmdb"),
    ("/data/s2ef/val_id", "oc20/s2ef_pyg2/data.0001.lmdb"),
    ("/data/rmd17/npz_data/rmd17_ethanol.npz", "demo/rmd17/npz_data/rmd17_ethanol.npz"),
];

/// What keeps the runs short.
const SHORTENED: [(&str, &str); 2] = [
    ("jmp-train pretrain first-run.toml", " --set schedule.max_steps=4"),
    ("jmp-train finetune first-task.toml", " --set stop.epochs=1 --set schedule.cosine_epochs=0"),
];

/// Files that the text asks to be saved: name and content.
fn files(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\n```toml\n") {
        let name = before.trim_end().trim_end_matches("`:").rsplit('`').next().unwrap_or_default();
        assert!(name.contains(".toml"), "README: a toml block without `save this as NAME`: {name}");
        let (content, after) = after.split_once("\n```\n").unwrap();
        found.push((name.to_owned(), content.to_owned()));
        rest = after;
    }
    found
}

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
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    for (name, content) in files(&text) {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let mut ran = 0;
    for command in commands(&text) {
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
        for (words, short) in SHORTENED {
            if line.starts_with(words) {
                line.push_str(short);
            }
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
