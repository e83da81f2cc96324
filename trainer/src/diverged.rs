//! Predictions that are NaN or infinite: which structures have them. They are in no mean, and always told.

use serde::{Deserialize, Serialize};
use shards::batch::HostBatch;

use crate::checkpoint::TaskRecord;
use crate::prediction::HostPrediction;

/// This many structures are named; of an evaluation the file of predictions has them all.
const NAMED: usize = 100;
/// This many are named in a line for people.
const TOLD: usize = 8;

/// Structures on which a model diverges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverged {
    /// How many.
    pub structures: u64,
    /// Ids of the first of them.
    pub ids: Vec<String>,
}

impl Diverged {
    /// Those of a batch, and whether each of its structures is one. Energies that were never trained are not looked at.
    pub fn of(record: &TaskRecord, batch: &HostBatch, prediction: &HostPrediction) -> (Self, Vec<bool>) {
        let mut found = Self::default();
        let mut first = 0;
        let looked_at = batch.natoms.iter().enumerate().map(|(g, natoms)| {
            let components = first..first + 3 * *natoms as usize;
            first = components.end;
            let forces = prediction.forces.as_ref().map_or(&[][..], |forces| &forces[components]);
            let energy = !record.has_value() || prediction.energy[g].is_finite();
            !(energy && forces.iter().all(|f| f.is_finite()))
        });
        let diverged: Vec<bool> = looked_at.collect();
        for (id, _) in batch.ids.iter().zip(&diverged).filter(|(_, diverged)| **diverged) {
            found.add(Self { structures: 1, ids: vec![id.clone()] });
        }
        (found, diverged)
    }

    /// Takes in others.
    pub fn add(&mut self, others: Self) {
        self.structures += others.structures;
        let room = NAMED.saturating_sub(self.ids.len());
        self.ids.extend(others.ids.into_iter().take(room));
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.structures == 0
    }

    /// They in words.
    pub fn text(&self) -> String {
        let told: Vec<&str> = self.ids.iter().take(TOLD).map(String::as_str).collect();
        let more = if self.structures > told.len() as u64 { ", …" } else { "" };
        let are = if self.structures == 1 {
            "structure has a prediction that is"
        } else {
            "structures have predictions that are"
        };
        format!(
            "{} {are} not finite (NaN or infinite), in no mean: {}{more}",
            self.structures,
            told.join(", ")
        )
    }
}

/// A batch without the labels of structures on which the model diverges.
pub fn without(batch: &HostBatch, diverged: &[bool]) -> HostBatch {
    let mut kept = batch.clone();
    for (g, _) in diverged.iter().enumerate().filter(|(_, diverged)| **diverged) {
        kept.has_energy[g] = false;
        kept.has_forces[g] = false;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_named() {
        let mut all = Diverged::default();
        assert!(all.is_none());
        for i in 0..250 {
            all.add(Diverged { structures: 1, ids: vec![format!("m{i}")] });
        }
        assert_eq!((all.structures, all.ids.len()), (250, NAMED));
        let text = all.text();
        assert!(text.starts_with("250 structures have predictions that are not finite"), "{text}");
        assert!(text.ends_with("m0, m1, m2, m3, m4, m5, m6, m7, …"), "{text}");
        let one = Diverged { structures: 1, ids: vec!["x".into()] };
        assert_eq!(
            one.text(),
            "1 structure has a prediction that is not finite (NaN or infinite), in no mean: x"
        );
    }
}
