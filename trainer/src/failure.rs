//! What a step that failed leaves behind: its weights and its micro-batches, so that it can be looked at anywhere.
//!
//! `failures/step-N/` of a run directory is a checkpoint without optimiser state and average, and `batch.json` beside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shards::batch::HostBatch;

use crate::checkpoint::{self, CheckpointError, Info, State};

const BATCH_FILE: &str = "batch.json";
const HASH_FILE: &str = "batch.blake3";

/// One micro-batch of a step and its number in it, which dropout depends on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its number in the step.
    pub number: usize,
    /// Structures, targets and graphs, as the step saw them.
    pub batch: HostBatch,
}

/// What failed and on what.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The error, in words.
    pub told: String,
    /// Structures with an energy in the whole step: what the loss was divided by.
    pub energies: f64,
    /// The same of forces.
    pub forces: f64,
    /// The micro-batches to blame.
    pub parts: Vec<Part>,
}

impl Failure {
    /// Writes it below `run`, with the run's `info` and the weights of `state`; ranks beyond the first add their number to the
    /// directory's name. Returns where.
    ///
    /// # Errors
    /// The system's.
    pub fn write(
        &self,
        run: &Path,
        rank: u32,
        mut info: Info,
        state: State,
    ) -> Result<PathBuf, CheckpointError> {
        let of_rank = if rank == 0 { String::new() } else { format!("-rank-{rank}") };
        let dir = run.join("failures").join(format!("step-{:08}{of_rank}", info.position.step));
        let weights = State { model: state.model, ..State::default() };
        checkpoint::write(&dir, &mut info, &weights)?;
        let file = dir.join(BATCH_FILE);
        let text = serde_json::to_vec(self).map_err(|e| CheckpointError::content(&file, e.to_string()))?;
        let hash = blake3::hash(&text).to_hex().to_string();
        for (name, content) in [(BATCH_FILE, text), (HASH_FILE, hash.into_bytes())] {
            let file = dir.join(name);
            fs::write(&file, content).map_err(CheckpointError::io("write", &file))?;
        }
        Ok(dir)
    }

    /// Reads it back, with the run's info.
    ///
    /// # Errors
    /// When the directory does not hold a failure, or not a whole one.
    pub fn read(dir: &Path) -> Result<(Self, Info), CheckpointError> {
        let file = dir.join(BATCH_FILE);
        if !file.is_file() {
            let problem = "no batch.json here; expected RUN/failures/step-N of a step that failed";
            return Err(CheckpointError::content(dir, problem));
        }
        let info = checkpoint::read_info(dir)?;
        let text = fs::read(&file).map_err(CheckpointError::io("read", &file))?;
        let told = fs::read_to_string(dir.join(HASH_FILE)).unwrap_or_default();
        if blake3::hash(&text).to_hex().as_str() != told.trim() {
            return Err(CheckpointError::content(
                &file,
                "its hash is not that of batch.blake3; it was changed or cut",
            ));
        }
        let failure: Self =
            serde_json::from_slice(&text).map_err(|e| CheckpointError::content(&file, e.to_string()))?;
        if failure.parts.iter().any(|part| part.batch.task.iter().any(|t| *t as usize >= info.tasks.len())) {
            return Err(CheckpointError::content(
                &file,
                "a structure of a task that the model does not have",
            ));
        }
        Ok((failure, info))
    }
}
