//! Errors in physical units, micro-averaged: energies by structure, forces by component.

use serde::{Deserialize, Serialize};
use shards::batch::HostBatch;
use shards::targets::TargetTransform;

use crate::diverged::Diverged;
use crate::prediction::HostPrediction;
use crate::scalar::ScalarErrors;

/// Sums of errors over any number of batches of one task. Parts can be added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorSums {
    energies: u64,
    #[serde(with = "bits")]
    energy: f64,
    #[serde(with = "bits")]
    energy_per_atom: f64,
    within: u64,
    limit: Option<f64>,
    components: u64,
    #[serde(with = "bits")]
    force: f64,
    atoms: u64,
    #[serde(with = "bits")]
    cosine: f64,
    #[serde(with = "bits")]
    zero_force: f64,
}

/// Numbers between ranks: all bits, which decimal digits need not keep.
pub(crate) mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.to_bits().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

/// Mean errors of one task. Absent where nothing was labelled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// Structures with an energy or the property.
    pub structures: u64,
    /// Mean |error| of the total energy, eV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_mae: Option<f64>,
    /// Mean |error| of the energy divided by the number of atoms, eV.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_mae_per_atom: Option<f64>,
    /// Share of energies closer than the limit asked for ("energy within threshold").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_within: Option<f64>,
    /// Atoms whose forces were compared.
    pub atoms: u64,
    /// Mean |error| over force components, eV/Å.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_mae: Option<f64>,
    /// Mean cosine between predicted and true force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_cosine: Option<f64>,
    /// What `force_mae` would be for a model that always predicts zero, eV/Å.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_mae_of_zero: Option<f64>,
    /// Of the property that is learnt in place of energies and forces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<ScalarErrors>,
    /// Structures with a prediction that is not finite; none of the means is over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_finite: Option<Diverged>,
}

impl Errors {
    /// Without those of energies.
    #[must_use]
    pub fn without_energies(self) -> Self {
        Self { energy_mae: None, energy_mae_per_atom: None, energy_within: None, ..self }
    }
}

/// Errors of several tasks.
#[derive(Debug, Clone)]
pub struct Metrics {
    sums: Vec<ErrorSums>,
    transforms: Vec<TargetTransform>,
    free_atoms_only: bool,
}

impl Metrics {
    /// No errors yet. `free_atoms_only` leaves fixed atoms out, as pre-training's validation does.
    pub fn new(transforms: &[TargetTransform], free_atoms_only: bool) -> Self {
        Self {
            sums: vec![ErrorSums::default(); transforms.len()],
            transforms: transforms.to_vec(),
            free_atoms_only,
        }
    }

    /// Also tells, for the tasks that have a limit, eV, the share of energies closer than it.
    #[must_use]
    pub fn telling_within(mut self, limits: &[Option<f64>]) -> Self {
        for (sums, limit) in self.sums.iter_mut().zip(limits) {
            sums.limit = *limit;
        }
        self
    }

    /// Takes in the predictions for a batch.
    pub fn observe(&mut self, batch: &HostBatch, prediction: &HostPrediction) {
        let mut start = 0;
        for (g, natoms) in batch.natoms.iter().enumerate() {
            let end = start + *natoms as usize;
            let task = batch.task[g] as usize;
            let (sums, transform) = (&mut self.sums[task], &self.transforms[task]);
            if batch.has_energy[g] {
                let error = (prediction.energy[g] - batch.energy[g]) * transform.std;
                sums.add_energy(error, f64::from(*natoms));
            }
            if let Some(forces) = prediction.forces.as_ref().filter(|_| batch.has_forces[g]) {
                for atom in (start..end).filter(|&a| !(self.free_atoms_only && batch.fixed[a])) {
                    let vector = |flat: &[f64]| [0, 1, 2].map(|k| flat[3 * atom + k] * transform.force_std);
                    sums.add_force(vector(forces), vector(&batch.forces));
                }
            }
            start = end;
        }
    }

    /// The sums of each task so far.
    pub fn sums(&self) -> &[ErrorSums] {
        &self.sums
    }

    /// The errors of each task so far.
    pub fn errors(&self) -> Vec<Errors> {
        self.sums.iter().map(ErrorSums::mean).collect()
    }
}

impl Errors {
    /// The errors that are known, by the names they have in `metrics.jsonl`.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let all = [
            ("energy_mae", self.energy_mae),
            ("energy_mae_per_atom", self.energy_mae_per_atom),
            ("energy_within", self.energy_within),
            ("force_mae", self.force_mae),
            ("force_cosine", self.force_cosine),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl ErrorSums {
    /// Takes in one energy, eV.
    pub fn add_energy(&mut self, error: f64, natoms: f64) {
        self.energies += 1;
        self.energy += error.abs();
        self.energy_per_atom += error.abs() / natoms;
        self.within += u64::from(self.limit.is_some_and(|limit| error.abs() < limit));
    }

    /// Takes in the force on one atom, eV/Å.
    pub fn add_force(&mut self, predicted: [f64; 3], truth: [f64; 3]) {
        let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let absolute = |v: [f64; 3]| v[0].abs() + v[1].abs() + v[2].abs();
        let error = [0, 1, 2].map(|k| predicted[k] - truth[k]);
        self.components += 3;
        self.force += absolute(error);
        self.zero_force += absolute(truth);
        self.atoms += 1;
        let norms = (dot(predicted, predicted) * dot(truth, truth)).sqrt();
        // A vanishing force has no direction; it counts as orthogonal.
        self.cosine += if norms > 0.0 { dot(predicted, truth) / norms } else { 0.0 };
    }

    /// Takes in what another took in.
    pub fn add(&mut self, other: &Self) {
        self.energies += other.energies;
        self.energy += other.energy;
        self.energy_per_atom += other.energy_per_atom;
        self.within += other.within;
        self.components += other.components;
        self.force += other.force;
        self.atoms += other.atoms;
        self.cosine += other.cosine;
        self.zero_force += other.zero_force;
    }

    /// Means over what was taken in.
    pub fn mean(&self) -> Errors {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        Errors {
            structures: self.energies,
            energy_mae: mean(self.energy, self.energies),
            energy_mae_per_atom: mean(self.energy_per_atom, self.energies),
            energy_within: self.limit.and_then(|_| mean(self.within as f64, self.energies)),
            atoms: self.atoms,
            force_mae: mean(self.force, self.components),
            force_cosine: mean(self.cosine, self.atoms),
            force_mae_of_zero: mean(self.zero_force, self.components),
            scalar: None,
            not_finite: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forces_are_averaged_by_component_not_by_structure() {
        let mut sums = ErrorSums::default();
        sums.add_force([1.0, 0.0, 0.0], [0.0, 0.0, 0.0]);
        sums.add_force([2.0, 0.0, 0.0], [2.0, 0.0, 0.0]);
        sums.add_force([0.0, 1.0, 0.0], [1.0, 0.0, 0.0]);
        let errors = sums.mean();
        assert_eq!(errors.force_mae, Some(3.0 / 9.0));
        assert_eq!(errors.force_cosine, Some(1.0 / 3.0));
        assert_eq!(errors.force_mae_of_zero, Some(3.0 / 9.0));
        assert_eq!(errors.energy_mae, None);
    }

    #[test]
    fn energies_are_totals() {
        let mut sums = ErrorSums { limit: Some(0.02), ..ErrorSums::default() };
        sums.add_energy(-0.01, 2.0);
        sums.add_energy(0.5, 10.0);
        let errors = sums.mean();
        assert_eq!(errors.energy_mae, Some(0.255));
        assert_eq!(errors.energy_mae_per_atom, Some(0.0275));
        assert_eq!(errors.energy_within, Some(0.5));
        assert_eq!(ErrorSums { limit: None, ..sums }.mean().energy_within, None);
    }
}
