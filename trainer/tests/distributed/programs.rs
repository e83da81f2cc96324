//! Runs of `jmp-train` in a folder of made-up data.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tch::{Kind, Tensor};

use crate::molecules;

/// Longest that anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(4);

const CONFIG: &str = r#"
kind = "pretrain"
run = { dir = "run", seed = 3, device = "cpu", threads = 1, precision = "f64", distributed_timeout = 120 }
model = { preset = "tiny", edge_dropout = 0.1, dropout = 0.1 }
sampling = { batch_size = 1, accumulate = 3, temperature = 2.0 }
optimizer = { lr = 1e-3, clip = { norm = 1.0 }, ema = 0.9 }
schedule = { epochs = 3, warmup_steps = 5, max_steps = 22 }
validation = { every_steps = 11, batch_size = 3 }
checkpoint = { every_steps = 4, keep = 9 }

[[dataset]]
name = "large"
path = "large"
train = "all"
val = "all"
cutoff = 4.0
neighbors = 6

[[dataset]]
name = "small"
path = "small"
train = "all"
val = "all"
cutoff = 4.0
neighbors = 6
"#;

/// A folder with two datasets and a configuration. With micro-batches of one structure, most leave a dataset's heads unused.
pub(crate) struct Workshop(tempfile::TempDir);

impl Workshop {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, first, count) in [("large", 0, 30), ("small", 100, 7)] {
            let structures: Vec<_> = (first..first + count).map(molecules::molecule).collect();
            molecules::write(&folder.path().join(name), &molecules::layout(), &[structures], 1);
        }
        std::fs::write(folder.path().join("config.toml"), CONFIG).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `jmp-train` in this folder, without what the test's own launcher may have set.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jmp-train"));
        command.current_dir(self.0.path()).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("SLURM_")
                || ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"].contains(&&*name)
            {
                command.env_remove(&*name);
            }
        }
        command
    }

    /// Runs to the end and succeeds.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let done = Ended::of(self.command(arguments).spawn().unwrap());
        assert!(done.0.status.success(), "{arguments:?}: {}", done.errors());
        done.0
    }

    /// Pre-trains into `dir` with more arguments.
    #[track_caller]
    pub(crate) fn pretrain(&self, dir: &str, more: &[&str]) -> Run {
        let setting = format!("run.dir={dir}");
        let arguments: Vec<&str> =
            ["pretrain", "config.toml", "--quiet", "--set", &setting].iter().chain(more).copied().collect();
        self.run(&arguments);
        Run(self.path(dir))
    }
}

/// A program that has ended.
pub(crate) struct Ended(pub(crate) Output);

impl Ended {
    /// Waits for a program, and ends it and the test if it takes too long.
    pub(crate) fn of(mut child: Child) -> Self {
        let begin = Instant::now();
        // Nothing here writes so much that a pipe fills.
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > PATIENCE {
                child.kill().unwrap();
                let errors = String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned();
                panic!("it still ran after {PATIENCE:?}: {errors}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child.wait_with_output().unwrap())
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.0.status.code()
    }
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

    /// Loss of each step.
    pub(crate) fn losses(&self) -> Vec<f64> {
        self.records("train").iter().map(|record| record["loss"].as_f64().unwrap()).collect()
    }

    /// Weights, averages and moments of a checkpoint.
    pub(crate) fn tensors(&self, step: u64) -> BTreeMap<String, Tensor> {
        let dir = self.0.join(format!("checkpoints/step-{step:08}"));
        let mut all = BTreeMap::new();
        for file in ["model", "ema", "optimizer"] {
            let tensors =
                trainer::checkpoint::tensors::read(&dir.join(format!("{file}.safetensors"))).unwrap();
            all.extend(tensors.into_iter().map(|(name, tensor)| (format!("{file} {name}"), tensor)));
        }
        all
    }

    pub(crate) fn checkpoint(&self, step: u64) -> PathBuf {
        self.0.join(format!("checkpoints/step-{step:08}/state.json"))
    }
}

/// Largest difference between two checkpoints' tensors, and where it is.
pub(crate) fn distance(a: &BTreeMap<String, Tensor>, b: &BTreeMap<String, Tensor>) -> (f64, String) {
    assert!(a.len() > 300 && a.keys().eq(b.keys()), "{} and {} tensors", a.len(), b.len());
    let apart = |(name, a): (&String, &Tensor)| {
        let apart = (a - &b[name]).abs().max().to_kind(Kind::Double).double_value(&[]);
        (apart, name.clone())
    };
    a.iter().map(apart).fold((0.0, String::new()), |most, next| if next.0 > most.0 { next } else { most })
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a file is there.
pub(crate) fn wait_for(file: &Path, child: &mut Child) {
    let begin = Instant::now();
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {} was there", file.display());
        assert!(begin.elapsed() < PATIENCE, "no {} after {PATIENCE:?}", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}
