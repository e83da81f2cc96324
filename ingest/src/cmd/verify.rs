//! `jmp-ingest verify`: every hash, checksum and rule of a dataset.

use std::path::PathBuf;

use ingest::convert::Progress as _;
use shards::Dataset;
use shards::verify::verify;

use super::{Told, shards_error};
use crate::console::Console;

const EXAMPLES: &str = "\
Examples:
  jmp-ingest verify shards/ani1x
  jmp-ingest verify shards/ani1x --json

Exit code 0: every byte and every row is as it was written. 2: something is wrong; each fault is a line.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory of the dataset.
    dir: PathBuf,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, console: Console) -> anyhow::Result<()> {
    let rows = Dataset::open(&args.dir).map_err(shards_error)?.rows();
    let display = console.progress("verify", rows);
    let result = verify(&args.dir, |rows| display.advance(rows, 0));
    display.close();
    let report = result.map_err(shards_error)?;
    let findings: Vec<_> =
        report.findings.iter().map(|f| serde_json::json!({ "file": f.file, "problem": f.problem })).collect();
    for finding in &report.findings {
        console.say(&format!("{}: {}", finding.file.display(), finding.problem));
    }
    let faults = findings.len();
    console.result(&serde_json::json!({
        "files": report.files,
        "rows": report.rows,
        "findings": findings,
        "suspicious": report.suspicions,
    }));
    let Some(first) = report.findings.first() else {
        console.say(&format!(
            "{}: {} files, {} rows, no faults",
            args.dir.display(),
            report.files,
            report.rows
        ));
        super::report::say_suspicions(console, &report.suspicions);
        return Ok(());
    };
    let noun = if faults == 1 { "fault" } else { "faults" };
    let text = format!(
        "{}: {faults} {noun}; first: {}: {}",
        args.dir.display(),
        first.file.display(),
        first.problem
    );
    Err(Told(text).into())
}
