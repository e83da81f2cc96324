//! One task of a model, and what its outputs mean.

use std::path::Path;

use shards::manifest::Manifest;
use shards::targets::TargetTransform;
use thiserror::Error;

use super::prepared::collate;
use super::{Model, Prepared, Rule};
use crate::checkpoint::{CheckpointError, TaskRecord};
use crate::config::ForceMode;
use crate::guard::{self, Refusal};

/// What a model says of one structure.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    /// The label's value: eV for an energy. `None` of a model without energies.
    pub value: Option<f64>,
    /// Forces, flat `[3n]`, eV/Å.
    pub forces: Option<Vec<f64>>,
}

/// A structure on which a model diverges.
#[derive(Debug, Clone, PartialEq, Error)]
#[error(
    "the model's {what} is {value}; the structure is far from what it was trained on, or the weights are damaged"
)]
pub struct NonFinite {
    /// `energy`, for example.
    pub what: String,
    /// NaN or infinite.
    pub value: f64,
}

/// Why a batch is not computed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is not enough memory for it.
    #[error(
        "out of memory for {structures} structures of {atoms} atoms and {edges} edges in all: {advice} ({told})"
    )]
    OutOfMemory {
        /// In the batch.
        structures: usize,
        /// Of all of them.
        atoms: usize,
        /// Of the main graphs of all of them.
        edges: usize,
        /// What may help.
        advice: &'static str,
        /// libtorch's words.
        told: String,
    },
    /// libtorch refuses.
    #[error("libtorch")]
    Torch(#[from] tch::TchError),
}

impl Refused {
    pub(super) fn of<'p>(refusal: Refusal, batch: impl Iterator<Item = &'p Prepared> + Clone) -> Self {
        match refusal {
            Refusal::Torch(error) => Self::Torch(error),
            Refusal::Memory(told) => {
                let structures = batch.clone().count();
                Self::OutOfMemory {
                    structures,
                    atoms: batch.clone().map(|p| p.numbers.len()).sum(),
                    edges: batch.map(|p| p.graph.main.len()).sum(),
                    advice: if structures > 1 {
                        "a smaller --batch-atoms or --batch-size takes less"
                    } else {
                        "one structure cannot be divided; another machine or device may have more"
                    },
                    told,
                }
            }
        }
    }
}

/// The transform of a task, with its energies settled where an evaluation has done it.
fn settled(record: &TaskRecord) -> TargetTransform {
    let mut transform = record.transform.clone();
    transform.mean += record.energy_shift.unwrap_or(0.0);
    transform
}

/// A model that answers for one of its tasks.
#[derive(Debug)]
pub struct Predictor {
    model: Model,
    task: usize,
    rule: Rule,
    label: String,
}

impl Predictor {
    /// The task `name`, or the only one. References and scales are the checkpoint's; an imported model, which has none,
    /// needs `statistics`: a dataset's directory and a split of it.
    ///
    /// # Errors
    /// No such task, several and no name, or no references.
    pub fn new(model: Model, name: Option<&str>, statistics: Option<(&Path, &str)>) -> anyhow::Result<Self> {
        let refused = |problem: String| CheckpointError::content(&model.path, problem);
        let task = chosen(&model, name).map_err(refused)?;
        let record = &model.info.tasks[task];
        let rule = match (statistics, &model.info.origin) {
            (Some(_), None) => {
                let problem = "--statistics is for imported models; the scales, references and graphs of this one are those \
                               that it was trained with";
                return Err(refused(problem.to_owned()).into());
            }
            (Some((dir, split)), Some(_)) => {
                let manifest = Manifest::read(dir)?;
                let mut transform =
                    TargetTransform::of_label(&manifest, dir, split, &record.transform.label)?;
                if record.forces == ForceMode::Gradient {
                    transform.std = transform.force_std;
                }
                Rule { graph: manifest.layout.graph, transform }
            }
            (None, None) => Rule { graph: record.graph, transform: settled(record) },
            (None, Some(_)) => {
                let problem = "an imported model, which brings no references and scales of its labels; name the \
                               dataset's directory that has them with --statistics DIR, or fine-tune it first";
                return Err(refused(problem.to_owned()).into());
            }
        };
        let label = rule.transform.label.clone();
        Ok(Self { model, task, rule, label })
    }

    /// How structures are prepared for it.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Name of the task.
    pub fn task(&self) -> &str {
        &self.model.info.tasks[self.task].name
    }

    /// Name of what is predicted: `energy`, or a scalar property's.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether the label is predicted: not the energy by a head that was never trained.
    pub fn has_value(&self) -> bool {
        self.record().has_value()
    }

    /// Whether forces are predicted too.
    pub fn has_forces(&self) -> bool {
        self.record().has_forces()
    }

    fn record(&self) -> &TaskRecord {
        &self.model.info.tasks[self.task]
    }

    /// What a user of its numbers must know.
    pub fn note(&self) -> Option<String> {
        let TaskRecord { name, energy_weight, .. } = self.record();
        if !self.has_value() {
            return Some(format!(
                "task `{name}` was trained on forces alone, by a head of their own: it has no energies"
            ));
        }
        (*energy_weight == 0.0 && self.has_forces()).then(|| {
            let energies = if self.record().energy_shift.is_some() {
                "settled by one constant, so that their mean error on its training split vanishes"
            } else {
                "right up to a constant, which `jmp-train evaluate` finds and keeps in the checkpoint"
            };
            format!("task `{name}` was trained on forces alone: its energies are {energies}")
        })
    }

    /// Predictions of a batch, in its order, in physical units; those that are not finite are refused one by one.
    ///
    /// # Errors
    /// There is too little memory for it, or libtorch refuses it.
    pub fn predict<'p>(
        &self,
        batch: impl Iterator<Item = &'p Prepared> + Clone,
    ) -> Result<Vec<Result<Predicted, NonFinite>>, Refused> {
        let network = &self.model.network;
        let on = (network.store().kind(), network.store().device());
        let work = || network.forward(&collate(batch.clone(), self.task, on), false).to_host();
        let outputs = guard::out_of_memory(work).map_err(|refusal| Refused::of(refusal, batch.clone()))?;
        let transform = &self.rule.transform;
        let is_class = self.record().class_weight().is_some();
        let mut first = 0;
        let mut predicted = Vec::with_capacity(outputs.energy.len());
        for (prepared, normalised) in batch.zip(&outputs.energy) {
            let components = first..first + 3 * prepared.numbers.len();
            first = components.end;
            let value = if is_class {
                1.0 / (1.0 + (-normalised).exp())
            } else {
                prepared.offset + transform.std * normalised
            };
            let scaled =
                |f: &Vec<f64>| f[components.clone()].iter().map(|f| f * transform.force_std).collect();
            let forces: Option<Vec<f64>> = outputs.forces.as_ref().filter(|_| self.has_forces()).map(scaled);
            let value = self.has_value().then_some(value);
            predicted.push(self.finite(Predicted { value, forces }));
        }
        Ok(predicted)
    }

    fn finite(&self, predicted: Predicted) -> Result<Predicted, NonFinite> {
        let forces = predicted.forces.iter().flatten().map(|f| ("force", *f));
        let mut all = predicted.value.iter().map(|value| (self.label.as_str(), *value)).chain(forces);
        match all.find(|(_, value)| !value.is_finite()) {
            Some((what, value)) => Err(NonFinite { what: what.to_owned(), value }),
            None => Ok(predicted),
        }
    }
}

fn chosen(model: &Model, name: Option<&str>) -> Result<usize, String> {
    let tasks = &model.info.tasks;
    let known = || tasks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => tasks
            .iter()
            .position(|t| t.name == name)
            .ok_or_else(|| format!("no task `{name}`; the model has {}", known())),
        None if tasks.len() == 1 => Ok(0),
        None if tasks.is_empty() => Err("the model has no heads; fine-tune it first".to_owned()),
        None => Err(format!("a model of several tasks; choose one with --task: {}", known())),
    }
}
