//! A run's directory: the resolved configuration, metrics, the log, checkpoints.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use crate::checkpoint::{CheckpointError, Store};

const CONFIG_FILE: &str = "config.toml";
const METRICS_FILE: &str = "metrics.jsonl";
const LOG_FILE: &str = "train.log";

/// Why a run directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunDirError {
    /// It belongs to another run.
    #[error(
        "{0} already holds a run; continue it with --resume {0}, or choose another directory with --set run.dir=…",
        dir.display()
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no run to resume.
    #[error("{}: no run here: config.toml is missing", dir.display())]
    Absent {
        /// The directory.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// An open run directory.
#[derive(Debug)]
pub struct RunDir {
    dir: PathBuf,
    /// Metrics and log; `None` on ranks that write nothing.
    files: Option<(File, File)>,
}

impl RunDir {
    /// Refuses a directory that holds a run with a checkpoint. One without has nothing to lose and may be used again.
    pub fn check_free(dir: &Path) -> Result<(), RunDirError> {
        match crate::checkpoint::locate(dir, false) {
            Ok(_) => Err(RunDirError::Taken { dir: dir.to_path_buf() }),
            Err(_) => Ok(()),
        }
    }

    /// Makes the directory of a new run.
    pub fn create(dir: &Path, config: &str) -> Result<Self, RunDirError> {
        Self::check_free(dir)?;
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let write = |name: &str, content: &str| {
            let file = dir.join(name);
            fs::write(&file, content).map_err(io_error("write", &file))
        };
        write(METRICS_FILE, "")?;
        write(CONFIG_FILE, config)?;
        Self::open(dir)
    }

    /// A run directory that another rank writes to.
    pub fn of_another_rank(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), files: None }
    }

    /// Opens the directory of a run that goes on at optimiser step `step`: metrics of later steps are dropped.
    pub fn resume(dir: &Path, step: u64) -> Result<Self, RunDirError> {
        let path = dir.join(METRICS_FILE);
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
            let kept: String = text.split_inclusive('\n').filter(|line| is_before(line, step)).collect();
            let temporary = path.with_extension("tmp");
            fs::write(&temporary, kept).map_err(io_error("write", &temporary))?;
            fs::rename(&temporary, &path).map_err(io_error("rename into place", &path))?;
        }
        Self::open(dir)
    }

    /// The configuration a run was started with.
    pub fn config_file(dir: &Path) -> Result<PathBuf, RunDirError> {
        let file = dir.join(CONFIG_FILE);
        if file.is_file() { Ok(file) } else { Err(RunDirError::Absent { dir: dir.to_path_buf() }) }
    }

    fn open(dir: &Path) -> Result<Self, RunDirError> {
        let append = |name: &str| {
            let path = dir.join(name);
            OpenOptions::new().create(true).append(true).open(&path).map_err(io_error("open", &path))
        };
        Ok(Self { dir: dir.to_path_buf(), files: Some((append(METRICS_FILE)?, append(LOG_FILE)?)) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Appends a line to `metrics.jsonl`.
    pub fn metric(&mut self, value: &impl Serialize) -> Result<(), RunDirError> {
        let Some((metrics, _)) = &mut self.files else { return Ok(()) };
        let path = self.dir.join(METRICS_FILE);
        let line = serde_json::to_string(value).map_err(|e| io_error("write", &path)(io::Error::other(e)))?;
        writeln!(metrics, "{line}").map_err(io_error("write", &path))
    }

    /// Appends a line to the log.
    pub fn log(&mut self, line: &str) -> Result<(), RunDirError> {
        let Some((_, log)) = &mut self.files else { return Ok(()) };
        let path = self.dir.join(LOG_FILE);
        writeln!(log, "{line}").map_err(io_error("write", &path))
    }

    /// The run's checkpoints.
    pub fn checkpoints(&self, keep: u64) -> Result<Store, CheckpointError> {
        Store::open(self.dir.join("checkpoints"), keep)
    }
}

/// Whether a line of metrics tells of a step up to `step` (steps done). A line cut short by a crash tells nothing.
fn is_before(line: &str, step: u64) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
    value.and_then(|v| v.get("step")?.as_u64()).is_some_and(|s| s <= step)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_path_buf();
    move |source| RunDirError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_holds_one_run_and_resuming_drops_later_metrics() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("run");
        let mut run = RunDir::create(&dir, "kind = \"pretrain\"\n").unwrap();
        for step in 1..=5 {
            run.metric(&serde_json::json!({ "step": step })).unwrap();
        }
        fs::OpenOptions::new()
            .append(true)
            .open(dir.join(METRICS_FILE))
            .unwrap()
            .write_all(b"{\"step\": 6, \"lo")
            .unwrap();
        let checkpoint = dir.join("checkpoints").join("step-00000003");
        fs::create_dir_all(&checkpoint).unwrap();
        fs::write(checkpoint.join("state.json"), "{}").unwrap();
        let error = RunDir::create(&dir, "").unwrap_err().to_string();
        assert!(error.contains("already holds a run; continue it with --resume"), "{error}");
        drop(RunDir::resume(&dir, 3).unwrap());
        assert_eq!(
            fs::read_to_string(dir.join(METRICS_FILE)).unwrap(),
            "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n"
        );
    }
}
