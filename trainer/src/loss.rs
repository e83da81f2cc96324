//! The joint loss of eq. 1: errors of energies and forces in normalised units, weighed by λ of their dataset.
//!
//! Sums are divided by the *global* batch's counts, which come from outside: any number of ranks and micro-batches then
//! gives the gradient of one big batch.

use shards::batch::HostBatch;
use tch::{Kind, Tensor};

use crate::batch::Batch;
use crate::config::sections::{LossSection, Reduction};
use crate::prediction::Prediction;

/// Added to each component of a force error inside the norm, as PyTorch's `pairwise_distance` does.
const DISTANCE_EPS: f64 = 1e-6;

/// What the sums of a step are divided by: counts over all ranks and micro-batches.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LossCounts {
    /// Structures with an energy.
    pub energies: f64,
    /// Structures with forces, or atoms that take part when atoms are averaged alike.
    pub forces: f64,
}

impl LossCounts {
    /// Adds the counts of another part of the same step.
    pub fn add(&mut self, other: Self) {
        self.energies += other.energies;
        self.forces += other.forces;
    }
}

/// Sums of weighed errors by task, and what they are means over; for logs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskSums {
    /// Σ λ_E·|error| by task.
    pub energy: Vec<f64>,
    /// Structures with an energy by task.
    pub energies: Vec<f64>,
    /// Σ λ_F·‖error‖, reduced as configured, by task.
    pub forces: Vec<f64>,
    /// What the forces' sum is a mean over, by task.
    pub force_counts: Vec<f64>,
}

impl TaskSums {
    /// Adds the sums of another part of the same step.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.energy, &other.energy),
            (&mut self.energies, &other.energies),
            (&mut self.forces, &other.forces),
            (&mut self.force_counts, &other.force_counts),
        ];
        for (mine, theirs) in pairs {
            mine.resize(theirs.len(), 0.0);
            mine.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
    }

    /// Mean energy loss of a task; 0 without a structure of it.
    pub fn energy_mean(&self, task: usize) -> f64 {
        self.energy[task] / self.energies[task].max(1.0)
    }

    /// Mean force loss of a task; 0 without a structure of it.
    pub fn force_mean(&self, task: usize) -> f64 {
        self.forces[task] / self.force_counts[task].max(1.0)
    }
}

/// A loss ready for its backward pass.
#[derive(Debug)]
pub struct LossTerms {
    /// Energy and force loss, a scalar.
    pub total: Tensor,
    energy: Tensor,
    energies: Tensor,
    forces: Tensor,
    force_counts: Tensor,
}

impl LossTerms {
    /// The parts by task, on the host.
    pub fn task_sums(&self) -> TaskSums {
        let host = |t: &Tensor| Vec::<f64>::try_from(t.to_kind(Kind::Double)).unwrap_or_default();
        TaskSums {
            energy: host(&self.energy),
            energies: host(&self.energies),
            forces: host(&self.forces),
            force_counts: host(&self.force_counts),
        }
    }
}

/// Eq. 1 with the λ of each task.
#[derive(Debug)]
pub struct Loss {
    rule: LossSection,
    energy_weights: Tensor,
    force_weights: Tensor,
    tasks: i64,
    class_weight: Option<f64>,
}

impl Loss {
    /// The loss for tasks with these λ_E and λ_F, for predictions like `example`.
    pub fn new(rule: LossSection, energy_weights: &[f64], force_weights: &[f64], example: &Tensor) -> Self {
        let place =
            |weights: &[f64]| Tensor::from_slice(weights).to_device(example.device()).to_kind(example.kind());
        Self {
            rule,
            energy_weights: place(energy_weights),
            force_weights: place(force_weights),
            tasks: energy_weights.len() as i64,
            class_weight: None,
        }
    }

    /// The same for labels that are classes, 0 or 1, and predictions that are logits: cross-entropies in place of errors,
    /// those of class 1 times `weight`.
    #[must_use]
    pub fn of_classes(self, weight: f64) -> Self {
        Self { class_weight: Some(weight), ..self }
    }

    /// What this batch adds to the counts of its step.
    pub fn counts(&self, batch: &HostBatch) -> LossCounts {
        let labelled = |has: &[bool]| has.iter().filter(|&&has| has).count() as f64;
        let forces = match self.rule.reduction {
            Reduction::Structure => labelled(&batch.has_forces),
            Reduction::Atom => {
                let mut start = 0;
                let mut atoms = 0;
                for (n, has) in batch.natoms.iter().zip(&batch.has_forces) {
                    let end = start + *n as usize;
                    let taken =
                        batch.fixed[start..end].iter().filter(|f| !(self.rule.free_atoms_only && **f));
                    atoms += if *has { taken.count() } else { 0 };
                    start = end;
                }
                atoms as f64
            }
        };
        LossCounts { energies: labelled(&batch.has_energy), forces }
    }

    /// The loss of one micro-batch of a step whose counts are `counts`; `task` holds the task of each structure.
    pub fn of(&self, prediction: &Prediction, batch: &Batch, task: &[u32], counts: LossCounts) -> LossTerms {
        let task: Vec<i64> = task.iter().map(|t| i64::from(*t)).collect();
        let task = Tensor::from_slice(&task).to_device(self.energy_weights.device());
        let (energy, has_energy) = self.energy_errors(prediction, batch, &task);
        let (forces, force_counts) = self.force_errors(prediction, batch, &task);
        let kind = energy.kind();
        let total = energy.sum(kind) / counts.energies.max(1.0) + forces.sum(kind) / counts.forces.max(1.0);
        let by_task = |values: &Tensor| {
            let zeros = Tensor::zeros([self.tasks], (values.kind(), values.device()));
            zeros.index_add(0, &task, &values.detach())
        };
        LossTerms {
            total,
            energy: by_task(&energy),
            energies: by_task(&has_energy),
            forces: by_task(&forces),
            force_counts: by_task(&force_counts),
        }
    }

    /// λ_E·|error| and whether there is one, each `[g]`.
    fn energy_errors(&self, prediction: &Prediction, batch: &Batch, task: &Tensor) -> (Tensor, Tensor) {
        let weight = self.energy_weights.index_select(0, task);
        let has = batch.labels.has_energy.shallow_clone();
        let (output, label) = (&prediction.energy, &batch.labels.energy);
        let error = match self.class_weight {
            None => (output - label).abs(),
            // −w·y·ln σ(x) − (1 − y)·ln(1 − σ(x))
            Some(w) => label * w * (-output).softplus() + (1.0 - label) * output.softplus(),
        };
        (error * weight * &has, has)
    }

    /// λ_F·‖error‖, averaged or summed over the atoms of each structure, and what it counts for, each `[g]`.
    fn force_errors(&self, prediction: &Prediction, batch: &Batch, task: &Tensor) -> (Tensor, Tensor) {
        let weight = self.force_weights.index_select(0, task);
        let (labels, kind) = (&batch.labels, weight.kind());
        let zeros = Tensor::zeros_like(&weight);
        let Some(forces) = &prediction.forces else { return (zeros.shallow_clone(), zeros) };
        let mut taken = labels.has_forces.index_select(0, &batch.structure);
        if self.rule.free_atoms_only {
            taken *= &labels.free;
        }
        let distance =
            (forces - &labels.forces + DISTANCE_EPS).square().sum_dim_intlist(1, false, kind).sqrt();
        let sums = zeros.index_add(0, &batch.structure, &(distance * &taken)) * weight;
        let atoms = zeros.index_add(0, &batch.structure, &taken);
        match self.rule.reduction {
            Reduction::Structure => (sums / atoms.clamp_min(1.0), labels.has_forces.shallow_clone()),
            Reduction::Atom => (sums, atoms),
        }
    }
}
