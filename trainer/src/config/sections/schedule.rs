//! `[schedule]` and `[stop]`: learning rates, and how long.

use std::iter;

use serde::{Deserialize, Serialize};

use crate::config::number::{Count, Factor, Positive};
use crate::config::{ConfigError, Source};
use crate::plateau::PlateauPhase;

/// Shares of a group's peak between which its floor lies: the released code, and so `GroupRate::new`, moves one beyond them.
const LEAST_FLOOR: f64 = 0.01;
const MOST_FLOOR: f64 = 0.99;

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
    /// Floor of every group, as a share of the peak of a layer with factor 1.
    #[serde(default = "tenth")]
    pub final_factor: Factor,
    /// Reduce-on-plateau after the cosine; off when absent or `"none"`.
    #[serde(default, skip_serializing_if = "PlateauPhase::is_none")]
    pub plateau: PlateauPhase,
    /// Layer-wise decay; all layers alike when absent.
    #[serde(default)]
    pub layers: LayerRates,
}

impl FinetuneSchedule {
    /// Phases must follow each other, and every group must be able to come to the floor.
    pub(in crate::config) fn check(&self, source: &Source) -> Result<(), ConfigError> {
        if self.cosine_epochs == 0 {
            // Without a cosine there is no floor.
            return Ok(());
        }
        if self.cosine_epochs <= self.warmup_epochs {
            return Err(source.conflict(
                "schedule.cosine_epochs",
                "an epoch after the warm-up's last (both count from the start), or 0 for no cosine",
                &self.cosine_epochs.to_string(),
            ));
        }
        let floor = self.final_factor.get();
        if !(LEAST_FLOOR..=MOST_FLOOR).contains(&floor) {
            let expected = format!("a number from {LEAST_FLOOR} to {MOST_FLOOR}");
            return Err(source.conflict("schedule.final_factor", &expected, &floor.to_string()));
        }
        let blocks = self.layers.blocks.iter().map(|factor| ("schedule.layers.blocks", factor.get()));
        let mut layers = iter::once(("schedule.layers.embedding", self.layers.embedding.get())).chain(blocks);
        match layers.find(|(_, factor)| floor / factor > MOST_FLOOR) {
            Some((key, factor)) => {
                let expected = format!(
                    "{:.4} or more, so that schedule.final_factor = {floor}, to which all layers fall, is at most \
                     {MOST_FLOOR} of it",
                    (floor / MOST_FLOOR * 1e4).ceil() / 1e4
                );
                Err(source.conflict(key, &expected, &factor.to_string()))
            }
            None => Ok(()),
        }
    }
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
