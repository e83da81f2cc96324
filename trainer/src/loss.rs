//! The joint loss of eq. 1: errors of energies and forces in normalised units, weighed by λ of their dataset; with
//! margins the threshold loss of eq. 2.
//!
//! Sums are divided by the *global* batch's counts, which come from outside: any number of ranks and micro-batches then
//! gives the gradient of one big batch.

use shards::batch::HostBatch;
use shards::stream::Tally;
use tch::{Kind, Tensor};

use crate::batch::Batch;
use crate::checkpoint::TaskRecord;
use crate::config::sections::{LossSection, Reduction, SurgeryTasks};
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
    /// No sums of this many tasks.
    pub fn zeros(tasks: usize) -> Self {
        let zeros = || vec![0.0; tasks];
        Self { energy: zeros(), energies: zeros(), forces: zeros(), force_counts: zeros() }
    }

    /// All sums.
    pub fn parts_mut(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.energy, &mut self.energies, &mut self.forces, &mut self.force_counts]
    }

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

/// What the errors of one task cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TaskWeights {
    /// λ_E.
    pub energy: f64,
    /// λ_F.
    pub forces: f64,
    /// Smallest error of an energy that costs something, in the task's normalised units; 0: every one does.
    pub energy_margin: f64,
    /// Smallest mean error of the components of a force that costs something, in normalised units.
    pub force_margin: f64,
}

impl TaskWeights {
    /// A task's λ, and its margins as they are after normalising: |error|·std ≥ margin is |error| ≥ margin/std.
    pub fn of(task: &TaskRecord) -> Self {
        Self {
            energy: task.energy_weight,
            forces: task.force_weight,
            energy_margin: task.margins.energy / task.transform.std,
            force_margin: task.margins.forces / task.transform.force_std,
        }
    }
}

/// A loss ready for its backward pass.
#[derive(Debug)]
pub struct LossTerms {
    /// Energy and force loss, a scalar.
    pub total: Tensor,
    counts: LossCounts,
    /// By task, these two with what is needed to differentiate them.
    energy: Tensor,
    energies: Tensor,
    forces: Tensor,
    force_counts: Tensor,
}

impl LossTerms {
    /// The parts by task, on the host.
    pub fn task_sums(&self) -> TaskSums {
        let host = |t: &Tensor| Vec::<f64>::try_from(t.detach().to_kind(Kind::Double)).unwrap_or_default();
        TaskSums {
            energy: host(&self.energy),
            energies: host(&self.energies),
            forces: host(&self.forces),
            force_counts: host(&self.force_counts),
        }
    }

    /// The total in parts, one for each task as `tasks` counts them: datasets, or their energies and then their forces.
    pub fn parts(&self, tasks: SurgeryTasks) -> Vec<Tensor> {
        let energy = &self.energy / self.counts.energies.max(1.0);
        let forces = &self.forces / self.counts.forces.max(1.0);
        match tasks {
            SurgeryTasks::Datasets => (energy + forces).unbind(0),
            SurgeryTasks::Labels => energy.unbind(0).into_iter().chain(forces.unbind(0)).collect(),
        }
    }
}

/// Eq. 1 with the λ of each task.
#[derive(Debug)]
pub struct Loss {
    rule: LossSection,
    energy_weights: Tensor,
    force_weights: Tensor,
    margins: Option<Margins>,
    tasks: i64,
    class_weight: Option<f64>,
}

/// Margins of each task, normalised, `[t]`.
#[derive(Debug)]
struct Margins {
    energy: Tensor,
    forces: Tensor,
}

impl Loss {
    /// The loss for these tasks, for predictions like `example`.
    pub fn new(rule: LossSection, tasks: &[TaskWeights], example: &Tensor) -> Self {
        let place = |of: fn(&TaskWeights) -> f64| {
            let values: Vec<f64> = tasks.iter().map(of).collect();
            Tensor::from_slice(&values).to_device(example.device()).to_kind(example.kind())
        };
        let has_margins = tasks.iter().any(|t| t.energy_margin > 0.0 || t.force_margin > 0.0);
        Self {
            rule,
            energy_weights: place(|t| t.energy),
            force_weights: place(|t| t.forces),
            margins: has_margins
                .then(|| Margins { energy: place(|t| t.energy_margin), forces: place(|t| t.force_margin) }),
            tasks: tasks.len() as i64,
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

    /// What a whole global batch counts, as planned. Needs
    /// [`StreamConfig::count_free_atoms`](shards::stream::StreamConfig::count_free_atoms) where atoms are averaged alike and
    /// fixed ones left out.
    pub fn planned_counts(&self, totals: &Tally) -> LossCounts {
        let forces = match (self.rule.reduction, self.rule.free_atoms_only) {
            (Reduction::Structure, _) => totals.forces,
            (Reduction::Atom, false) => totals.force_atoms,
            (Reduction::Atom, true) => totals.free_force_atoms,
        };
        LossCounts { energies: totals.energies as f64, forces: forces as f64 }
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
            zeros.index_add(0, &task, values)
        };
        LossTerms {
            total,
            counts,
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
        let mut cost = weight * &has;
        if let Some(margins) = &self.margins {
            let matters = error.ge_tensor(&margins.energy.index_select(0, task));
            cost *= matters.to_kind(cost.kind());
        }
        (error * cost, has)
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
        let error = forces - &labels.forces;
        // Atoms within the margin cost nothing, but the mean is over them too.
        let atoms = zeros.index_add(0, &batch.structure, &taken);
        if let Some(margins) = &self.margins {
            let margin = margins.forces.index_select(0, task).index_select(0, &batch.structure);
            let matters = error.detach().abs().mean_dim(1, false, kind).ge_tensor(&margin);
            taken *= matters.to_kind(kind);
        }
        let distance = (error + DISTANCE_EPS).square().sum_dim_intlist(1, false, kind).sqrt();
        let sums = zeros.index_add(0, &batch.structure, &(distance * taken)) * weight;
        match self.rule.reduction {
            Reduction::Structure => (sums / atoms.clamp_min(1.0), labels.has_forces.shallow_clone()),
            Reduction::Atom => (sums, atoms),
        }
    }
}
