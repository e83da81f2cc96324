//! What a global batch amounts to, known to every rank from the plan.

use serde::Serialize;

use super::sequence::Sample;
use super::sizes::RowSize;

/// Counts over structures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Structures.
    pub structures: u64,
    /// Their atoms.
    pub atoms: u64,
    /// Structures with an energy.
    pub energies: u64,
    /// Structures with forces.
    pub forces: u64,
    /// Atoms of structures with forces.
    pub force_atoms: u64,
    /// Those of them that are not held in place; `force_atoms` unless
    /// [`StreamConfig::count_free_atoms`](super::StreamConfig::count_free_atoms) asks for the difference.
    pub free_force_atoms: u64,
}

/// What a whole global batch holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Micro-batches that are not empty.
    pub micro_batches: u32,
    /// Over all tasks.
    pub all: Tally,
    /// By task.
    pub tasks: Vec<Tally>,
}

impl Tally {
    pub(super) fn add(&mut self, size: RowSize) {
        let (atoms, forces) = (u64::from(size.atoms), u64::from(size.forces));
        self.structures += 1;
        self.atoms += atoms;
        self.energies += u64::from(size.energy);
        self.forces += forces;
        self.force_atoms += forces * atoms;
        self.free_force_atoms += forces * u64::from(size.free);
    }
}

impl Totals {
    pub(super) fn of(parts: &[Vec<Sample>], tasks: usize) -> Self {
        let mut totals = Self { tasks: vec![Tally::default(); tasks], ..Self::default() };
        for part in parts.iter().filter(|part| !part.is_empty()) {
            totals.micro_batches += 1;
            for sample in part {
                totals.all.add(sample.size);
                totals.tasks[sample.task as usize].add(sample.size);
            }
        }
        totals
    }
}
