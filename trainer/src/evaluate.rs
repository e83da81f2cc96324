//! Judging a network on splits: errors in physical units, and the predictions themselves.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shards::batch::HostBatch;
use shards::stream::Share;
use shards::targets::TargetTransform;
use thiserror::Error;

use crate::checkpoint::TaskRecord;
use crate::config::number::{Count, Positive};
use crate::config::{Config, RunKind};
use crate::data::sequential;
use crate::distributed::World;
use crate::diverged::{Diverged, without};
use crate::learner::predict;
use crate::metrics::{ErrorSums, Errors, Metrics};
use crate::network::Network;
use crate::prediction::HostPrediction;
use crate::scalar::{Pair, ScalarSums};
use crate::task::{Task, TaskError};

/// Errors on the validation splits and the one number that checkpoints are chosen by.
#[derive(Debug)]
pub struct Judgement {
    /// Lower is better: force MAE in eV/Å where forces are learnt in fine-tuning, energy MAE in eV otherwise, of a property
    /// its MAE in the unit that errors are told in or the cross-entropy of classes; in
    /// pre-training the mean over tasks of λ-weighed errors in normalised units. Infinite where a prediction is not finite.
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
        let errors = judge.errors_on(index, (split, limit), &interrupted, |_| Ok(()))?;
        // Energies that were not learnt are right up to a constant at best, which only an evaluation finds.
        let errors = if task.record.learns_value() { errors } else { errors.without_energies() };
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
        self.errors_on(index, whole, &|| false, |Seen { judged, prediction, .. }| {
            for (g, _) in judged.has_energy.iter().enumerate().filter(|(_, has)| **has) {
                sum += judged.energy[g] - prediction.energy[g];
                count += 1;
            }
            Ok(())
        })?;
        Ok((count > 0).then(|| sum / count as f64))
    }

    /// Errors on the first `limit` structures of a task's split, handing each batch's predictions to `each`.
    ///
    /// Structures on which the model diverges are in no mean; they are counted and named beside the errors.
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
        mut each: impl FnMut(Seen) -> anyhow::Result<()>,
    ) -> anyhow::Result<Errors> {
        let transforms: Vec<TargetTransform> =
            self.tasks.iter().map(|t| t.record.transform.clone()).collect();
        let nothing = self.no_errors(&transforms);
        let record = &self.tasks[index].record;
        let mut own = Parts::new();
        let mut stopped = false;
        for batch in sequential(self.config, &self.tasks[index], index, (split, limit), self.share())? {
            let batch = batch?;
            if interrupted() {
                stopped = true;
                break;
            }
            let prediction = predict(self.network, &batch)?;
            let (diverged, which) = Diverged::of(record, &batch, &prediction);
            let judged =
                if diverged.is_none() { Cow::Borrowed(&batch) } else { Cow::Owned(without(&batch, &which)) };
            let sums = if record.scalar.is_some() {
                Sums::Scalar(ScalarSums::pairs(&judged, &prediction))
            } else {
                let mut metrics = nothing.clone();
                metrics.observe(&judged, &prediction);
                Sums::Labels(metrics.sums()[index])
            };
            own.push((batch.index, Part { sums, diverged }));
            each(Seen { batch: &batch, judged: &judged, prediction: &prediction })?;
        }
        let all = in_order(own, stopped, self.world)?;
        Ok(added_up(record, nothing.sums()[index], all.into_values()))
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

/// A batch that was predicted.
#[derive(Debug)]
pub struct Seen<'a> {
    /// As it was read.
    pub batch: &'a HostBatch,
    /// The same without the labels of structures on which the model diverges.
    pub judged: &'a HostBatch,
    /// What the model says, normalised.
    pub prediction: &'a HostPrediction,
}

/// What comes of one batch.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    sums: Sums,
    diverged: Diverged,
}

#[derive(Debug, Serialize, Deserialize)]
enum Sums {
    /// Output and label of each structure.
    Scalar(Vec<Pair>),
    Labels(ErrorSums),
}

/// Errors over all batches, in their order.
fn added_up(record: &TaskRecord, nothing: ErrorSums, parts: impl Iterator<Item = Part>) -> Errors {
    let mut diverged = Diverged::default();
    let mut scalar = record.scalar.as_ref().map(|target| ScalarSums::new(target, record.transform.std));
    let mut labels = nothing;
    for Part { sums, diverged: more } in parts {
        diverged.add(more);
        match (sums, &mut scalar) {
            (Sums::Scalar(pairs), Some(scalar)) => pairs.iter().for_each(|pair| scalar.add(*pair)),
            (Sums::Labels(sums), _) => labels.add(&sums),
            (Sums::Scalar(_), None) => {}
        }
    }
    let errors = match scalar {
        Some(sums) => Errors { structures: sums.count(), scalar: Some(sums.errors()), ..Errors::default() },
        None => labels.mean(),
    };
    Errors { not_finite: (!diverged.is_none()).then_some(diverged), ..errors }
}

/// What a rank's batches gave, with their places.
type Parts = Vec<(u32, Part)>;

/// What the batches of all ranks gave, by their place; [`Interrupted`] if any rank has stopped before its last.
fn in_order(own: Parts, stopped: bool, world: &World) -> anyhow::Result<BTreeMap<u32, Part>> {
    let mut batches = BTreeMap::new();
    let mut is_whole = true;
    for part in world.gather(&serde_json::to_vec(&(!stopped).then_some(own))?)? {
        match serde_json::from_slice::<Option<Parts>>(&part)? {
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
    if errors.not_finite.is_some() {
        return Ok(f64::INFINITY);
    }
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
