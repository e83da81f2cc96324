//! A trained model in use: conservation of gradient forces, predictions and those that are not finite, embeddings, weights
//! and heads taken into fine-tuning.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod conservation;
mod diverged;
mod embedding;
mod kept_heads;
#[path = "../../../shards/tests/molecules/mod.rs"]
mod molecules;
mod predictions;
mod pretrained;
mod settled;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use shards::Structure;

/// 40 molecules of H, C and O in the folder's dataset `set`.
pub(crate) fn structures() -> Vec<Structure> {
    (0..40).map(molecules::molecule).collect()
}

const CONFIG: &str = r#"
kind = "finetune"
run = { dir = "run", seed = 4, device = "cpu", threads = 1, precision = "f64" }
model = { preset = "tiny" }
dataset = { name = "set", path = "set", train = "all", cutoff = 8.0, neighbors = 30, force_weight = 10.0 }
heads = { forces = "gradient" }
sampling = { batch_size = 8 }
optimizer = { lr = 2e-3, clip = { value = 1.0 }, ema = 0.9 }
schedule = { warmup_epochs = 0 }
stop = { epochs = 2 }
"#;

const PRETRAIN: &str = r#"
kind = "pretrain"
run = { dir = "joint", seed = 4, device = "cpu", threads = 1 }
model = { preset = "tiny" }
sampling = { batch_size = 8 }
optimizer = { lr = 2e-3, clip = { norm = 1.0 }, ema = 0.9 }
schedule = { epochs = 1, warmup_steps = 2, max_steps = 4 }

[[dataset]]
name = "set"
path = "set"
train = "all"

[[dataset]]
name = "other"
path = "set"
train = "all"
"#;

/// A folder with the dataset, the run `run` in double precision with gradient forces, and the joint run `joint`.
pub(crate) fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("inference");
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        std::fs::create_dir_all(&dir).unwrap();
        molecules::write(&dir.join("set"), &molecules::layout(), &[structures()], 1);
        std::fs::write(dir.join("finetune.toml"), CONFIG).unwrap();
        std::fs::write(dir.join("pretrain.toml"), PRETRAIN).unwrap();
        for arguments in [&["finetune", "finetune.toml", "--scratch"][..], &["pretrain", "pretrain.toml"]] {
            let done =
                Command::new(env!("CARGO_BIN_EXE_jmp-train")).current_dir(&dir).args(arguments).output();
            let done = done.unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        dir
    })
}

/// The program in the workshop. The tensors are small: threads would only wait for one another.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jmp-train"));
    command.current_dir(workshop()).env("OMP_NUM_THREADS", "1");
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// Standard output of a command that succeeds.
#[track_caller]
pub(crate) fn succeeds(arguments: &[&str]) -> String {
    let done = run(arguments);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Refused with exit code 2 and a message that holds all of `words`.
#[track_caller]
pub(crate) fn refused(arguments: &[&str], words: &[&str]) {
    let done = run(arguments);
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{message}");
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

/// A name that no other test writes to, without a file of an earlier run.
pub(crate) fn fresh(name: &str) -> String {
    let path = workshop().join(name);
    if path.is_dir() {
        std::fs::remove_dir_all(&path).unwrap();
    } else if path.exists() {
        std::fs::remove_file(&path).unwrap();
    }
    name.to_owned()
}
