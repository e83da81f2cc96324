//! Errors by element, by size, and by whether a structure's kind was seen in pre-training.

use std::collections::BTreeMap;

use serde::Serialize;
use shards::batch::HostBatch;
use shards::element;

use crate::checkpoint::TaskRecord;
use crate::prediction::HostPrediction;

/// Errors over one group of structures or atoms.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GroupErrors {
    /// Structures with a label.
    pub structures: u64,
    /// Mean |error| of the energy, eV, or of the property in its told unit; of classes the share of wrong ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// Atoms with forces.
    #[serde(skip_serializing_if = "is_zero")]
    pub atoms: u64,
    /// Mean |error| of their force components, eV/Å.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_mae: Option<f64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The errors of a task, broken down.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Breakdown {
    /// By element: labels of structures that hold it, forces on its atoms.
    pub by_element: BTreeMap<String, GroupErrors>,
    /// By number of atoms, in bins that double: 1, 2, 3–4, 5–8, …
    pub by_size: BTreeMap<String, GroupErrors>,
    /// By the mask, where one is given: `overlapping`, `non_overlapping`, `combined`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_overlap: BTreeMap<String, GroupErrors>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    structures: u64,
    absolute: f64,
    atoms: u64,
    force: f64,
}

/// What a breakdown is made of, over any number of batches of one task.
#[derive(Debug)]
pub struct BreakdownSums<'a> {
    record: &'a TaskRecord,
    mask: Option<&'a BTreeMap<String, bool>>,
    elements: BTreeMap<u8, Sums>,
    sizes: BTreeMap<u32, Sums>,
    overlaps: BTreeMap<&'static str, Sums>,
}

impl<'a> BreakdownSums<'a> {
    /// Nothing yet. `mask` tells of each id whether it overlaps.
    pub fn new(record: &'a TaskRecord, mask: Option<&'a BTreeMap<String, bool>>) -> Self {
        Self { record, mask, elements: BTreeMap::new(), sizes: BTreeMap::new(), overlaps: BTreeMap::new() }
    }

    /// Takes in the predictions for a batch.
    ///
    /// # Errors
    /// The id of a structure that the mask does not hold.
    pub fn observe(&mut self, batch: &HostBatch, prediction: &HostPrediction) -> Result<(), String> {
        let mut start = 0;
        for (g, natoms) in batch.natoms.iter().enumerate() {
            let atoms = start..start + *natoms as usize;
            start = atoms.end;
            let has_error = batch.has_energy[g] && self.record.has_value();
            let error = has_error.then(|| self.label_error(prediction.energy[g], batch.energy[g]));
            let forces = prediction.forces.as_ref().filter(|_| batch.has_forces[g]);
            let of_atom = |atom: usize| -> f64 {
                let Some(forces) = forces else { return 0.0 };
                let components = 3 * atom..3 * atom + 3;
                components.map(|k| (forces[k] - batch.forces[k]).abs()).sum::<f64>()
                    * self.record.transform.force_std
            };
            let mut whole = Sums { structures: 1, absolute: error.unwrap_or(0.0), ..Sums::default() };
            whole.structures = u64::from(error.is_some());
            let mut by_element: BTreeMap<u8, Sums> = BTreeMap::new();
            for atom in atoms {
                let sums = by_element.entry(batch.atomic_numbers[atom]).or_insert(whole);
                if forces.is_some() {
                    sums.atoms += 1;
                    sums.force += of_atom(atom);
                }
            }
            whole.atoms = by_element.values().map(|s| s.atoms).sum();
            whole.force = by_element.values().map(|s| s.force).sum();
            by_element.into_iter().for_each(|(z, sums)| self.elements.entry(z).or_default().add(sums));
            self.sizes.entry(natoms.next_power_of_two()).or_default().add(whole);
            if let Some(mask) = self.mask {
                let id = &batch.ids[g];
                let overlaps = mask.get(id).ok_or_else(|| id.clone())?;
                let name = if *overlaps { "overlapping" } else { "non_overlapping" };
                self.overlaps.entry(name).or_default().add(whole);
                self.overlaps.entry("combined").or_default().add(whole);
            }
        }
        Ok(())
    }

    /// |error| of one label as it is told.
    fn label_error(&self, output: f64, label: f64) -> f64 {
        match &self.record.scalar {
            Some(target) if target.is_class() => f64::from(u8::from((output > 0.0) != (label > 0.5))),
            Some(target) => ((output - label) * self.record.transform.std * target.factor).abs(),
            None => ((output - label) * self.record.transform.std).abs(),
        }
    }

    /// The errors so far.
    pub fn finish(self) -> Breakdown {
        let size = |bin: u32| if bin <= 2 { bin.to_string() } else { format!("{}-{bin}", bin / 2 + 1) };
        Breakdown {
            by_element: self
                .elements
                .iter()
                .map(|(z, s)| (element::symbol(*z).to_owned(), s.mean()))
                .collect(),
            by_size: self.sizes.iter().map(|(bin, s)| (size(*bin), s.mean())).collect(),
            by_overlap: self.overlaps.iter().map(|(name, s)| ((*name).to_owned(), s.mean())).collect(),
        }
    }
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.structures += other.structures;
        self.absolute += other.absolute;
        self.atoms += other.atoms;
        self.force += other.force;
    }

    fn mean(&self) -> GroupErrors {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        GroupErrors {
            structures: self.structures,
            mae: mean(self.absolute, self.structures),
            atoms: self.atoms,
            force_mae: mean(self.force, 3 * self.atoms),
        }
    }
}
