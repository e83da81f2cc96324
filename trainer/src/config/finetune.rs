//! A fine-tuning configuration as it stands in the file.

use serde::{Deserialize, Serialize};

use super::cache::CacheSection;
use super::model::ModelSection;
use super::number::NonNegative;
use super::sections::{
    CheckpointSection, DatasetSection, FinetuneSchedule, GuardSection, LossSection, OptimizerSection,
    RunSection, SamplingSection, StopSection, ValidationSection,
};
use super::source::{ConfigError, Source};
use super::{Config, ForceMode, RunKind, ScheduleConfig, TaskConfig};

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

/// `[heads]`: what is predicted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HeadsSection {
    /// How forces come about.
    forces: ForceMode,
}

impl FinetuneFile {
    /// The meaning of the file.
    pub(super) fn validate(self, source: &Source) -> Result<Config, ConfigError> {
        let data = self.dataset.clone();
        let task = TaskConfig {
            energy_weight: data.energy_weight.map_or(1.0, NonNegative::get),
            force_weight: Some(data.force_weight.map_or(1.0, NonNegative::get)),
            forces: self.heads.forces,
            data,
        };
        super::check_tasks(std::slice::from_ref(&task), source)?;
        super::check_model(&self.model, [task.forces], source)?;
        super::check_run(&self.run, source)?;
        if self.loss.pcgrad.is_some() {
            return Err(source.conflict("loss.pcgrad", "nothing: one task has no conflicts", "a value"));
        }
        super::check_temperature(self.sampling.temperature, source)?;
        let schedule = &self.schedule;
        if schedule.cosine_epochs > 0 && schedule.cosine_epochs <= schedule.warmup_epochs {
            return Err(source.conflict(
                "schedule.cosine_epochs",
                "an epoch after the warm-up's last (both count from the start), or 0 for no cosine",
                &schedule.cosine_epochs.to_string(),
            ));
        }
        if schedule.plateau.is_some() && task.data.val.is_none() {
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
            optimizer: self.optimizer,
            schedule: ScheduleConfig::Finetune(self.schedule, self.stop),
            validation: self.validation,
            checkpoint: self.checkpoint,
            guard: self.guard,
            cache: self.cache,
        })
    }
}
