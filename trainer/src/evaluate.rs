//! Judging a network on splits: errors in physical units, and the predictions themselves.

use std::collections::BTreeMap;

use shards::batch::HostBatch;
use shards::targets::TargetTransform;
use thiserror::Error;

use crate::config::number::{Count, Positive};
use crate::config::{Config, RunKind};
use crate::data::sequential;
use crate::learner::predict;
use crate::metrics::{Errors, Metrics};
use crate::network::Network;
use crate::prediction::HostPrediction;
use crate::task::Task;

/// Errors on the validation splits and the one number that checkpoints are chosen by.
#[derive(Debug)]
pub struct Judgement {
    /// Lower is better: force MAE in eV/Å where forces are learnt in fine-tuning, energy MAE in eV otherwise; in
    /// pre-training the mean over tasks of λ-weighed errors in normalised units.
    pub metric: f64,
    /// Errors by task.
    pub tasks: BTreeMap<String, Errors>,
}

/// Someone asked to stop before a validation was done.
#[derive(Debug, Clone, Copy, Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Judges a network on the validation split of each task that has one; `None` if none has.
///
/// # Errors
/// Those of the data; [`Interrupted`] when `interrupted`, asked after each batch, says so.
pub fn validate(
    network: &Network,
    config: &Config,
    tasks: &[Task],
    interrupted: impl Fn() -> bool,
) -> anyhow::Result<Option<Judgement>> {
    let mut judged = BTreeMap::new();
    let mut metrics = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let Some(split) = &task.val else { continue };
        let limit = config.validation.max_structures.map_or(u64::MAX, Count::get);
        let errors = errors_on(network, config, (tasks, index), split, limit, |_, _| {
            if interrupted() { Err(Interrupted.into()) } else { Ok(()) }
        })?;
        metrics.push(metric(config.kind, task, &errors));
        judged.insert(task.record.name.clone(), errors);
    }
    let count = metrics.len() as f64;
    Ok((count > 0.0).then(|| Judgement { metric: metrics.iter().sum::<f64>() / count, tasks: judged }))
}

/// Errors of a network on the first `limit` structures of a split, handing each batch's predictions to `each`.
pub fn errors_on(
    network: &Network,
    config: &Config,
    (tasks, index): (&[Task], usize),
    split: &str,
    limit: u64,
    mut each: impl FnMut(&HostBatch, &HostPrediction) -> anyhow::Result<()>,
) -> anyhow::Result<Errors> {
    let transforms: Vec<TargetTransform> = tasks.iter().map(|t| t.record.transform.clone()).collect();
    // Pre-training's validation looks at free atoms only, fine-tuning's at all.
    let free_only = config.validation.free_atoms_only.unwrap_or(config.kind == RunKind::Pretrain);
    let limits: Vec<_> = config.tasks.iter().map(|t| t.data.energy_within.map(Positive::get)).collect();
    let mut metrics = Metrics::new(&transforms, free_only).telling_within(&limits);
    let mut seen = 0;
    for batch in sequential(config, &tasks[index], index, split)? {
        let batch = batch?;
        let prediction = predict(network, &batch)?;
        metrics.observe(&batch, &prediction);
        each(&batch, &prediction)?;
        seen += batch.structures() as u64;
        if seen >= limit {
            break;
        }
    }
    Ok(metrics.errors()[index])
}

fn metric(kind: RunKind, task: &Task, errors: &Errors) -> f64 {
    let record = &task.record;
    let (energy, forces) = (errors.energy_mae.unwrap_or(0.0), errors.force_mae.unwrap_or(0.0));
    match kind {
        RunKind::Pretrain => {
            let transform = &record.transform;
            record.energy_weight * energy / transform.std + record.force_weight * forces / transform.force_std
        }
        RunKind::Finetune if record.force_weight > 0.0 => forces,
        RunKind::Finetune => energy,
    }
}
