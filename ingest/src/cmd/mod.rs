//! The subcommands, one file each.

pub(crate) mod convert;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod merge;
mod report;
pub(crate) mod split;
pub(crate) mod verify;

use ingest::IngestError;
use shards::{Manifest, ShardError};

use crate::console::Console;

/// Bad input or a bad dataset, told in words: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// A finished command whose result, already told, is a failure: only the exit code 2 is left to give.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Told(pub(crate) String);

/// An error of the shards crate as one of this program.
pub(crate) fn shards_error(error: ShardError) -> anyhow::Error {
    IngestError::from(error).into()
}

/// The splits of a dataset as lines of a table, with their main figures.
pub(crate) fn say_splits(console: Console, manifest: &Manifest) {
    if manifest.splits.is_empty() {
        console.say("  no splits");
        return;
    }
    let width = manifest.splits.keys().map(String::len).max().unwrap_or(0).max(5);
    console.say(&format!(
        "  {:width$}  structures        atoms  E std after reference (eV)  force RMS (eV/Å)",
        "split"
    ));
    for (name, split) in &manifest.splits {
        let statistics = &split.statistics;
        let energy = statistics.labels.get(shards::statistics::ENERGY);
        let std = match energy {
            None => "-".to_owned(),
            // As many elements as structures: the residuals say nothing.
            Some(l) if l.reference.rank.is_some_and(|rank| l.count <= rank as u64) => {
                "too few to tell".to_owned()
            }
            Some(l) => format!("{:.4}", l.referenced.std),
        };
        let rms = statistics.forces.as_ref().map_or_else(|| "-".to_owned(), |f| format!("{:.4}", f.rms));
        console.say(&format!(
            "  {name:width$}  {:>10}  {:>11}  {std:>26}  {rms:>16}",
            split.rows, statistics.atoms
        ));
    }
}

/// `1 part`, `2 parts`.
pub(crate) fn counted(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A size in a unit that a person reads at a glance.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}
