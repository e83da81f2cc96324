//! `[validation]`, `[checkpoint]` and `[guard]`: what happens beside the steps.

use serde::{Deserialize, Serialize};

use super::data::{one, two};
use super::run::yes;
use crate::config::number::Count;

/// `[validation]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationSection {
    /// Optimiser steps between validations; at the end of each epoch when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<Count>,
    /// Epochs between validations.
    #[serde(default = "one")]
    pub every_epochs: Count,
    /// Structures of a batch at most; the training batch's when absent. The limits of `[sampling]` on atoms, edges and
    /// quadruplets hold here, too; a larger structure is judged alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<Count>,
    /// Structures of each dataset at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_structures: Option<Count>,
    /// Whether atoms held fixed are left out of the errors of forces; in pre-training yes, in fine-tuning no, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_atoms_only: Option<bool>,
}

impl Default for ValidationSection {
    fn default() -> Self {
        Self {
            every_steps: None,
            every_epochs: one(),
            batch_size: None,
            max_structures: None,
            free_atoms_only: None,
        }
    }
}

/// `[checkpoint]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSection {
    /// Optimiser steps between checkpoints; at the end of each epoch when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<Count>,
    /// How many of the last are kept, beside the best.
    #[serde(default = "two")]
    pub keep: Count,
    /// Whether a thread of its own writes them from a copy in memory; otherwise training waits.
    #[serde(default = "yes")]
    pub background: bool,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self { every_steps: None, keep: two(), background: true }
    }
}

/// `[guard]`: what happens when a loss or gradient is NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardSection {
    /// The answer; either way the batch is saved and its structures are named.
    pub non_finite: NonFinite,
    /// Steps of the whole run that may be skipped.
    pub max_skips: Count,
}

impl Default for GuardSection {
    fn default() -> Self {
        Self { non_finite: NonFinite::Stop, max_skips: Count::known(10) }
    }
}

/// The answer to a loss or gradient that is not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// The run ends with an error.
    #[default]
    Stop,
    /// The weights stay and the next batch comes.
    Skip,
}
