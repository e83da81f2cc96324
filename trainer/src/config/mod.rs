//! Configuration: TOML as written → valid, once. A [`Config`] that exists needs no further checks of its own.

pub mod ablation;
pub mod cache;
mod difference;
mod extends;
mod finetune;
pub mod model;
pub mod number;
mod pretrain;
pub mod sections;
mod source;
mod step;
mod template;

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::heads::Pooling;
use crate::scalar::ScalarLoss;

pub use difference::differences;
pub use source::{ConfigError, Source};
pub use step::StepConfig;

use self::cache::CacheSection;
use self::model::ModelSection;
use self::sections::{
    CheckpointSection, DatasetSection, FinetuneSchedule, GuardSection, LossSection, OptimizerSection,
    PretrainSchedule, RunSection, SamplingSection, StopSection, TransferSection, ValidationSection,
};

/// Which command a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// `jmp-train pretrain`.
    Pretrain,
    /// `jmp-train finetune` and `evaluate`.
    Finetune,
}

impl RunKind {
    /// As written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Finetune => "finetune",
        }
    }
}

/// How a model comes to forces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForceMode {
    /// `−∂E/∂r` by differentiating the energy.
    #[default]
    Gradient,
    /// A head of its own.
    Direct,
    /// Energies only.
    None,
}

/// One dataset and what is learnt from it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    /// Where the data is and how labels are normalised.
    pub data: DatasetSection,
    /// λ_E.
    pub energy_weight: f64,
    /// λ_F; `None` stands for the mean number of atoms of the training split.
    pub force_weight: Option<f64>,
    /// How forces come about.
    pub forces: ForceMode,
    /// Whether a single energy head has biases.
    pub head_bias: bool,
    /// A property to be learnt in place of energies and forces.
    pub scalar: Option<ScalarConfig>,
}

/// A scalar property of a dataset as a configuration asks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalarConfig {
    /// Column of the dataset.
    pub target: String,
    /// How atoms' numbers become the structure's.
    pub pooling: Pooling,
    /// What is made small.
    pub loss: ScalarLoss,
    /// Dropout before the head.
    pub dropout: f64,
    /// Unit in which errors are told; the column's own when absent.
    pub unit: Option<String>,
    /// Mean that is subtracted; the training split's when absent.
    pub mean: Option<f64>,
    /// Scale; the training split's when absent.
    pub std: Option<f64>,
}

/// Length and learning rates of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleConfig {
    /// Warm-up and cosine over the temperature-expanded set.
    Pretrain(PretrainSchedule),
    /// Warm-up, cosine, plateau; stopped by whichever rule comes first.
    Finetune(FinetuneSchedule, StopSection),
}

/// A valid configuration of either kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which command it is for.
    pub kind: RunKind,
    /// `[run]`.
    pub run: RunSection,
    /// `[model]`.
    pub model: ModelSection,
    /// The datasets, in the order that numbers the tasks.
    pub tasks: Vec<TaskConfig>,
    /// `[sampling]`.
    pub sampling: SamplingSection,
    /// `[loss]`.
    pub loss: LossSection,
    /// `[transfer]`.
    pub transfer: TransferSection,
    /// `[optimizer]`.
    pub optimizer: OptimizerSection,
    /// `[schedule]` and `[stop]`.
    pub schedule: ScheduleConfig,
    /// `[validation]`.
    pub validation: ValidationSection,
    /// `[checkpoint]`.
    pub checkpoint: CheckpointSection,
    /// `[guard]`.
    pub guard: GuardSection,
    /// `[cache]`.
    pub cache: CacheSection,
    /// The whole configuration as TOML, overrides and defaults included: what a run directory keeps.
    pub text: String,
}

#[derive(Deserialize)]
struct KindOnly {
    kind: RunKind,
}

impl Config {
    /// Reads a configuration of any kind.
    pub fn read(file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        Self::from_source(&Source::read(file, overrides)?)
    }

    /// Reads a configuration that must be of the given kind.
    pub fn read_kind(file: &Path, overrides: &[String], kind: RunKind) -> Result<Self, ConfigError> {
        let config = Self::read(file, overrides)?;
        if config.kind == kind {
            return Ok(config);
        }
        let (expected, found) = (kind.name().to_owned(), config.kind.name().to_owned());
        Err(ConfigError::Kind { file: file.to_path_buf(), expected, found })
    }

    /// The meaning of a configuration's text.
    pub fn from_source(source: &Source) -> Result<Self, ConfigError> {
        match source.parse::<KindOnly>()?.kind {
            RunKind::Pretrain => source.parse::<pretrain::PretrainFile>()?.validate(source),
            RunKind::Finetune => source.parse::<finetune::FinetuneFile>()?.validate(source),
        }
    }
}

/// Names must be unique and there must be something to learn.
fn check_tasks(tasks: &[TaskConfig], source: &Source) -> Result<(), ConfigError> {
    if tasks.is_empty() {
        return Err(source.conflict("dataset", "at least one [[dataset]]", "none"));
    }
    let mut names = BTreeSet::new();
    for task in tasks {
        let name = &task.data.name;
        if name.is_empty() || name.contains(['.', '/', ' ']) {
            return Err(source.conflict("dataset.name", "letters, digits, - and _", &format!("\"{name}\"")));
        }
        if !names.insert(name) {
            return Err(source.conflict(
                "dataset.name",
                "a different name for each dataset",
                &format!("\"{name}\" twice"),
            ));
        }
        let no_forces = task.forces == ForceMode::None || task.force_weight == Some(0.0);
        if task.energy_weight == 0.0 && no_forces {
            return Err(source.conflict(
                "dataset.energy_weight",
                "a weight above 0, or forces to learn from",
                "0",
            ));
        }
    }
    Ok(())
}

/// Blocks that run again must compute the same twice, and have first derivatives only.
fn check_model(
    model: &ModelSection,
    forces: impl IntoIterator<Item = ForceMode>,
    source: &Source,
) -> Result<(), ConfigError> {
    if !model.recompute {
        return Ok(());
    }
    if model.dropout.is_some_and(|share| share.get() > 0.0) {
        return Err(source.conflict("model.recompute", "false with model.dropout", "true"));
    }
    if forces.into_iter().any(|forces| forces == ForceMode::Gradient) {
        return Err(source.conflict("model.recompute", "false with gradient forces", "true"));
    }
    Ok(())
}

/// The device must have a name that is understood; metrics are shown to this machine alone.
fn check_run(run: &RunSection, source: &Source) -> Result<(), ConfigError> {
    if let Some(address) = run.prometheus.filter(|address| !address.ip().is_loopback()) {
        let expected = "an address of this machine alone, such as \"127.0.0.1:9464\"";
        return Err(source.conflict("run.prometheus", expected, &format!("\"{address}\"")));
    }
    if crate::parameters::device(&run.device).is_some() {
        return Ok(());
    }
    Err(source.conflict("run.device", "auto, cpu, cuda or cuda:N", &format!("\"{}\"", run.device)))
}

fn check_temperature(temperature: f64, source: &Source) -> Result<(), ConfigError> {
    // Infinity is allowed: it mixes evenly.
    if temperature > 0.0 {
        return Ok(());
    }
    Err(source.conflict("sampling.temperature", "a number above 0, or inf", &temperature.to_string()))
}

/// The configuration as TOML, defaults written out.
fn written(file: &impl Serialize, source: &Source) -> Result<String, ConfigError> {
    toml::to_string(file).map_err(|e| source.refused(e.to_string()))
}
