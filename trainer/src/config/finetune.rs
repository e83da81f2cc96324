//! A fine-tuning configuration as it stands in the file.

use serde::{Deserialize, Serialize};

use super::cache::CacheSection;
use super::model::ModelSection;
use super::number::{Fraction, NonNegative, Positive};
use super::sections::{
    CheckpointSection, DatasetSection, FinetuneSchedule, GuardSection, LossSection, OptimizerSection,
    RunSection, SamplingSection, StopSection, TransferSection, ValidationSection,
};
use super::source::{ConfigError, Source};
use super::{Config, ForceMode, RunKind, ScalarConfig, ScheduleConfig, TaskConfig};
use crate::heads::Pooling;
use crate::scalar::ScalarLoss;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FinetuneFile {
    kind: RunKind,
    run: RunSection,
    model: ModelSection,
    dataset: DatasetSection,
    #[serde(default)]
    heads: HeadsSection,
    #[serde(default, skip_serializing_if = "TransferSection::is_default")]
    transfer: TransferSection,
    /// What `jmp-train sweep` tries; of no meaning to a single run.
    #[serde(default, skip_serializing)]
    sweep: crate::sweep::Grid,
    sampling: SamplingSection,
    #[serde(default)]
    loss: LossSection,
    optimizer: OptimizerSection,
    schedule: FinetuneSchedule,
    stop: StopSection,
    #[serde(default)]
    validation: ValidationSection,
    #[serde(default)]
    checkpoint: CheckpointSection,
    #[serde(default)]
    guard: GuardSection,
    #[serde(default)]
    cache: CacheSection,
}

/// `[heads]`: what is predicted, and how: energies and forces, or with `target` one property.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HeadsSection {
    /// How forces come about; gradients when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    forces: Option<ForceMode>,
    /// Whether the energy head has biases: those of joint pre-training have, and are kept (`--keep-heads`) by one that has them,
    /// too. Without when absent, as the published fine-tuning heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    bias: Option<bool>,
    /// The dataset's column to be learnt in place of energies and forces.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// `sum`, `mean`, `max` or `squared-radius`: how atoms' numbers become the structure's; `sum` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pooling: Option<Pooling>,
    /// `"l1"`, or for a column of 0 and 1 `{ cross-entropy = W }`, where W weighs the structures with 1; `l1` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<ScalarLoss>,
    /// Share of the numbers of atoms' embeddings that are set to zero before the head, in training only; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout: Option<Fraction>,
    /// Unit in which errors are told: the column's, or that with m before it (meV for eV).
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// Replaces the training split's mean of the target (after its reference), in the column's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<f64>,
    /// Replaces the training split's standard deviation of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    std: Option<Positive>,
}

impl HeadsSection {
    fn forces(&self) -> ForceMode {
        self.forces.unwrap_or(if self.target.is_some() { ForceMode::None } else { ForceMode::Gradient })
    }

    /// The property to be learnt, if one is.
    fn scalar(&self, source: &Source) -> Result<Option<ScalarConfig>, ConfigError> {
        let Some(target) = &self.target else {
            let set = [
                ("pooling", self.pooling.is_some()),
                ("loss", self.loss.is_some()),
                ("dropout", self.dropout.is_some()),
                ("unit", self.unit.is_some()),
                ("mean", self.mean.is_some()),
                ("std", self.std.is_some()),
            ];
            return match set.into_iter().find(|(_, set)| *set) {
                Some((key, _)) => {
                    let key = format!("heads.{key}");
                    Err(source.conflict(&key, "heads.target beside it", "energies and forces"))
                }
                None => Ok(None),
            };
        };
        if let Some(bias) = self.bias {
            return Err(source.conflict("heads.bias", "nothing beside heads.target", &bias.to_string()));
        }
        if self.forces() != ForceMode::None {
            let expected = "none (or nothing) beside heads.target";
            return Err(source.conflict("heads.forces", expected, &format!("{:?}", self.forces())));
        }
        let loss = self.loss.unwrap_or_default();
        if let ScalarLoss::CrossEntropy(weight) = loss
            && !(weight > 0.0 && weight.is_finite())
        {
            let expected = "a finite weight above 0";
            return Err(source.conflict("heads.loss.cross-entropy", expected, &weight.to_string()));
        }
        Ok(Some(ScalarConfig {
            target: target.clone(),
            pooling: self.pooling.unwrap_or_default(),
            loss,
            dropout: self.dropout.map_or(0.0, Fraction::get),
            unit: self.unit.clone(),
            mean: self.mean,
            std: self.std.map(Positive::get),
        }))
    }
}

impl FinetuneFile {
    /// The meaning of the file.
    pub(super) fn validate(self, source: &Source) -> Result<Config, ConfigError> {
        let data = self.dataset.clone();
        let task = TaskConfig {
            energy_weight: data.energy_weight.map_or(1.0, NonNegative::get),
            force_weight: Some(data.force_weight.map_or(1.0, NonNegative::get)),
            forces: self.heads.forces(),
            head_bias: self.heads.bias.unwrap_or(false),
            scalar: self.heads.scalar(source)?,
            data,
        };
        super::check_tasks(std::slice::from_ref(&task), source)?;
        super::check_model(&self.model, [task.forces], source)?;
        super::check_run(&self.run, source)?;
        if self.loss.pcgrad.is_some() {
            return Err(source.conflict("loss.pcgrad", "nothing: one task has no conflicts", "a value"));
        }
        super::check_temperature(self.sampling.temperature, source)?;
        self.schedule.check(source)?;
        if !self.schedule.plateau.is_none() && task.data.val.is_none() {
            return Err(source.conflict(
                "dataset.val",
                "a split: reduce-on-plateau needs validation",
                "none",
            ));
        }
        Ok(Config {
            kind: RunKind::Finetune,
            text: super::written(&self, source)?,
            run: self.run,
            model: self.model,
            tasks: vec![task],
            sampling: self.sampling,
            loss: self.loss,
            transfer: self.transfer,
            optimizer: self.optimizer,
            schedule: ScheduleConfig::Finetune(self.schedule, self.stop),
            validation: self.validation,
            checkpoint: self.checkpoint,
            guard: self.guard,
            cache: self.cache,
        })
    }
}
