//! Runs of `jmp-train` in a folder of made-up data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use shards::splits::SplitDefinition;
use shards::writer::{DatasetWriter, DuplicateIds};
use shards::{RowSet, Structure};

use crate::molecules;

const PRETRAIN: &str = r#"
kind = "pretrain"
run = { dir = "run", seed = 5, device = "cpu", threads = 1, precision = "f64", tensorboard = false }
model = { preset = "tiny" }
dataset = [{ name = "set", path = "set", train = "all", cutoff = 4.0, neighbors = 6 }]
sampling = { batch_size = 4 }
optimizer = { lr = 1e-3, clip = { norm = 1.0 }, ema = 0.9 }
schedule = { epochs = 2, warmup_steps = 2 }
checkpoint = { keep = 99 }
"#;

const FINETUNE: &str = r#"
kind = "finetune"
run = { dir = "run", seed = 5, device = "cpu", threads = 1, precision = "f64", tensorboard = false }
model = { preset = "tiny" }
dataset = { name = "set", path = "set", train = "all", cutoff = 4.0, neighbors = 6 }
sampling = { batch_size = 8 }
optimizer = { lr = 1e-3, clip = { value = 1.0 }, ema = 0.9 }
schedule = { warmup_epochs = 0 }
stop = { epochs = 1 }
checkpoint = { keep = 99 }
"#;

/// Thirty molecules, six of which have the most atoms: eight.
pub(crate) fn structures() -> Vec<Structure> {
    (0..30).map(molecules::molecule).collect()
}

/// A folder with the dataset `set` and the configurations `pretrain.toml` and `finetune.toml`.
pub(crate) struct Workshop(tempfile::TempDir);

impl Workshop {
    /// With these structures and, beside the split `all`, splits of ranges of rows.
    pub(crate) fn new(structures: &[Structure], splits: &[(&str, std::ops::Range<u64>)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = molecules::plan(molecules::layout(), 1);
        let writer = DatasetWriter::create(folder.path().join("set"), plan, false).unwrap();
        molecules::write_unit(&writer, 0, structures);
        let rows = structures.len() as u64;
        let named = |_: &shards::Dataset| {
            let all = std::iter::once(("all", 0..rows)).chain(splits.iter().cloned());
            all.map(|(name, rows)| SplitDefinition::new(name, "rows", None, RowSet::from_range(rows)))
                .collect()
        };
        writer.finish(DuplicateIds::Refuse, named).unwrap();
        std::fs::write(folder.path().join("pretrain.toml"), PRETRAIN).unwrap();
        std::fs::write(folder.path().join("finetune.toml"), FINETUNE).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn call(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jmp-train"));
        command.current_dir(self.0.path()).env("OMP_NUM_THREADS", "1").args(words).output().unwrap()
    }

    /// Standard output of a call that succeeds.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> String {
        let done = self.call(words);
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// A call that ends with this exit code and a message that holds all of `expected`.
    #[track_caller]
    pub(crate) fn fails(&self, words: &[&str], code: i32, expected: &[&str]) {
        let done = self.call(words);
        let message = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{message}");
        for word in expected {
            assert!(message.contains(word), "no `{word}` in: {message}");
        }
        assert!(!message.contains("panicked"), "{message}");
    }

    /// Trains into the directory `dir` with these settings.
    #[track_caller]
    pub(crate) fn train(&self, command: &str, dir: &str, set: &[&str]) -> Run {
        self.run(&line(command, dir, set).iter().map(String::as_str).collect::<Vec<_>>());
        Run(self.path(dir))
    }

    /// As [`Self::train`], to an error.
    #[track_caller]
    pub(crate) fn stops(&self, command: &str, dir: &str, set: &[&str], code: i32, expected: &[&str]) -> Run {
        let line = line(command, dir, set);
        self.fails(&line.iter().map(String::as_str).collect::<Vec<_>>(), code, expected);
        Run(self.path(dir))
    }
}

/// `jmp-train COMMAND COMMAND.toml` with settings; fine-tuning from random weights.
fn line(command: &str, dir: &str, set: &[&str]) -> Vec<String> {
    let mut line = vec![command.to_owned(), format!("{command}.toml"), "--quiet".to_owned()];
    if command == "finetune" {
        line.push("--scratch".to_owned());
    }
    let dir = format!("run.dir={dir}");
    let settings = std::iter::once(dir.as_str()).chain(set.iter().copied());
    line.extend(settings.flat_map(|setting| ["--set".to_owned(), setting.to_owned()]));
    line
}

/// A run directory.
pub(crate) struct Run(pub(crate) PathBuf);

impl Run {
    /// Records of this kind in `metrics.jsonl`.
    pub(crate) fn records(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == kind).collect()
    }

    pub(crate) fn finished(&self) -> Value {
        self.records("finished").pop().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.0.join("train.log")).unwrap()
    }

    pub(crate) fn checkpoint(&self, step: u64) -> PathBuf {
        self.0.join(format!("checkpoints/step-{step:08}"))
    }

    /// What a checkpoint says of the run.
    pub(crate) fn state(&self, step: u64) -> Value {
        serde_json::from_slice(&std::fs::read(self.checkpoint(step).join("state.json")).unwrap()).unwrap()
    }

    /// The tensors of a checkpoint, byte by byte: weights, moments, and the average if there is one.
    pub(crate) fn tensors(&self, step: u64) -> BTreeMap<String, Vec<u8>> {
        let files = ["model", "ema", "optimizer"].map(|name| format!("{name}.safetensors"));
        let read = |name: String| Some((name.clone(), std::fs::read(self.checkpoint(step).join(name)).ok()?));
        let found: BTreeMap<_, _> = files.into_iter().filter_map(read).collect();
        assert!(found.len() >= 2, "{:?}", found.keys());
        found
    }

    /// A copy as a kill just after the checkpoint of `step` would have left it.
    pub(crate) fn killed_after(&self, step: u64, at: &Path) -> Self {
        copy(&self.0, at);
        for entry in std::fs::read_dir(at.join("checkpoints")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.strip_prefix("step-").is_some_and(|n| n.parse::<u64>().unwrap() > step) {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
        Self(at.to_path_buf())
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// Records without what the clock decides.
pub(crate) fn without_times(mut records: Vec<Value>) -> Vec<Value> {
    for record in &mut records {
        let fields = record.as_object_mut().unwrap();
        for name in ["minutes", "samples_per_second", "waiting"] {
            fields.remove(name);
        }
    }
    records
}
