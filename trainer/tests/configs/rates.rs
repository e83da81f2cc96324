//! What the tests of learning rates share: a run's length, and its rates at a step.

use shards::stream::EpochPlan;
use trainer::plan::RunPlan;
use trainer::schedule::{Position, Schedule};

/// A hundred epochs of ten steps.
pub(crate) fn plan() -> RunPlan {
    RunPlan {
        epoch: EpochPlan { rows: vec![40], expanded: vec![40], structures: 40, steps: 10, global_batch: 4 },
        steps_per_epoch: 10,
        total_samples: 40 * 100,
        epochs: 100,
        batch: 4,
    }
}

/// The rate of each group at a step.
pub(crate) fn at(schedule: &Schedule, step: u64) -> Vec<f64> {
    schedule.lrs(Position { step, samples: step * 4 })
}

#[track_caller]
pub(crate) fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-12 * want, "{what}: got {got:e}, want {want:e}");
}
