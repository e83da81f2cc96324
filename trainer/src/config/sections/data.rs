//! `[[dataset]]` and `[sampling]`: the data and what a batch of it is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shards::graph::LargeStructures;
use shards::stream::Oversize;

use crate::config::number::{Count, NonNegative, Positive};

/// `[[dataset]]` of pre-training, `[dataset]` of fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSection {
    /// Name of the task, in logs and metrics.
    pub name: String,
    /// Shard directory, seen from the working directory, or a URL: `s3://`, `gs://`, `az://`, `https://` (docs/remote.md).
    pub path: PathBuf,
    /// Split to train on.
    #[serde(default = "train")]
    pub train: String,
    /// Split to validate on, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<String>,
    /// Split that `evaluate` takes by itself; `test` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Split whose statistics normalise the labels; the training split when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<String>,
    /// λ_E of eq. 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_weight: Option<NonNegative>,
    /// λ_F of eq. 1. Pre-training's default is the mean number of atoms of the training split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_weight: Option<NonNegative>,
    /// Whether the linear reference is subtracted from energies; yes when absent and the manifest has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<bool>,
    /// Replaces the manifest's mean of referenced energies, eV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_mean: Option<f64>,
    /// Replaces the manifest's standard deviation of referenced energies, eV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_std: Option<Positive>,
    /// Replaces the manifest's root mean square of force components, eV/Å.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_rms: Option<Positive>,
    /// Threshold loss (eq. 2): errors of the energy below this, eV, cost nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_margin: Option<Positive>,
    /// Threshold loss: forces on an atom whose mean error by component is below this, eV/Å, cost nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_margin: Option<Positive>,
    /// Validation also tells the share of energies closer than this, eV ("energy within threshold"; 0.02 for OC20, OC22).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_within: Option<Positive>,
    /// Interaction cutoff, Å; the manifest's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<Positive>,
    /// Neighbours `n` of the main graph, from which the other graphs' follow; the manifest's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbors: Option<Count>,
    /// Fewer neighbours in large structures: `{ above = 200, neighbors = 10, then = [300, 5] }` is JMP's for MatBench and
    /// QMOF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub large: Option<LargeStructures>,
}

fn train() -> String {
    "train".into()
}

/// `[sampling]`: what a batch is and how datasets are mixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingSection {
    /// Structures of a micro-batch; at most so many where there is a limit on atoms, edges or quadruplets.
    pub batch_size: Count,
    /// Micro-batches of an optimiser step, over all ranks.
    #[serde(default = "one")]
    pub accumulate: Count,
    /// Atoms of a micro-batch at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_atoms: Option<Count>,
    /// Main edges of a micro-batch at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_edges: Option<Count>,
    /// Quadruplets of a micro-batch at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_quadruplets: Option<Count>,
    /// What happens to a structure that exceeds a limit by itself: `error`, `alone` (a micro-batch of its own) or `skip`.
    #[serde(default)]
    pub oversize: Oversize,
    /// Temperature `T` of the mix, p_i ∝ (n_i/Σn)^(1/T); `inf` mixes evenly.
    #[serde(default = "plain")]
    pub temperature: f64,
    /// Row groups of each dataset shuffled together; part of the order, not of the machine.
    #[serde(default = "window")]
    pub window: Count,
    /// Independent parts of the order, a divisor of `accumulate`; half of it when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Count>,
    /// MB that decoded row groups and prepared batches may take; unlimited when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Count>,
    /// Threads that read and build graphs.
    #[serde(default = "two")]
    pub workers: Count,
    /// Batches kept ready.
    #[serde(default = "four")]
    pub prefetch: Count,
}

pub(super) fn one() -> Count {
    Count::known(1)
}

pub(super) fn two() -> Count {
    Count::known(2)
}

fn four() -> Count {
    Count::known(4)
}

fn window() -> Count {
    Count::known(4)
}

fn plain() -> f64 {
    1.0
}
