//! `[schedule]` and `[stop]`: learning rates, and how long.

use serde::{Deserialize, Serialize};

use crate::config::number::{Count, Factor, Positive};
use crate::plateau::PlateauPhase;

/// `[schedule]` of pre-training (App. D.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainSchedule {
    /// Passes over the temperature-expanded set: length of the run and of the cosine.
    pub epochs: Positive,
    /// Optimiser steps of warm-up.
    pub warmup_steps: u64,
    /// Learning rate of step 0, as a share of the peak.
    #[serde(default = "fifth")]
    pub warmup_factor: Factor,
    /// Learning rate at the end, as a share of the peak.
    #[serde(default = "tenth")]
    pub final_factor: Factor,
    /// Stops after this many optimiser steps; the schedule stays that of the full run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<Count>,
}

fn fifth() -> Factor {
    Factor::known(0.2)
}

fn tenth() -> Factor {
    Factor::known(0.1)
}

/// `[schedule]` of fine-tuning (App. B.3); 0 epochs leave a phase out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinetuneSchedule {
    /// Epochs of warm-up.
    #[serde(default)]
    pub warmup_epochs: u64,
    /// Learning rate of step 0, as a share of the group's peak.
    #[serde(default = "tenth")]
    pub warmup_factor: Factor,
    /// Epoch at which the cosine has reached the floor, counted from the start of training as in the released code.
    #[serde(default)]
    pub cosine_epochs: u64,
    /// Floor of every group, as a share of the peak.
    #[serde(default = "tenth")]
    pub final_factor: Factor,
    /// Reduce-on-plateau after the cosine; off when absent or `"none"`.
    #[serde(default, skip_serializing_if = "PlateauPhase::is_none")]
    pub plateau: PlateauPhase,
    /// Layer-wise decay; all layers alike when absent.
    #[serde(default)]
    pub layers: LayerRates,
}

/// `[schedule.layers]`: factors on the peak learning rate (Table 18).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LayerRates {
    /// Atom embedding.
    pub embedding: Factor,
    /// Interaction blocks from the first; blocks beyond the list have factor 1.
    pub blocks: Vec<Factor>,
}

impl Default for LayerRates {
    fn default() -> Self {
        Self { embedding: Factor::known(1.0), blocks: Vec::new() }
    }
}

/// `[stop]` of fine-tuning: whichever comes first (App. D.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSection {
    /// Epochs at most.
    pub epochs: Count,
    /// Optimiser steps at most; the schedule stays that of the full run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<Count>,
    /// Validations without a better metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<Count>,
    /// Every group's learning rate has fallen below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_lr: Option<Positive>,
    /// Minutes of training at most, over all restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<Positive>,
}
