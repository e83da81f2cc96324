//! Judging a network on splits: errors in physical units, and the predictions themselves.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shards::batch::HostBatch;
use shards::targets::TargetTransform;
use thiserror::Error;

use crate::config::number::{Count, Positive};
use crate::config::{Config, RunKind};
use crate::data::sequential;
use crate::distributed::World;
use crate::learner::predict;
use crate::metrics::{Errors, Metrics};
use crate::network::Network;
use crate::prediction::HostPrediction;
use crate::scalar::ScalarSums;
use crate::task::{Task, TaskError};

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

/// Someone asked to stop before a validation was done.
#[derive(Debug, Clone, Copy, Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Judges a network on the validation split of each task that has one, together with the other ranks; `None` if none has.
///
/// # Errors
/// Those of the data; [`Interrupted`] when `interrupted`, asked after each batch, says so.
pub fn validate(
    network: &Network,
    config: &Config,
    tasks: &[Task],
    world: &World,
    interrupted: impl Fn() -> bool,
) -> anyhow::Result<Option<Judgement>> {
    let mut judged = BTreeMap::new();
    let mut metrics = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let Some(split) = &task.val else { continue };
        let limit = config.validation.max_structures.map_or(u64::MAX, Count::get);
        let errors = errors_on(network, config, (tasks, index), (split, limit), world, |_, _| {
            if interrupted() { Err(Interrupted.into()) } else { Ok(()) }
        })?;
        metrics.push(metric(config.kind, task, &errors)?);
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
    let (task, whole, alone) = ((tasks, index), (split.as_str(), u64::MAX), World::alone());
    errors_on(network, config, task, whole, &alone, |batch, prediction| {
        for (g, _) in batch.has_energy.iter().enumerate().filter(|(_, has)| **has) {
            sum += batch.energy[g] - prediction.energy[g];
            count += 1;
        }
        Ok(())
    })?;
    Ok((count > 0).then(|| sum / count as f64))
}

/// Errors of a network on the first `limit` structures of a split, handing each batch's predictions to `each`.
///
/// Ranks take the batches in turn. Sums are added up in the order of the batches, so that the number of ranks does not change
/// a bit of them.
pub fn errors_on(
    network: &Network,
    config: &Config,
    (tasks, index): (&[Task], usize),
    (split, limit): (&str, u64),
    world: &World,
    mut each: impl FnMut(&HostBatch, &HostPrediction) -> anyhow::Result<()>,
) -> anyhow::Result<Errors> {
    let transforms: Vec<TargetTransform> = tasks.iter().map(|t| t.record.transform.clone()).collect();
    // Pre-training's validation looks at free atoms only, fine-tuning's at all.
    let free_only = config.validation.free_atoms_only.unwrap_or(config.kind == RunKind::Pretrain);
    let limits: Vec<_> = config.tasks.iter().map(|t| t.data.energy_within.map(Positive::get)).collect();
    let nothing = Metrics::new(&transforms, free_only).telling_within(&limits);
    let scalar = tasks[index].record.scalar.as_ref();
    let (mut own, mut pairs) = (Vec::new(), Vec::new());
    for (place, batch) in (0u32..).zip(sequential(config, &tasks[index], index, (split, limit))?) {
        let batch = batch?;
        if place % world.ranks() == world.rank() {
            let prediction = predict(network, &batch)?;
            if scalar.is_some() {
                pairs.push((place, ScalarSums::pairs(&batch, &prediction)));
            } else {
                let mut metrics = nothing.clone();
                metrics.observe(&batch, &prediction);
                own.push((place, metrics.sums()[index]));
            }
            each(&batch, &prediction)?;
        }
    }
    if let Some(target) = scalar {
        let mut sums = ScalarSums::new(target, transforms[index].std);
        let all = in_order(&pairs, world)?;
        all.into_values().flatten().for_each(|(output, label)| sums.add(output, label));
        return Ok(Errors { structures: sums.count(), scalar: Some(sums.errors()), ..Errors::default() });
    }
    let mut sums = nothing.sums()[index];
    in_order(&own, world)?.values().for_each(|batch| sums.add(batch));
    Ok(sums.mean())
}

/// What the batches of all ranks gave, by their place.
fn in_order<T: Serialize + DeserializeOwned>(
    own: &[(u32, T)],
    world: &World,
) -> anyhow::Result<BTreeMap<u32, T>> {
    let mut batches = BTreeMap::new();
    for part in world.gather(&serde_json::to_vec(own)?)? {
        batches.extend(serde_json::from_slice::<Vec<(u32, T)>>(&part)?);
    }
    Ok(batches)
}

/// What a task is judged by.
///
/// # Errors
/// When no structure judged had the label.
fn metric(kind: RunKind, task: &Task, errors: &Errors) -> Result<f64, TaskError> {
    let record = &task.record;
    let known = |value: Option<f64>, label: &str| {
        value.ok_or_else(|| TaskError::Unjudged {
            name: record.name.clone(),
            split: task.val.clone().unwrap_or_default(),
            label: label.to_owned(),
        })
    };
    if let Some(scalar) = &errors.scalar {
        return known(scalar.metric(), &scalar.target);
    }
    let weighed = |weight: f64, value: Option<f64>, scale: f64, label: &str| {
        if weight > 0.0 { known(value, label).map(|error| weight * error / scale) } else { Ok(0.0) }
    };
    match kind {
        RunKind::Pretrain => {
            let transform = &record.transform;
            let energy = weighed(record.energy_weight, errors.energy_mae, transform.std, "energy")?;
            Ok(energy + weighed(record.force_weight, errors.force_mae, transform.force_std, "forces")?)
        }
        RunKind::Finetune if record.force_weight > 0.0 => known(errors.force_mae, "forces"),
        RunKind::Finetune => known(errors.energy_mae, "energy"),
    }
}
