//! The sections of a configuration, as they stand in the file. Every value is valid by its type.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shards::graph::LargeStructures;
use shards::stream::Oversize;
use tch::Kind;

use super::number::{Count, Factor, Fraction, NonNegative, Positive};
use crate::clip::Clip;
use crate::plateau::PlateauRule;

/// `[run]`: where the run lives and on what it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSection {
    /// The run directory; it must not hold a run yet, unless the run is resumed.
    pub dir: PathBuf,
    /// Seed of initial weights, data order and dropout.
    #[serde(default)]
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    #[serde(default = "auto")]
    pub device: String,
    /// Numbers the model computes with.
    #[serde(default)]
    pub precision: Precision,
    /// Threads of the tensor library; all cores when absent, a fair part of them beside other ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<Count>,
    /// Seconds that one rank waits for the others before it gives up: when they meet, and in each exchange.
    #[serde(default = "ten_minutes")]
    pub distributed_timeout: Count,
    /// Whether TensorBoard's event files are written beside `metrics.jsonl`.
    #[serde(default = "yes")]
    pub tensorboard: bool,
    /// Where Prometheus may fetch the last step's figures: an address of this machine alone, `"127.0.0.1:9464"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<SocketAddr>,
}

fn yes() -> bool {
    true
}

fn ten_minutes() -> Count {
    Count::known(600)
}

fn auto() -> String {
    "auto".into()
}

/// Width of the model's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 64 bits, for checks.
    F64,
    /// Activations and products in bfloat16; weights, geometry, losses and the optimiser in 32 bits.
    Bf16,
    /// Activations and products in 16-bit floats, with a loss scale that adapts; the rest in 32 bits.
    F16,
}

impl Precision {
    /// Of weights, geometry, losses and the optimiser.
    pub fn weights(self) -> Kind {
        match self {
            Self::F64 => Kind::Double,
            Self::F32 | Self::Bf16 | Self::F16 => Kind::Float,
        }
    }

    /// Of activations and products.
    pub fn activations(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }
}

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

fn one() -> Count {
    Count::known(1)
}

fn two() -> Count {
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

/// `[transfer]` of fine-tuning: what moves, and what of a pre-trained model is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferSection {
    /// Tensors that stay as they are, by name or the beginning of one up to a dot; `*` stands for anything.
    pub freeze: Vec<String>,
    /// Whether the atom embedding begins with random numbers again.
    pub reset_embedding: bool,
}

impl TransferSection {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a tensor stays as it is.
    pub fn freezes(&self, name: &str) -> bool {
        self.freeze.iter().any(|pattern| matches(pattern, name))
    }

    /// The first pattern that no name matches.
    pub fn idle(&self, names: &BTreeSet<String>) -> Option<&String> {
        self.freeze.iter().find(|pattern| !names.iter().any(|name| matches(pattern, name)))
    }
}

/// Whether a pattern stands for a name, or for the beginning of it up to a dot.
fn matches(pattern: &str, name: &str) -> bool {
    let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    ends.into_iter().any(|end| matches_whole(pattern, &name[..end]))
}

fn matches_whole(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|start| matches_whole(after, &rest[start..]))
        }),
    }
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
    /// Reduce-on-plateau after the cosine; off when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plateau: Option<PlateauRule>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_names_and_their_beginnings() {
        let name = "backbone.int_blocks.1.dense_ca.linear.weight";
        for pattern in ["backbone", "backbone.int_blocks.1", name, "backbone.*.1", "*.weight", "*dense*"] {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["back", "backbone.int_blocks.1.d", "int_blocks", "backbone.*.2", "*.bias", ""] {
            assert!(!matches(pattern, name), "{pattern}");
        }
    }
}
