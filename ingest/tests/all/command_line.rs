//! The program as a user runs it: messages, exit codes, the same bytes whatever the jobs, going on after a kill.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use crate::fixture;

pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jmp-ingest")).args(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and expects success.
#[track_caller]
pub(crate) fn ok(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs and expects exit code 2 with a message.
#[track_caller]
pub(crate) fn refused(arguments: &[&str], message: &str) {
    let output = run(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(message), "{said:?} does not say {message:?}");
    assert!(!said.contains("panicked"), "{said}");
}

/// All files below a directory with their bytes.
pub(crate) fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.insert(
                    path.strip_prefix(dir).unwrap().display().to_string(),
                    std::fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}

fn names(files: &BTreeMap<String, Vec<u8>>) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

#[test]
fn bytes_do_not_depend_on_jobs_place_or_interruption() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name).display().to_string();
    let input = fixture("oc22/s2ef-total").display().to_string();
    let convert = |output: &str, more: &[&str]| {
        let base = ["convert", "--dataset", "oc22", "--input", &input, "--output", output];
        run(&[&base, more].concat())
    };
    assert!(convert(&out("one"), &["--jobs", "1"]).status.success());
    assert!(convert(&out("four"), &["--jobs", "4"]).status.success());
    let one = contents(&dir.path().join("one"));
    assert!(
        names(&one).contains(&"manifest.json") && names(&one).contains(&"splits/train.parquet"),
        "{:?}",
        names(&one)
    );
    assert!(one == contents(&dir.path().join("four")), "bytes depend on the number of jobs");

    // A kill in the middle: take the finished dataset back to the state after its second unit.
    let killed = dir.path().join("killed");
    let moved = fixture("oc22/s2ef-total");
    let half = tempfile::tempdir().unwrap();
    for (name, bytes) in [("train", "data.0000.lmdb"), ("val_id", "data.0000.lmdb")] {
        std::fs::create_dir_all(half.path().join(name)).unwrap();
        std::fs::copy(moved.join(name).join(bytes), half.path().join(name).join(bytes)).unwrap();
    }
    // The second unit breaks off; the first stays.
    let broken = half.path().join("val_id/data.0000.lmdb");
    let whole = std::fs::read(&broken).unwrap();
    std::fs::write(&broken, &whole[..whole.len() - 3 * 4096]).unwrap();
    let input = half.path().display().to_string();
    let killed_text = killed.display().to_string();
    let base = ["convert", "--dataset", "oc22", "--input", &input, "--output", &killed_text, "--jobs", "1"];
    refused(&base, "is truncated");
    assert!(!killed.join("manifest.json").exists());
    refused(&["verify", &killed_text], "not a finished dataset");
    refused(&base, "continue it with --resume");
    std::fs::write(&broken, &whole).unwrap();
    let said = ok(&[&base[..], &["--resume"]].concat());
    assert!(said.contains("1 unit finished by an earlier run"), "{said}");
    let straight = dir.path().join("straight").display().to_string();
    ok(&["convert", "--dataset", "oc22", "--input", &input, "--output", &straight]);
    assert!(contents(&killed) == contents(Path::new(&straight)), "bytes depend on the interruption");
    ok(&["verify", &killed_text]);
    refused(&base, "holds a finished dataset already");
}

#[test]
fn rejects_are_bounded_listed_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("data.0000.lmdb");
    let mut bytes = std::fs::read(fixture("oc22/s2ef-total/train/data.0000.lmdb")).unwrap();
    let name = b"torch_geometric.data.data";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    bytes[at + 21] = b'X';
    std::fs::write(&input, bytes).unwrap();
    let (input, out) = (input.display().to_string(), dir.path().join("out").display().to_string());
    let base = ["convert", "--dataset", "oc22", "--output", &out, "--input", &input];
    refused(&base, "--max-rejects 0 is used up");
    let said = ok(&[&base[..], &["--resume", "--max-rejects", "1"]].concat());
    assert!(said.contains("left out: 1 (unreadable)") && said.contains("11 structures"), "{said}");
    let manifest = std::fs::read_to_string(dir.path().join("out/manifest.json")).unwrap();
    assert!(manifest.contains("\"unreadable\": 1"));
    assert!(dir.path().join("out/rejects.parquet").exists());
}

#[test]
fn a_split_is_added_without_touching_rows() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("ethanol");
    let text = out.display().to_string();
    let input = fixture("rmd17/rmd17/npz_data/rmd17_ethanol.npz").display().to_string();
    ok(&["convert", "--dataset", "rmd17", "--input", &input, "--output", &text, "--train-total", "20"]);
    let before = contents(&out.join("data"));
    let said = ok(&[
        "split",
        &text,
        "--from",
        "train_01",
        "--random",
        "42",
        "--sizes",
        "a=15,b=rest",
        "--name",
        "small",
    ]);
    assert!(
        said.contains("made split small-a: 15 rows") && said.contains("made split small-b: 5 rows"),
        "{said}"
    );
    assert!(before == contents(&out.join("data")));
    ok(&["verify", &text]);
    refused(&["split", &text, "--random", "1", "--sizes", "small-a=3"], "a split of that name");
    refused(
        &["split", &text, "--from", "nothing", "--random", "1", "--sizes", "x=1"],
        "has no split `nothing`",
    );
    refused(&["split", &text, "--random", "1", "--sizes", "x=51"], "ask for 51 rows, there are 50");
    let described: serde_json::Value = serde_json::from_str(&ok(&["inspect", &text, "--json"])).unwrap();
    assert_eq!(described["manifest"]["splits"]["small-b"]["rows"], 5);
}

/// Given lists of formulas make splits; a name that is not there is told.
#[test]
fn a_split_is_made_of_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("ani1x").display().to_string();
    let input = fixture("ani1x/ani1x-release.h5").display().to_string();
    ok(&["convert", "--dataset", "ani1x", "--input", &input, "--output", &out, "--keep-small"]);
    let (formula, id) = ("C1H4", "C1H4/3");
    let (formulas, ids, wrong) =
        (dir.path().join("formulas"), dir.path().join("ids"), dir.path().join("wrong"));
    std::fs::write(&formulas, format!("# held out\n\n{formula}  # all of it\n")).unwrap();
    std::fs::write(&ids, format!("{id}\n")).unwrap();
    std::fs::write(&wrong, format!("{formula}\nUuo9\n")).unwrap();
    let list = |name: &str, file: &Path| format!("{name}={}", file.display());
    let said = ok(&["split", &out, "--list", &list("mine", &formulas), "--by", "group"]);
    assert!(said.contains("made split mine: "), "{said}");
    let said = ok(&["split", &out, "--list", &list("one", &ids)]);
    assert!(said.contains("made split one: 1 row"), "{said}");
    refused(
        &["split", &out, "--list", &list("no", &wrong), "--by", "group"],
        "has no group `Uuo9` (1 of the 2 listed are there)",
    );
    ok(&["verify", &out]);
}

#[test]
fn a_flipped_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("ani1x");
    let text = out.display().to_string();
    let input = fixture("ani1x/ani1x-release.h5").display().to_string();
    ok(&["convert", "--dataset", "ani1x", "--input", &input, "--output", &text, "--quiet"]);
    for file in ["data/part-00000.parquet", "manifest.json", "splits/train.parquet"] {
        let path = out.join(file);
        let whole = std::fs::read(&path).unwrap();
        for at in [whole.len() / 7, whole.len() / 2, whole.len() - 9] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x04;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(run(&["verify", &text, "--quiet"]).status.code(), Some(2), "{file}: byte {at}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    ok(&["verify", &text]);
}

#[test]
fn usage_errors_and_json() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x").display().to_string();
    let input = fixture("ani1x/ani1x-nan.h5").display().to_string();
    refused(
        &["convert", "--dataset", "ani2x", "--input", "a", "--output", "b"],
        "known are oc20, oc22, ani1x",
    );
    refused(&["convert", "--dataset", "ani1x", "--output", "b"], "--input");
    refused(
        &["convert", "--dataset", "ani1x", "--input", &input, "--output", &out, "--neighbors", "some"],
        "full, nearest:K or none",
    );
    refused(&["inspect", "/no/such/file"], "/no/such/file");
    let said = ok(&["convert", "--dataset", "ani1x", "--input", &input, "--output", &out, "--json"]);
    let result: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&result["structures"], &result["left_out"]["not_computed"]),
        (&30.into(), &8.into()),
        "{result}"
    );
    let failed = run(&["verify", "/no/such/dir", "--json"]);
    let result: serde_json::Value = serde_json::from_str(&text(&failed.stdout)).unwrap();
    assert_eq!((failed.status.code(), &result["exit_code"]), (Some(2), &2.into()));
    for command in ["convert", "merge", "split", "inspect", "explain", "verify"] {
        assert!(ok(&[command, "--help"]).contains("Examples:"), "{command}");
    }
}
