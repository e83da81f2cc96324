//! Which units make up the splits that inputs and directories name.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Members, SplitPlan};

/// Units by the split they were given under.
#[derive(Debug, Default)]
pub(super) struct Membership(BTreeMap<String, BTreeSet<u32>>);

impl Membership {
    /// Adds a unit to a split; what is given without a name belongs to `all`.
    pub(super) fn add(&mut self, split: Option<&str>, unit: usize) {
        self.0.entry(split.unwrap_or("all").to_owned()).or_default().insert(unit as u32);
    }

    /// The splits.
    pub(super) fn into_splits(self) -> Vec<SplitPlan> {
        let algorithm = "all rows of the files given under this name or found in a directory of this name";
        let plan = |(name, units)| SplitPlan {
            name,
            algorithm: algorithm.to_owned(),
            seed: None,
            members: Members::Units(units),
        };
        self.0.into_iter().map(plan).collect()
    }
}
