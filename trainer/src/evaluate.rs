//! Judging a network on splits: errors in physical units, and the predictions themselves.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shards::batch::HostBatch;
use shards::stream::Share;
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

/// Someone asked something of a rank before a validation was done.
#[derive(Debug, Clone, Copy, Error)]
#[error("interrupted")]
pub struct Interrupted;

/// What is judged, on what, by whom.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The network, with the weights that are judged.
    pub network: &'a Network,
    /// Batches and what is counted.
    pub config: &'a Config,
    /// All tasks of the network.
    pub tasks: &'a [Task],
    /// The ranks that judge together.
    pub world: &'a World,
}

/// Judges a network on the validation split of each task that has one, together with the other ranks; `None` if none has.
///
/// # Errors
/// Those of the data; [`Interrupted`], on all ranks, when `interrupted`, asked before each batch, says so on any.
pub fn validate(judge: Judge, interrupted: impl Fn() -> bool) -> anyhow::Result<Option<Judgement>> {
    let Judge { config, tasks, .. } = judge;
    let mut judged = BTreeMap::new();
    let mut metrics = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let Some(split) = &task.val else { continue };
        let limit = config.validation.max_structures.map_or(u64::MAX, Count::get);
        let errors = judge.errors_on(index, (split, limit), &interrupted, |_, _| Ok(()))?;
        metrics.push(metric(config.kind, task, &errors)?);
        judged.insert(task.record.name.clone(), errors);
    }
    let count = metrics.len() as f64;
    Ok((count > 0.0).then(|| Judgement { metric: metrics.iter().sum::<f64>() / count, tasks: judged }))
}

impl Judge<'_> {
    /// The constant that energies of a task are short of: the mean error on its training split, normalised. Models that learn
    /// forces alone know energies up to a constant. `None` where no structure has an energy. For one process alone.
    ///
    /// # Errors
    /// Those of the data.
    pub fn energy_constant(&self, index: usize) -> anyhow::Result<Option<f64>> {
        let (mut sum, mut count) = (0.0, 0_u64);
        let whole = (self.tasks[index].record.split.as_str(), u64::MAX);
        self.errors_on(index, whole, &|| false, |batch, prediction| {
            for (g, _) in batch.has_energy.iter().enumerate().filter(|(_, has)| **has) {
                sum += batch.energy[g] - prediction.energy[g];
                count += 1;
            }
            Ok(())
        })?;
        Ok((count > 0).then(|| sum / count as f64))
    }

    /// Errors on the first `limit` structures of a task's split, handing each batch's predictions to `each`.
    ///
    /// Ranks take the batches in turn and prepare no others. Sums are added up in the order of the batches, so that the number
    /// of ranks does not change a bit of them.
    ///
    /// # Errors
    /// Those of the data and of `each`; [`Interrupted`] as [`validate`] has it.
    pub fn errors_on(
        &self,
        index: usize,
        (split, limit): (&str, u64),
        interrupted: &dyn Fn() -> bool,
        mut each: impl FnMut(&HostBatch, &HostPrediction) -> anyhow::Result<()>,
    ) -> anyhow::Result<Errors> {
        let transforms: Vec<TargetTransform> =
            self.tasks.iter().map(|t| t.record.transform.clone()).collect();
        let nothing = self.no_errors(&transforms);
        let scalar = self.tasks[index].record.scalar.as_ref();
        let (mut own, mut pairs) = (Part::default(), Part::default());
        let mut stopped = false;
        for batch in sequential(self.config, &self.tasks[index], index, (split, limit), self.share())? {
            let batch = batch?;
            if interrupted() {
                stopped = true;
                break;
            }
            let prediction = predict(self.network, &batch)?;
            if scalar.is_some() {
                // As bits: JSON has no NaN.
                let bits = |(output, label): (f64, f64)| (output.to_bits(), label.to_bits());
                pairs.push((
                    batch.index,
                    ScalarSums::pairs(&batch, &prediction).into_iter().map(bits).collect(),
                ));
            } else {
                let mut metrics = nothing.clone();
                metrics.observe(&batch, &prediction);
                own.push((batch.index, metrics.sums()[index]));
            }
            each(&batch, &prediction)?;
        }
        if let Some(target) = scalar {
            let mut sums = ScalarSums::new(target, transforms[index].std);
            let all: BTreeMap<u32, Vec<(u64, u64)>> = in_order(pairs, stopped, self.world)?;
            for (output, label) in all.into_values().flatten() {
                sums.add(f64::from_bits(output), f64::from_bits(label));
            }
            return Ok(Errors { structures: sums.count(), scalar: Some(sums.errors()), ..Errors::default() });
        }
        let mut sums = nothing.sums()[index];
        in_order(own, stopped, self.world)?.values().for_each(|batch| sums.add(batch));
        Ok(sums.mean())
    }

    /// Sums before the first batch.
    fn no_errors(&self, transforms: &[TargetTransform]) -> Metrics {
        let config = self.config;
        // Pre-training's validation looks at free atoms only, fine-tuning's at all.
        let free_only = config.validation.free_atoms_only.unwrap_or(config.kind == RunKind::Pretrain);
        let limits: Vec<_> = config.tasks.iter().map(|t| t.data.energy_within.map(Positive::get)).collect();
        Metrics::new(transforms, free_only).telling_within(&limits)
    }

    fn share(&self) -> Share {
        Share { rank: self.world.rank(), ranks: self.world.ranks() }
    }
}

/// What a rank's batches gave, with their places.
type Part<T> = Vec<(u32, T)>;

/// What the batches of all ranks gave, by their place; [`Interrupted`] if any rank has stopped before its last.
fn in_order<T: Serialize + DeserializeOwned>(
    own: Part<T>,
    stopped: bool,
    world: &World,
) -> anyhow::Result<BTreeMap<u32, T>> {
    let mut batches = BTreeMap::new();
    let mut is_whole = true;
    for part in world.gather(&serde_json::to_vec(&(!stopped).then_some(own))?)? {
        match serde_json::from_slice::<Option<Part<T>>>(&part)? {
            Some(part) => batches.extend(part),
            None => is_whole = false,
        }
    }
    if is_whole { Ok(batches) } else { Err(Interrupted.into()) }
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
