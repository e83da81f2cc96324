//! Checkpoints: a directory of safetensors and one JSON file, complete or absent, never half.
//!
//! `state.json` says what the run was and where it stood; it is the last file written, holds the hashes of the others, and
//! the whole directory appears by one rename.

mod background;
pub mod safetensors;
pub mod scale_factors;
mod store;
pub mod tensors;
mod writing;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shards::graph::GraphSpec;
use shards::targets::TargetTransform;
use tch::Tensor;
use thiserror::Error;

pub use background::Writer;
pub use store::{Best, Store, keep_energy_shifts, locate, read_info, write};
pub use writing::Writing;

use crate::config::model::ModelSection;
use crate::config::{ForceMode, RunKind};
use crate::loss_scale::LossScale;
use crate::scalar::{ScalarLoss, ScalarTarget};
use crate::schedule::{Position, Schedule};

/// Version of the checkpoint format.
pub const SCHEMA_VERSION: u32 = 1;

/// Why a checkpoint cannot be written, found or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
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
    /// The content is not what it should be.
    #[error("{}: {problem}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Nothing there.
    #[error(
        "{}: no checkpoint here; expected a run directory, its checkpoints directory, or one of the checkpoints in it",
        path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A run cannot go on with other data or another configuration.
    #[error("{} cannot be resumed: {}", path.display(), differences.join("; "))]
    Differs {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        differences: Vec<String>,
    },
}

impl CheckpointError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn content(path: &Path, problem: impl Into<String>) -> Self {
        Self::Content { path: path.to_path_buf(), problem: problem.into() }
    }
}

/// What a model's outputs for one task mean: all that is needed to use it without its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskRecord {
    /// Name of the task.
    pub name: String,
    /// How forces come about.
    pub forces: ForceMode,
    /// From labels to targets and back.
    pub transform: TargetTransform,
    /// The property that is predicted instead of energies and forces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<ScalarTarget>,
    /// λ_E.
    pub energy_weight: f64,
    /// λ_F.
    pub force_weight: f64,
    /// Errors that cost nothing.
    #[serde(default, skip_serializing_if = "Margins::are_none")]
    pub margins: Margins,
    /// What is missing to the energies of a model that was trained on forces alone, eV: its mean error on the training split, once
    /// an evaluation has found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_shift: Option<f64>,
    /// Whether a single energy head has biases, as the heads of joint pre-training have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub head_bias: bool,
    /// The graphs the model was trained on.
    pub graph: GraphSpec,
    /// Split it was trained on.
    pub split: String,
    /// Hash of the dataset's manifest.
    pub manifest: String,
}

/// Margins of the threshold loss (eq. 2); 0 where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Margins {
    /// Of energies, eV.
    pub energy: f64,
    /// Of the mean over a force's components, eV/Å.
    pub forces: f64,
}

impl Margins {
    /// Whether every error counts.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

impl TaskRecord {
    /// Whether its energies, or its property, mean something: an energy head beside one of forces, which no energy taught, was
    /// never trained.
    pub fn has_value(&self) -> bool {
        self.scalar.is_some() || self.energy_weight > 0.0 || self.forces != ForceMode::Direct
    }

    /// Whether energies, or a property, were learnt, so that errors of them mean something.
    pub fn learns_value(&self) -> bool {
        self.scalar.is_some() || self.energy_weight > 0.0
    }

    /// Whether there are forces that mean something: those of a head that no force taught are of no use.
    pub fn has_forces(&self) -> bool {
        match self.forces {
            ForceMode::None => false,
            ForceMode::Gradient => true,
            ForceMode::Direct => self.force_weight > 0.0,
        }
    }

    /// Weight of class 1, where classes are learnt.
    pub fn class_weight(&self) -> Option<f64> {
        match self.scalar.as_ref()?.loss {
            ScalarLoss::CrossEntropy(weight) => Some(weight),
            ScalarLoss::L1 => None,
        }
    }
}

/// Size and hash of a checkpoint's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Bytes.
    pub bytes: u64,
    /// BLAKE3, in hexadecimal.
    pub blake3: String,
}

/// Where an imported checkpoint comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Name of the imported file.
    pub file: String,
    /// `ema` or `model`.
    pub weights: String,
}

/// Where a run stood and what it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// Version of the format.
    pub schema_version: u32,
    /// Pre-training or fine-tuning.
    pub kind: RunKind,
    /// Steps and samples done.
    pub position: Position,
    /// Minutes of training over all restarts.
    pub minutes: f64,
    /// Where the stream goes on.
    pub cursor: serde_json::Value,
    /// The schedule with its state.
    pub schedule: Schedule,
    /// Seed of the run.
    pub seed: u64,
    /// The loss scale of a run in 16-bit floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// The best validation so far.
    pub best: Option<Best>,
    /// Validations since the best one.
    pub stale_validations: u64,
    /// Steps passed over because their loss or gradient was not finite.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Structures left out for their size.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// Whether a validation was due and has not been finished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validation_due: bool,
    /// The model's size.
    pub model: ModelSection,
    /// The tasks, in the order of their heads.
    pub tasks: Vec<TaskRecord>,
    /// The whole configuration, TOML; empty for an imported checkpoint.
    pub config: String,
    /// Set for an imported checkpoint. Such files tell nothing of labels: the tasks' transforms are then placeholders, and
    /// whoever uses the model takes them from the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The other files of the checkpoint.
    pub files: BTreeMap<String, FileRecord>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The tensors of a checkpoint.
#[derive(Debug, Default)]
pub struct State {
    /// Weights and buffers (scale factors).
    pub model: BTreeMap<String, Tensor>,
    /// Averaged weights; empty without an average.
    pub ema: BTreeMap<String, Tensor>,
    /// First moments.
    pub first: BTreeMap<String, Tensor>,
    /// Second moments.
    pub second: BTreeMap<String, Tensor>,
    /// Updates that the moments have seen, fewer than optimiser steps where some were skipped; earlier versions did not tell.
    pub updates: Option<u64>,
}
