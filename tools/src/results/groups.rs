//! Runs that are averaged, and which of them are compared with one another.

use std::collections::{BTreeMap, BTreeSet};

use super::ours::Ours;
use super::rows::{Error, Part};
use super::variant::{Model, Variant};
use crate::paper::improvement::relative;
use crate::paper::{Paper, Task};

/// What errors compare within: one task, one split to train on and one to be judged on.
#[derive(Debug)]
pub(super) struct Contest<'a> {
    /// The task.
    pub(super) task: &'a Task,
    /// Whether 50 structures were trained on.
    pub(super) few_shot: bool,
    /// The split that was trained on, without MatBench's fold.
    pub(super) trained: Option<&'a str>,
    /// The split that was judged on, without MatBench's fold.
    pub(super) judged: String,
    tuned: Vec<&'a Ours>,
    scratch: Vec<&'a Ours>,
}

/// What a run began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A pre-trained model.
    Tuned,
    /// Random weights.
    Scratch,
}

/// Runs in a contest that differ by seed or fold alone.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    /// The settings that they share.
    pub(super) variant: &'a Variant,
    runs: Vec<&'a Ours>,
}

/// All contests: those of whole training sets first, tasks in the paper's order.
pub(super) fn contests<'a>(paper: &'a Paper, tuned: &'a [Ours], scratch: &'a [Ours]) -> Vec<Contest<'a>> {
    let mut found = vec![];
    for few_shot in [false, true] {
        for task in &paper.tasks {
            let of_task = |o: &&Ours| o.task == task.id && o.few_shot == few_shot;
            let all: BTreeSet<(Option<&str>, String)> =
                tuned.iter().chain(scratch).filter(of_task).map(splits).collect();
            for (trained, judged) in all {
                let own = |runs: &'a [Ours]| -> Vec<&'a Ours> {
                    let same = |o: &&Ours| o.trained.as_deref() == trained && o.judged() == judged;
                    runs.iter().filter(of_task).filter(same).collect()
                };
                let (tuned, scratch) = (own(tuned), own(scratch));
                found.push(Contest { task, few_shot, trained, judged, tuned, scratch });
            }
        }
    }
    found
}

/// The splits trained and judged on.
fn splits(ours: &Ours) -> (Option<&str>, String) {
    (ours.trained.as_deref(), ours.judged())
}

impl<'a> Contest<'a> {
    /// All models that there are runs of.
    pub(super) fn models(&self) -> BTreeSet<&'a Model> {
        self.tuned.iter().chain(&self.scratch).copied().map(|o| &o.model).collect()
    }

    /// The runs of some models by their settings.
    pub(super) fn groups(&self, start: Start, chosen: impl Fn(&Model) -> bool) -> Vec<Group<'a>> {
        let runs = match start {
            Start::Tuned => &self.tuned,
            Start::Scratch => &self.scratch,
        };
        let mut groups: BTreeMap<&'a Variant, Vec<&'a Ours>> = BTreeMap::new();
        for run in runs.iter().copied().filter(|o| chosen(&o.model)) {
            groups.entry(&run.variant).or_default().push(run);
        }
        groups.into_iter().map(|(variant, runs)| Group { variant, runs }).collect()
    }
}

impl Group<'_> {
    /// The group among others that it is compared with: that of the same settings, else the only one. Of
    /// several with other settings none is more of a baseline than the rest.
    pub(super) fn partner<'g>(&self, others: &'g [Self]) -> Option<&'g Self> {
        let same = others.iter().find(|other| other.variant == self.variant);
        same.or_else(|| others.first().filter(|_| others.len() == 1))
    }

    /// All folds, and their mean if there are any.
    pub(super) fn parts(&self) -> BTreeSet<Part> {
        let mut parts: BTreeSet<Part> =
            self.runs.iter().map(|o| o.fold.map_or(Part::Whole, Part::Fold)).collect();
        if !self.folds().is_empty() {
            parts.insert(Part::Mean);
        }
        parts
    }

    /// The folds that there are runs of.
    pub(super) fn folds(&self) -> BTreeSet<u8> {
        self.runs.iter().filter_map(|o| o.fold).collect()
    }

    /// The mean error on a part: of several runs on one fold their mean, of folds the mean of theirs.
    pub(super) fn error(&self, part: Part) -> Option<Error> {
        match part {
            Part::Whole => mean(&self.on_fold(None)),
            Part::Fold(fold) => mean(&self.on_fold(Some(fold))),
            Part::Mean => {
                let folds = self.folds().into_iter();
                let means: Vec<f64> =
                    folds.filter_map(|fold| Some(mean(&self.on_fold(Some(fold)))?.value)).collect();
                mean(&means)
            }
        }
    }

    /// Relative improvement over a baseline. Means over different folds do not compare.
    pub(super) fn over(&self, baseline: &Self, part: Part) -> Option<f64> {
        if part == Part::Mean && self.folds() != baseline.folds() {
            return None;
        }
        relative(baseline.error(part)?.value, self.error(part)?.value)
    }

    fn on_fold(&self, fold: Option<u8>) -> Vec<f64> {
        self.runs.iter().filter(|o| o.fold == fold).map(|o| o.error).collect()
    }
}

fn mean(values: &[f64]) -> Option<Error> {
    (!values.is_empty())
        .then(|| Error { value: values.iter().sum::<f64>() / values.len() as f64, count: values.len() })
}
