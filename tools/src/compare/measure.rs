//! The errors that a run is judged by.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::evaluation::{Absolute, TaskErrors};
use crate::run_report::RunReport;

/// What an error is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// The task's name in the run's configuration.
    pub task: String,
    /// `energy`, `forces`, or the name of a scalar target.
    pub quantity: String,
    /// The error's unit.
    pub unit: String,
}

/// Mean absolute errors of a run and where they come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    /// `test` of an evaluation, or the validation.
    pub split: String,
    /// The split that the run was trained on, where it is known.
    pub trained: Option<String>,
    /// In the keys' units.
    pub errors: BTreeMap<Key, f64>,
    /// Those of energies that were judged after fitting a constant: only forces were learnt.
    pub shifted: BTreeSet<Key>,
}

/// What the split of a run's own best validation is called.
pub const VALIDATION: &str = "best validation";

impl Measures {
    /// Errors on the split named, else of the evaluation of a test split, else of the best validation.
    pub fn of(run: &RunReport, split: Option<&str>) -> Option<Self> {
        let chosen = |name: &str| split.map_or(is_test(name), |wanted| name == wanted);
        if let Some(evaluation) = run.evaluations.iter().find(|e| chosen(&e.split)) {
            return Some(Self::flat(&evaluation.split, &evaluation.tasks));
        }
        if split.is_some_and(|wanted| wanted != VALIDATION) {
            return None;
        }
        let best = run.validations.iter().reduce(|best, v| if v.metric < best.metric { v } else { best })?;
        Some(Self::flat(VALIDATION, &best.tasks))
    }

    fn flat(split: &str, tasks: &BTreeMap<String, TaskErrors>) -> Self {
        let (mut errors, mut shifted) = (BTreeMap::new(), BTreeSet::new());
        for (task, told) in tasks {
            for Absolute { quantity, unit, value, shifted: is_shifted } in told.absolute() {
                let key = Key { task: task.clone(), quantity, unit };
                if is_shifted {
                    shifted.insert(key.clone());
                }
                errors.insert(key, value);
            }
        }
        Self { split: split.into(), trained: None, errors, shifted }
    }
}

/// Whether a split is for the final judgement, by its name: `test`, `test_01`, `fold0_test`.
pub fn is_test(split: &str) -> bool {
    split.split('_').any(|word| word == "test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_splits_are_known_by_a_word() {
        for (split, expected) in
            [("test", true), ("test_01", true), ("fold0_test", true), ("val", false), ("latest", false)]
        {
            assert_eq!(is_test(split), expected, "{split}");
        }
    }
}
