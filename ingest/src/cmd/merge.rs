//! `jmp-ingest merge`: the partitions of a dataset → the dataset.

use std::path::PathBuf;

use ingest::partition::merge;

use super::report::report;
use crate::console::Console;

const EXAMPLES: &str = "\
Examples:
  jmp-ingest convert --dataset oc22 --input s2ef-total --output parts/1 --partition 1/2     (on one machine)
  jmp-ingest convert --dataset oc22 --input s2ef-total --output parts/2 --partition 2/2     (on another)
  jmp-ingest merge shards/oc22 parts/1 parts/2

The result is what one conversion would have written, byte for byte. Files are linked where the file system can, else copied;
the partitions stay as they are. Stopped or killed, a merge goes on when the command is repeated.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory to make; it must be new or empty.
    output: PathBuf,
    /// The partitions, all of them, in any order.
    #[arg(required = true, num_args = 1..)]
    partitions: Vec<PathBuf>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, console: Console) -> anyhow::Result<()> {
    let display = console.progress("merge", 0);
    let result = merge(&args.output, &args.partitions, &display);
    display.close();
    report(console, &args.output, &result?, None, false);
    Ok(())
}
