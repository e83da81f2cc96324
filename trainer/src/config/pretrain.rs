//! A pre-training configuration as it stands in the file.

use serde::{Deserialize, Serialize};

use super::cache::CacheSection;
use super::model::ModelSection;
use super::number::NonNegative;
use super::sections::{
    CheckpointSection, DatasetSection, GuardSection, LossSection, OptimizerSection, PretrainSchedule,
    RunSection, SamplingSection, TransferSection, ValidationSection,
};
use super::source::{ConfigError, Source};
use super::{Config, ForceMode, RunKind, ScheduleConfig, TaskConfig};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PretrainFile {
    kind: RunKind,
    run: RunSection,
    model: ModelSection,
    #[serde(rename = "dataset")]
    datasets: Vec<DatasetSection>,
    sampling: SamplingSection,
    #[serde(default)]
    loss: LossSection,
    optimizer: OptimizerSection,
    schedule: PretrainSchedule,
    #[serde(default)]
    validation: ValidationSection,
    #[serde(default)]
    checkpoint: CheckpointSection,
    #[serde(default)]
    guard: GuardSection,
    #[serde(default)]
    cache: CacheSection,
}

impl PretrainFile {
    /// The meaning of the file.
    pub(super) fn validate(self, source: &Source) -> Result<Config, ConfigError> {
        let task = |data: &DatasetSection| TaskConfig {
            data: data.clone(),
            energy_weight: data.energy_weight.map_or(1.0, NonNegative::get),
            force_weight: data.force_weight.map(NonNegative::get),
            forces: ForceMode::Direct,
            head_bias: false,
            scalar: None,
        };
        let tasks: Vec<TaskConfig> = self.datasets.iter().map(task).collect();
        super::check_tasks(&tasks, source)?;
        super::check_model(&self.model, tasks.iter().map(|task| task.forces), source)?;
        super::check_run(&self.run, source)?;
        if self.loss.pcgrad.is_some() && self.model.recompute {
            return Err(source.conflict("model.recompute", "false with loss.pcgrad", "true"));
        }
        super::check_temperature(self.sampling.temperature, source)?;
        Ok(Config {
            kind: RunKind::Pretrain,
            text: super::written(&self, source)?,
            run: self.run,
            model: self.model,
            tasks,
            sampling: self.sampling,
            loss: self.loss,
            transfer: TransferSection::default(),
            optimizer: self.optimizer,
            schedule: ScheduleConfig::Pretrain(self.schedule),
            validation: self.validation,
            checkpoint: self.checkpoint,
            guard: self.guard,
            cache: self.cache,
        })
    }
}
