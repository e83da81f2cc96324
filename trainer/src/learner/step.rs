//! What a step needs and tells besides learning.

use std::time::Instant;

use shards::batch::HostBatch;
use thiserror::Error;

use crate::distributed::DistributedError;
use crate::loss::TaskSums;
use crate::schedule::Position;

/// Why a step could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StepError {
    /// Loss or gradient is NaN or infinite. The weights have not moved.
    #[error("step {step}: the {what} is {value}; structures of the batch: {}", ids.join(", "))]
    NonFinite {
        /// Step that failed.
        step: u64,
        /// `loss` or `gradient's norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The micro-batch to blame; `None` if none of them fails alone.
        part: Option<usize>,
        /// Ids of the structures in it, or in all of them.
        ids: Vec<String>,
    },
    /// The same, kept by another rank: in a micro-batch of its own, or in the sum over ranks. The weights have not moved.
    #[error("step {step}: the {what} is not finite, as another rank tells")]
    NonFiniteElsewhere {
        /// Step that failed.
        step: u64,
        /// `loss` or `gradient's norm`.
        what: &'static str,
    },
    /// There is not enough memory for a micro-batch. The weights have not moved.
    #[error(
        "step {step}: out of memory for a batch of {sizes}; use a smaller sampling.batch_size with a larger \
         sampling.accumulate, or set model.recompute = true (less memory, more time) or run.precision = \"bf16\" ({told})"
    )]
    OutOfMemory {
        /// Step that failed.
        step: u64,
        /// Of the micro-batch.
        sizes: String,
        /// libtorch's words.
        told: String,
    },
    /// A rank was asked to stop before it had done its part. The weights have not moved, on any rank.
    #[error("given up")]
    GivenUp,
    /// libtorch refused.
    #[error("libtorch")]
    Torch(#[from] tch::TchError),
    /// The other ranks.
    #[error(transparent)]
    Distributed(#[from] DistributedError),
}

/// What a step tells of itself.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Where the run stood before the step.
    pub at: Position,
    /// The loss.
    pub loss: f64,
    /// Its parts by task.
    pub tasks: TaskSums,
    /// Total L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of each parameter group.
    pub lrs: Vec<f64>,
    /// Structures of the global batch.
    pub structures: u64,
    /// Whether the gradient overflowed in 16-bit floats, so that the weights did not move.
    pub skipped: bool,
    /// What took how long.
    pub times: StepTimes,
}

/// Parts of a step, s; on a GPU the time to ask for the work, not to do it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepTimes {
    /// From host arrays to tensors.
    pub batch: f64,
    /// Predictions and loss.
    pub forward: f64,
    /// Gradients.
    pub backward: f64,
    /// Waiting for the gradients of other ranks.
    pub exchange: f64,
    /// Clipping, AdamW and the average.
    pub optimizer: f64,
}

/// Adds the time between laps to parts of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn at(start: Instant) -> Self {
        Self(start)
    }

    pub(super) fn lap(&mut self, part: &mut f64) {
        let now = Instant::now();
        *part += (now - self.0).as_secs_f64();
        self.0 = now;
    }
}

/// The error of a step whose loss or gradient is not finite.
pub(super) fn non_finite(
    step: u64,
    (what, value): (&'static str, f64),
    batches: &[HostBatch],
    part: Option<usize>,
) -> StepError {
    let to_blame = part.map_or(batches, |part| &batches[part..=part]);
    let ids = to_blame.iter().flat_map(|b| b.ids.clone()).collect();
    StepError::NonFinite { step, what, value, part, ids }
}

/// SplitMix64 of seed, step and micro-batch: neighbours get unrelated seeds.
pub(super) fn step_seed(seed: u64, step: u64, number: usize) -> i64 {
    let mut z = seed
        .wrapping_mul(0xA076_1D64_78BD_642F)
        .wrapping_add(step.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add((number as u64).wrapping_mul(0xE703_7ED1_A0B4_28DB));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as i64
}
