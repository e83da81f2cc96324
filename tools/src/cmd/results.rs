//! `jmp-tools results`: our errors beside the paper's.

use std::io::Write;

use clap::Args;

use super::page_args::PageArgs;
use crate::paper::Paper;
use crate::results::{self, Request, Source};

/// Arguments of `results`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    jmp-tools results runs/rmd17/ethanol-small runs/matbench/phonons-small-fold* --output results.html\n  \
    jmp-tools results runs/qm9/*-small runs/qm9/*-large --scratch runs/qm9/*-scratch --output qm9.html\n  \
    jmp-tools results rmd17/aspirin=runs/mine --split test_01 --json | jq .rows\n  \
    jmp-tools results    # the paper's numbers alone\n\n\
    A run is judged by what `jmp-train evaluate` left in its directory.\n\n\
    Exit codes: 0 done, 1 failed (report cannot be written), 2 bad input or usage.")]
pub struct ResultsArgs {
    /// Directories of runs that were fine-tuned from a pre-trained model and evaluated; with TASK= where the names of their
    /// datasets do not tell which of the paper's tasks they are.
    #[arg(value_name = "[TASK=]RUN", value_parser = Source::parse)]
    runs: Vec<Source>,
    /// Runs from scratch on the same tasks; may be given several times.
    #[arg(long, value_name = "[TASK=]RUN", value_parser = Source::parse, num_args = 1..)]
    scratch: Vec<Source>,
    /// The split that was evaluated; absent: every split with `test` in its name.
    #[arg(long)]
    split: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl ResultsArgs {
    /// Runs the command; what is said goes to `out`.
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        self.page.check()?;
        let paper = Paper::read()?;
        let request = Request { tuned: self.runs, scratch: self.scratch, split: self.split };
        let report = results::gather(&request, &paper)?;
        let lines = results::lines(&report, &paper);
        self.page.finish(&report, &results::document(&report, &paper), (&lines, &[]), out)
    }
}
