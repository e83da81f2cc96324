//! What a conversion or merge has to say in the end.

use std::collections::BTreeMap;
use std::path::Path;

use ingest::convert::{Outcome, PartitionOutcome, Profile};
use shards::checks::Check;

use super::{counted, human_bytes, say_splits};
use crate::console::Console;

/// Tells what became of a partition.
pub(super) fn report_partition(
    console: Console,
    output: &Path,
    outcome: &PartitionOutcome,
    rate: f64,
    profile: bool,
) {
    for warning in &outcome.partition.warnings {
        console.warn(warning);
    }
    console.say(&format!(
        "partition {}: {} structures in {}, {} left out, {rate:.0} structures a second",
        outcome.partition.share,
        outcome.structures,
        counted(outcome.partition.units.len(), "unit"),
        outcome.left_out,
    ));
    if outcome.resumed_units > 0 {
        console.say(&format!("  {} finished by an earlier run", counted(outcome.resumed_units, "unit")));
    }
    if profile {
        say_profile(console, &outcome.profile);
    }
    console.say(&format!(
        "written to {}; put all partitions together with: jmp-ingest merge OUT IN…",
        output.display()
    ));
    console.result(&serde_json::json!({
        "output": output,
        "partition": outcome.partition.share.to_string(),
        "structures": outcome.structures,
        "left_out": outcome.left_out,
        "units": outcome.partition.units.len(),
        "structures_per_second": rate,
        "warnings": outcome.partition.warnings,
        "profile": outcome.profile,
    }));
}

fn say_profile(console: Console, profile: &Profile) {
    let total: f64 = profile.steps().iter().map(|s| s.1).sum();
    console.say(&format!("  time: {:.2} s from start to end; summed over the threads:", profile.wall));
    for (name, seconds) in profile.steps() {
        console
            .say(&format!("    {name:<12} {seconds:>9.2} s  {:>5.1} %", 100.0 * seconds / total.max(1e-9)));
    }
    console.say(&format!(
        "    {:<12} {:>9.2} s  from start to end, after the units",
        "measure", profile.measure
    ));
}

/// What the physics checks found.
pub(super) fn say_suspicions(console: Console, counts: &BTreeMap<String, u64>) {
    for check in Check::ALL {
        if let Some(count) = counts.get(check.code()).filter(|&&c| c > 0) {
            let structures = counted(*count as usize, "structure");
            console.say(&format!("  suspicious: {structures} ({}): {}", check.code(), check.meaning()));
        }
    }
    if counts.values().any(|&c| c > 0) {
        console.say("  they are stored, and listed in outliers.parquet; --filter leaves such out");
    }
}

/// Tells what became of a conversion or merge.
pub(super) fn report(console: Console, output: &Path, outcome: &Outcome, rate: Option<f64>, profile: bool) {
    let manifest = &outcome.manifest;
    for warning in &outcome.warnings {
        console.warn(warning);
    }
    let bytes: u64 = manifest.parts.iter().map(|p| p.bytes).sum();
    console.say(&format!(
        "{}: {} structures, {} atoms, {} in {}{}",
        manifest.dataset.name,
        manifest.rows,
        manifest.atoms,
        human_bytes(bytes),
        counted(manifest.parts.len(), "part"),
        rate.map_or_else(String::new, |rate| format!(", {rate:.0} structures a second")),
    ));
    if outcome.resumed_units > 0 {
        console.say(&format!("  {} finished by an earlier run", counted(outcome.resumed_units, "unit")));
    }
    for (code, count) in &manifest.rejects {
        console.say(&format!("  left out: {count} ({code}), listed in rejects.parquet"));
    }
    let checks = manifest.checks.clone().unwrap_or_default();
    say_suspicions(console, &checks.counts);
    say_splits(console, manifest);
    if profile {
        say_profile(console, &outcome.profile);
    }
    console.say(&format!(
        "written to {}; check it with: jmp-ingest verify {}",
        output.display(),
        output.display()
    ));
    let splits: serde_json::Map<String, serde_json::Value> =
        manifest.splits.iter().map(|(name, split)| (name.clone(), split.rows.into())).collect();
    console.result(&serde_json::json!({
        "dataset": manifest.dataset.name,
        "output": output,
        "structures": manifest.rows,
        "atoms": manifest.atoms,
        "parts": manifest.parts.len(),
        "bytes": bytes,
        "left_out": manifest.rejects,
        "splits": splits,
        "structures_per_second": rate,
        "suspicious": checks.counts,
        "warnings": outcome.warnings,
        "profile": outcome.profile,
        "manifest_hash": manifest.hash,
    }));
}
