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
use shards::statistics::{ENERGY, LabelStatistics, SplitStatistics};
use shards::{Manifest, ShardError, Target};

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
    let labelled = |s: &SplitStatistics| s.labels.contains_key(ENERGY) || s.forces.is_some();
    let labelled = manifest.splits.values().any(|s| labelled(&s.statistics));
    let more = if labelled { "  E std after reference (eV)  force RMS (eV/Å)" } else { "" };
    console.say(&format!("  {:width$}  structures        atoms{more}", "split"));
    for (name, split) in &manifest.splits {
        let statistics = &split.statistics;
        let std = statistics.labels.get(ENERGY).map_or_else(|| "-".to_owned(), after_reference);
        let rms = statistics.forces.as_ref().map_or_else(|| "-".to_owned(), |f| format!("{:.4}", f.rms));
        let more = if labelled { format!("  {std:>26}  {rms:>16}") } else { String::new() };
        console.say(&format!("  {name:width$}  {:>10}  {:>11}{more}", split.rows, statistics.atoms));
    }
    say_targets(console, manifest);
}

/// The scalar targets of a dataset, measured on `train` if there is such a split, as lines of a table.
fn say_targets(console: Console, manifest: &Manifest) {
    let measured = manifest.splits.get_key_value("train").or_else(|| manifest.splits.first_key_value());
    let Some((split, record)) = measured else { return };
    let targets = &manifest.layout.targets;
    let width = |of: fn(&Target) -> &str, least: usize| {
        targets.iter().map(|t| of(t).chars().count()).max().unwrap_or(0).max(least)
    };
    let (name, unit) = (width(|t| &t.name, 6), width(|t| &t.unit, 4));
    if !targets.is_empty() {
        console.say(&format!(
            "  {:name$}  {:unit$}  structures          mean           std  std after reference, of split {split}",
            "target", "unit"
        ));
    }
    for target in targets {
        let said = match record.statistics.labels.get(&target.name) {
            None => format!("{:>10}", 0),
            Some(label) => {
                let after = if target.referenced { after_reference(label) } else { "-".to_owned() };
                format!("{:>10}  {:>12.5}  {:>12.5}  {after:>19}", label.count, label.mean, label.std)
            }
        };
        console.say(&format!("  {:name$}  {:unit$}  {said}", target.name, target.unit));
    }
}

fn after_reference(label: &LabelStatistics) -> String {
    // As many elements as structures: the residuals say nothing.
    if label.reference.rank.is_some_and(|rank| label.count <= rank as u64) {
        return "too few to tell".to_owned();
    }
    format!("{:.4}", label.referenced.std)
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
