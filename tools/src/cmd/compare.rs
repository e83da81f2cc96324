//! `jmp-tools compare`: runs side by side.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::page_args::PageArgs;
use crate::compare::{self, CompareReport, Request};
use crate::error::ReportError;
use crate::number::significant;

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    jmp-tools compare runs/scratch runs/tuned --output compare.html\n  \
    jmp-tools compare --pair runs/scratch runs/tuned --output match.html\n  \
    jmp-tools compare --method B=runs/b-aspirin,runs/b-gap --method T2=runs/t2-aspirin,runs/t2-gap\n\n\
    Exit codes: 0 done, 1 failed (report cannot be written), 2 bad input or usage.")]
pub struct CompareArgs {
    /// Run directories of jmp-train; improvements are over the first.
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// A run from scratch and one from a pre-trained model on the same task: the hours until the second is as good as the
    /// first gets (paper Figure 4); may be given several times.
    #[arg(long, num_args = 2, value_names = ["SCRATCH", "TUNED"], action = clap::ArgAction::Append)]
    pair: Vec<PathBuf>,
    /// A way to pre-train and the runs fine-tuned from it: a row of the ablation table (paper Tables 6 and 12). The first is the
    /// base; names such as B, T2, SWL, WD, DO, ED, EMA, OC20 stand beside the paper's.
    #[arg(long = "method", value_name = "NAME=RUN,…")]
    methods: Vec<String>,
    /// The split of the final errors; absent: an evaluated test split, else the best validation.
    #[arg(long)]
    split: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl CompareArgs {
    /// Runs the command; what is said goes to `out`.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        self.page.check()?;
        if self.runs.is_empty() && self.pair.is_empty() && self.methods.is_empty() {
            let text =
                "nothing to compare: give run directories, --pair SCRATCH TUNED, or --method NAME=RUN,…";
            return Err(ReportError::Usage(text.into()).into());
        }
        let request = Request {
            runs: self.runs.clone(),
            pairs: self.pair.chunks_exact(2).map(|p| (p[0].clone(), p[1].clone())).collect(),
            methods: self.methods.iter().map(|text| method(text)).collect::<Result<_, _>>()?,
            split: self.split.clone(),
        };
        let report = compare::gather(&request)?;
        self.page.finish(&report, &compare::document(&report), (&lines(&report), &[]), out)
    }
}

fn method(text: &str) -> Result<(String, Vec<PathBuf>), ReportError> {
    let wrong = || ReportError::Usage(format!("--method {text}: expected NAME=RUN,RUN,…"));
    let (name, runs) = text.split_once('=').ok_or_else(wrong)?;
    let runs: Vec<PathBuf> = runs.split(',').filter(|r| !r.is_empty()).map(PathBuf::from).collect();
    if name.is_empty() || runs.is_empty() { Err(wrong()) } else { Ok((name.into(), runs)) }
}

fn lines(report: &CompareReport) -> Vec<String> {
    let mut lines: Vec<String> = report
        .runs
        .iter()
        .map(|run| {
            let best =
                run.best.map_or("no validation".into(), |b| format!("best {}", significant(b.metric, 5)));
            format!("run {}: {} steps, {best}", run.name, run.steps)
        })
        .collect();
    lines.extend(report.matches.iter().map(compare::match_line));
    lines.extend(report.ablation.iter().map(|row| {
        let mean = row.improvement.map_or("no task in common".into(), |m| {
            format!("{} % over {} tasks", significant(100.0 * m.share, 3), m.tasks)
        });
        format!("{}: {mean}", row.method)
    }));
    lines
}
