//! `jmp-tools stats`: datasets and runs → one HTML page and the same numbers as JSON and CSV.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shards::stream::Temperature;

use super::page_args::PageArgs;
use crate::dataset_report::{self, DatasetReport};
use crate::error::ReportError;
use crate::report::Report;
use crate::run_report::{self, RunReport};
use crate::{coverage, mix};

/// Arguments of `stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    jmp-tools stats shards/ani1x shards/oc20 --output report.html\n  \
    jmp-tools stats shards/rmd17 --run runs/pretrain --run runs/ethanol --output report.html\n  \
    jmp-tools stats shards/ani1x --output report.html --json | jq '.datasets[0].splits'\n\n\
    Exit codes: 0 done, 1 failed (report cannot be written), 2 bad input or usage.")]
pub struct StatsArgs {
    /// Datasets: directories that `jmp-ingest convert` made.
    #[arg(value_name = "DIR")]
    datasets: Vec<PathBuf>,
    /// Run directory of jmp-train, for curves and evaluations; may be given several times.
    #[arg(long = "run", value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,
    /// Temperatures of the mix, separated by commas; inf: all datasets alike.
    #[arg(long, value_name = "T,…", value_delimiter = ',', default_value = "1,2,inf", value_parser = mix::parse)]
    temperatures: Vec<Temperature>,
    /// How many structures of each dataset are decoded for what needs their atoms; all if there are no more.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    sample: u64,
    /// What chooses them.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    page: PageArgs,
}

impl StatsArgs {
    /// Runs the command; what is said goes to `out`, progress to standard error.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        self.check()?;
        let progress = self.progress();
        let mut datasets = vec![];
        for dir in &self.datasets {
            progress.set_message(dir.display().to_string());
            datasets.push(dataset_report::gather(dir, self.sample, self.seed)?);
            progress.inc(1);
        }
        let mut runs = vec![];
        for dir in &self.runs {
            progress.set_message(dir.display().to_string());
            runs.push(run_report::gather(dir)?);
            progress.inc(1);
        }
        progress.finish_and_clear();
        distinguish(&mut datasets);
        let mix = mix::gather(&datasets, &self.temperatures)?;
        let tool = format!("jmp-tools {}", env!("CARGO_PKG_VERSION"));
        let coverage = coverage::gather(&datasets);
        let report = Report { tool, datasets, coverage, mix, runs };
        self.page.finish(&report, &report.to_document(), (&lines(&report), &[]), out)
    }

    fn check(&self) -> Result<(), ReportError> {
        if self.datasets.is_empty() && self.runs.is_empty() {
            return Err(ReportError::Usage(
                "nothing to report on: give dataset directories, or --run RUN_DIR".into(),
            ));
        }
        self.page.check()
    }

    fn progress(&self) -> ProgressBar {
        if self.page.quiet {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new((self.datasets.len() + self.runs.len()) as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} · {msg}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

fn lines(report: &Report) -> Vec<String> {
    let run = |run: &RunReport| {
        let ending = run.ending.as_deref().unwrap_or("not ended");
        format!("run {}: {} steps, {ending}", run.name, run.steps)
    };
    report.datasets.iter().map(dataset_line).chain(report.runs.iter().map(run)).collect()
}

/// Datasets of equal name are told apart by their directories.
fn distinguish(datasets: &mut [DatasetReport]) {
    let names: Vec<String> = datasets.iter().map(|d| d.name.clone()).collect();
    for dataset in datasets {
        if names.iter().filter(|name| **name == dataset.name).count() > 1 {
            dataset.name = format!("{} ({})", dataset.name, dataset.directory);
        }
    }
}

fn dataset_line(d: &DatasetReport) -> String {
    let rejected: u64 = d.rejects.values().sum();
    format!(
        "{}: {} structures, {} atoms, {} elements, {} splits, {rejected} rejected",
        d.name,
        d.rows,
        d.atoms,
        d.elements.len(),
        d.splits.len()
    )
}
