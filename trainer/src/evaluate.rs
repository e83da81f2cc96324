//! Judging a network on splits: errors in physical units, and the predictions themselves.

use std::collections::BTreeMap;

use shards::batch::HostBatch;
use shards::targets::TargetTransform;

use crate::config::number::Count;
use crate::config::{Config, RunKind};
use crate::data::sequential;
use crate::learner::predict;
use crate::metrics::{Errors, Metrics};
use crate::network::Network;
use crate::prediction::HostPrediction;
use crate::scalar::ScalarSums;
use crate::task::Task;

/// Errors on the validation splits and the one number that checkpoints are chosen by.
#[derive(Debug)]
pub struct Judgement {
    /// Lower is better: force MAE in eV/Å where forces are learnt in fine-tuning, energy MAE in eV otherwise, of a property
    /// its MAE in the unit that errors are told in or the cross-entropy of classes; in
    /// pre-training the mean over tasks of λ-weighed errors in normalised units.
    pub metric: f64,
    /// Errors by task.
    pub tasks: BTreeMap<String, Errors>,
}

/// Judges a network on the validation split of each task that has one; `None` if none has.
pub fn validate(network: &Network, config: &Config, tasks: &[Task]) -> anyhow::Result<Option<Judgement>> {
    let mut judged = BTreeMap::new();
    let mut metrics = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let Some(split) = &task.val else { continue };
        let limit = config.validation.max_structures.map_or(u64::MAX, Count::get);
        let errors = errors_on(network, config, (tasks, index), split, limit, |_, _| Ok(()))?;
        metrics.push(metric(config.kind, task, &errors));
        judged.insert(task.record.name.clone(), errors);
    }
    let count = metrics.len() as f64;
    Ok((count > 0.0).then(|| Judgement { metric: metrics.iter().sum::<f64>() / count, tasks: judged }))
}

/// The constant that energies of a task are short of: the mean error on its training split, normalised. Models that learn
/// forces alone know energies up to a constant. `None` where no structure has an energy.
pub fn energy_constant(
    network: &Network,
    config: &Config,
    (tasks, index): (&[Task], usize),
) -> anyhow::Result<Option<f64>> {
    let (mut sum, mut count) = (0.0, 0_u64);
    let split = tasks[index].record.split.clone();
    errors_on(network, config, (tasks, index), &split, u64::MAX, |batch, prediction| {
        for (g, _) in batch.has_energy.iter().enumerate().filter(|(_, has)| **has) {
            sum += batch.energy[g] - prediction.energy[g];
            count += 1;
        }
        Ok(())
    })?;
    Ok((count > 0).then(|| sum / count as f64))
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
    let mut metrics = Metrics::new(&transforms, config.kind == RunKind::Pretrain);
    let record = &tasks[index].record;
    let mut scalar = record.scalar.as_ref().map(|target| ScalarSums::new(target, record.transform.std));
    let mut seen = 0;
    for batch in sequential(config, &tasks[index], index, split)? {
        let batch = batch?;
        let prediction = predict(network, &batch)?;
        match &mut scalar {
            Some(scalar) => scalar.observe(&batch, &prediction),
            None => metrics.observe(&batch, &prediction),
        }
        each(&batch, &prediction)?;
        seen += batch.structures() as u64;
        if seen >= limit {
            break;
        }
    }
    Ok(match scalar {
        Some(scalar) => {
            Errors { structures: scalar.count(), scalar: Some(scalar.errors()), ..Errors::default() }
        }
        None => metrics.errors().swap_remove(index),
    })
}

fn metric(kind: RunKind, task: &Task, errors: &Errors) -> f64 {
    let record = &task.record;
    if let Some(scalar) = &errors.scalar {
        return scalar.metric();
    }
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
