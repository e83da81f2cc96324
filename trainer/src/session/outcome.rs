//! What a run tells and remembers.

use std::collections::BTreeMap;

use serde::Serialize;
use shards::stream::Cursor;

use crate::checkpoint::Best;
use crate::diverged::Diverged;
use crate::metrics::Errors;
use crate::scalar::ScalarErrors;

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Its epochs are over.
    Complete,
    /// `schedule.max_steps` or `stop.max_steps` was reached.
    MaxSteps,
    /// No better validation for too long.
    Patience,
    /// Learning rates have become too small.
    MinLr,
    /// `stop.minutes` are over.
    Minutes,
    /// Someone asked it to stop.
    Signal,
}

/// What a run amounts to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// `finished`.
    pub kind: &'static str,
    /// Why it ended.
    pub ending: Ending,
    /// Optimiser steps done.
    pub step: u64,
    /// Structures consumed, those left out included.
    pub samples: u64,
    /// Structures left out for their size (`sampling.oversize = "skip"`).
    pub left_out: u64,
    /// Minutes of training over all restarts.
    pub minutes: f64,
    /// Structures a second of this session.
    pub samples_per_second: f64,
    /// Share of this session's time spent waiting for data.
    pub waiting: f64,
    /// The best validation.
    pub best: Option<Best>,
    /// Where the run lies.
    pub run: String,
}

/// What a run remembers beside its learner.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Where the stream goes on.
    pub cursor: Cursor,
    /// The best validation.
    pub best: Option<Best>,
    /// Validations since then.
    pub stale_validations: u64,
    /// Minutes of earlier sessions.
    pub minutes: f64,
    /// Steps passed over because their loss or gradient was not finite.
    pub skipped: u64,
    /// Structures left out for their size.
    pub left_out: u64,
    /// Whether a validation was due when the run was last saved, and has not been made.
    pub validation_due: bool,
}

/// A validation as written to `metrics.jsonl`.
#[derive(Debug, Serialize)]
pub(super) struct ValidationRecord<'a> {
    pub(super) kind: &'static str,
    pub(super) step: u64,
    pub(super) epoch: f64,
    pub(super) samples: u64,
    /// Minutes since the run began, this validation included.
    pub(super) minutes: f64,
    pub(super) metric: f64,
    pub(super) tasks: &'a BTreeMap<String, Errors>,
}

/// A step that was passed over, as told to programs.
#[derive(Debug, Serialize)]
pub(super) struct SkipRecord {
    pub(super) kind: &'static str,
    pub(super) step: u64,
    pub(super) told: String,
}

/// Structures that a step left out for their size, as told to programs.
#[derive(Debug, Serialize)]
pub(super) struct LeftOutRecord {
    pub(super) kind: &'static str,
    pub(super) step: u64,
    /// How many so far.
    pub(super) all: u64,
    /// Rows by dataset.
    pub(super) rows: BTreeMap<String, Vec<u64>>,
}

/// Errors of all tasks, for people.
pub fn errors_text(tasks: &BTreeMap<String, Errors>) -> String {
    let text = |(name, e): (&String, &Errors)| {
        let parts = [
            e.energy_mae.map(|v| format!("E {:.1} meV", 1e3 * v)),
            e.energy_mae_per_atom.map(|v| format!("{:.2} meV/atom", 1e3 * v)),
            e.energy_within.map(|v| format!("EwT {:.1} %", 100.0 * v)),
            e.force_mae.map(|v| format!("F {:.1} meV/Å", 1e3 * v)),
            e.force_cosine.map(|v| format!("cos {v:.3}")),
            e.scalar.as_ref().map(ScalarErrors::text),
            e.not_finite.as_ref().map(Diverged::text),
        ];
        let known: Vec<String> = parts.into_iter().flatten().collect();
        format!("{name}: {}", known.join(", "))
    };
    tasks.iter().map(text).collect::<Vec<_>>().join(" · ")
}
