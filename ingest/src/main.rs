//! `jmp-ingest`: source datasets in, shards out.

mod cmd;
mod console;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use console::Console;

/// Turns atomistic datasets into shards: compressed Parquet with a manifest, splits, statistics and references.
///
/// Nothing that is read is executed: pickles are decoded by a closed table of names.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    /// Say nothing but errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Print one JSON object on standard output, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  jmp-ingest convert --dataset ani1x --input ani1x-release.h5 --output shards/ani1x
  jmp-ingest convert --dataset oc22 --input oc22/s2ef-total --output shards/oc22
  jmp-ingest inspect shards/ani1x
  jmp-ingest verify shards/ani1x

Exit codes: 0 done, 1 failed, 2 bad input or usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Convert a source dataset into a directory of shards.
    Convert(Box<cmd::convert::Args>),
    /// Put the partitions of a dataset together.
    Merge(cmd::merge::Args),
    /// Add a named split to a dataset.
    Split(cmd::split::Args),
    /// Write a dataset's structures as extended XYZ, for ASE.
    Export(cmd::export::Args),
    /// Show what a file or a dataset is, and its first structures.
    Inspect(cmd::inspect::Args),
    /// Show one structure: raw, converted, referenced, normalised.
    Explain(cmd::explain::Args),
    /// Check every hash, checksum and rule of a dataset.
    Verify(cmd::verify::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console { quiet: cli.quiet, json: cli.json };
    let result = match &cli.command {
        Command::Convert(args) => cmd::convert::run(args, console),
        Command::Merge(args) => cmd::merge::run(args, console),
        Command::Split(args) => cmd::split::run(args, console),
        Command::Export(args) => cmd::export::run(args, console),
        Command::Inspect(args) => cmd::inspect::run(args, console),
        Command::Explain(args) => cmd::explain::run(args, console),
        Command::Verify(args) => cmd::verify::run(args, console),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => console.fail(&error),
    }
}
