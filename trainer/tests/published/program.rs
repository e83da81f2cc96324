//! `jmp-train import` and `export` as a user runs them.

use std::path::Path;
use std::process::{Command, Output};

use crate::fixture;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jmp-train")).current_dir(folder).args(arguments).output().unwrap()
}

fn path(name: &str) -> String {
    fixture(name).display().to_string()
}

/// Refused with exit code 2, a message that holds all of `words`, and nothing written.
#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let done = run(folder.path(), arguments);
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{message}");
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn averages_that_do_not_fit_are_refused_by_number_shape_and_type() {
    let import = |name: &str, words: &[&str]| refused(&["import", &path(name), "out"], words);
    import("ema_short.pt", &["expected 87 tensors", "found 86", "--weights model"]);
    import(
        "ema_swapped.pt",
        &["embedding.atom_embedding.weight", "expected shape [120, 6]", "found shape [4, 6]"],
    );
    import("ema_double.pt", &["bases.mlp_cbf_qint.weight", "type Float", "type Double"]);
}

#[test]
fn other_files_are_refused_in_words() {
    refused(&["import", &path("legacy.pt"), "out"], &["legacy form", "torch.save"]);
    refused(&["import", &path("truth.json"), "out"], &["neither safetensors nor a torch file"]);
    refused(&["import", "absent.pt", "out"], &["absent.pt"]);
    refused(&["import", &path("published.pt"), "out", "--preset", "jmp-s"], &["tiny with 13 sizes", "jmp-s"]);
    refused(&["import", &path("published.pt"), "out", "--tasks", "a,b"], &["4 tasks", "names 2"]);
    refused(&["import", &path("published.pt"), "."], &["is there already"]);
    refused(&["export", "absent", "x.pt"], &["no checkpoint here"]);
    refused(&["export", "absent", "x.bin"], &[".pt or .safetensors"]);
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("published.pt")).unwrap();
    let cut = folder.path().join("cut.pt");
    for share in [1, 3, 5, 9] {
        std::fs::write(&cut, &whole[..whole.len() * share / 10]).unwrap();
        let done = run(folder.path(), &["import", "cut.pt", "out"]);
        assert_eq!(done.status.code(), Some(2), "{}", String::from_utf8_lossy(&done.stderr));
    }
    assert!(!folder.path().join("out").exists());
}

/// The fixture holds a call of `os.system`, which Python's unpickler would run.
#[test]
fn nothing_in_the_file_is_executed_and_the_result_is_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let done = run(folder.path(), &["import", &path("published.pt"), "out", "--json"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["groups"]["backbone"]["taken"], 142);
    assert_eq!(report["weights"], "ema");
    assert!(!folder.path().join("executed-by-import").exists(), "the file's call was executed");
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["out"]);
    let info = trainer::checkpoint::read_info(&folder.path().join("out")).unwrap();
    assert_eq!(info.origin.unwrap().file, "published.pt");
    assert_eq!(info.position.step, 1234);
    // Folders above are made.
    assert!(run(folder.path(), &["import", &path("published.pt"), "more/of/it"]).status.success());
    // A second run does not overwrite.
    assert_eq!(run(folder.path(), &["import", &path("published.pt"), "out"]).status.code(), Some(2));
    // There is no run to go on with.
    assert_eq!(run(folder.path(), &["pretrain", "--resume", "out"]).status.code(), Some(2));
}
