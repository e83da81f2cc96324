//! `[loss]` and `[optimizer]`: what is made small, and how.

use serde::{Deserialize, Serialize};

use crate::clip::Clip;
use crate::config::number::{Fraction, NonNegative, Positive};

/// `[loss]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossSection {
    /// How errors of forces are averaged.
    pub reduction: Reduction,
    /// Whether atoms held fixed are left out of the force loss. The released configuration keeps them in.
    pub free_atoms_only: bool,
    /// Projection of conflicting gradients (PCGrad, App. B.2) between these tasks; plain sum of the losses when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcgrad: Option<SurgeryTasks>,
}

/// What counts as a task for PCGrad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SurgeryTasks {
    /// Each label of each dataset, as the paper counts tasks (§4): twice as many backward passes as datasets.
    Labels,
    /// Each dataset.
    Datasets,
}

/// How errors of forces are averaged over a batch (§4.1, "structure-wise loss reduction").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// Over the atoms of each structure, then over structures.
    #[default]
    Structure,
    /// Over all atoms alike.
    Atom,
}

/// `[optimizer]`: AdamW, clipping and the average of the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSection {
    /// Peak learning rate.
    pub lr: Positive,
    /// Decay of the moments.
    #[serde(default = "betas")]
    pub betas: (Fraction, Fraction),
    /// Added to the root of the second moment.
    #[serde(default = "epsilon")]
    pub eps: Positive,
    /// Decoupled weight decay on all parameters.
    #[serde(default = "decay")]
    pub weight_decay: NonNegative,
    /// `{ norm = 1.0 }`, `{ value = 1.0 }` or `"none"`.
    pub clip: Clip,
    /// Decay of the average of the weights; no average when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<Fraction>,
}

fn betas() -> (Fraction, Fraction) {
    (Fraction::known(0.9), Fraction::known(0.95))
}

fn epsilon() -> Positive {
    Positive::known(1e-8)
}

fn decay() -> NonNegative {
    NonNegative::known(0.1)
}
