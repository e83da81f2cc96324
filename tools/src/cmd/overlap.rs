//! `jmp-tools overlap`: which structures of some sets occur in others → a page, its numbers, lists of ids and masks.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::ReportError;
use crate::number;
use crate::overlap::lists::{self, Place};
use crate::overlap::page::OverlapReport;
use crate::overlap::sets::{Datasets, Default, Given, directory_name};
use crate::overlap::{self, By, Comparison, Request};

/// Arguments of `overlap`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    jmp-tools overlap --pretrain shards/ani1x shards/transition1x --finetune test=shards/qm9 --output overlap --write-masks\n  \
    jmp-train evaluate qm9.toml --checkpoint runs/qm9 --mask overlap/masks/pretrain-finetune-composition-qm9-test.parquet\n  \
    jmp-tools overlap --within shards/spice --by composition,structure,exact --output leaks\n\n\
    Exit codes: 0 done, 1 failed (output cannot be written), 2 bad input or usage.")]
pub struct OverlapArgs {
    /// Sets to search: DIR (its split to train on) or SPLIT=DIR.
    #[arg(long, value_name = "[SPLIT=]DIR", num_args = 1.., requires = "finetune")]
    pretrain: Vec<Given>,
    /// Sets whose structures are looked for: DIR (each of its splits) or SPLIT=DIR.
    #[arg(long, value_name = "[SPLIT=]DIR", num_args = 1.., requires = "pretrain")]
    finetune: Vec<Given>,
    /// Datasets whose other splits are looked for in those whose names begin with `train`.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    within: Vec<PathBuf>,
    /// What makes two structures the same; several, separated by commas, give as many comparisons.
    #[arg(long, value_name = "WHAT,…", value_delimiter = ',', default_value = "composition")]
    by: Vec<By>,
    /// With `--by structure`: how far two fingerprints may differ, Å. Copies with noise up to half of it are found.
    #[arg(long, value_name = "Å", default_value_t = 0.1)]
    tolerance: f64,
    /// Write a mask for each checked set, which `jmp-train evaluate --mask` takes: columns `id` and `overlapping`.
    #[arg(long)]
    write_masks: bool,
    /// A directory for overlap.html, its numbers as .json and .csv, lists/ and masks/; made if it is not there.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Print the numbers as JSON to standard output.
    #[arg(long)]
    json: bool,
    /// Say nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

impl OverlapArgs {
    /// Runs the command; what is said goes to `out`, progress to standard error.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        self.check()?;
        let mut comparisons = vec![];
        for &by in &self.by {
            if !self.finetune.is_empty() {
                let mut datasets = Datasets::default();
                let references = datasets.sets(&self.pretrain, Default::Training)?;
                let checked = datasets.sets(&self.finetune, Default::All)?;
                let request = Request { references, checked, by, tolerance: self.tolerance };
                comparisons.push(self.compare(&datasets, request, "pretrain-finetune")?);
            }
            for dir in &self.within {
                let mut datasets = Datasets::default();
                let given = [Given { split: None, dir: dir.clone() }];
                let references = datasets.sets(&given, Default::AllTraining)?;
                let checked = datasets.sets(&given, Default::Held)?;
                let request = Request { references, checked, by, tolerance: self.tolerance };
                comparisons.push(self.compare(&datasets, request, "within")?);
            }
        }
        let tool = format!("jmp-tools {}", env!("CARGO_PKG_VERSION"));
        let report = OverlapReport { tool, tolerance: self.tolerance, comparisons };
        let json = report.to_json();
        let files = report.to_document().write(&self.output.join("overlap.html"), &json)?;
        self.tell(&report, &json, &files, out).context("cannot write to standard output")
    }

    fn check(&self) -> Result<(), ReportError> {
        if self.finetune.is_empty() && self.within.is_empty() {
            return Err(ReportError::Usage(
                "nothing to compare: give --pretrain DIR… --finetune DIR…, or --within DIR…".into(),
            ));
        }
        if !(self.tolerance > 0.0 && self.tolerance <= overlap::fingerprint::REACH) {
            let text = format!(
                "--tolerance {}: expected more than 0 and at most {} Å",
                self.tolerance,
                overlap::fingerprint::REACH
            );
            return Err(ReportError::Usage(text));
        }
        distinct_names(self.finetune.iter().map(|g| &g.dir))?;
        distinct_names(self.within.iter())?;
        std::fs::create_dir_all(&self.output).map_err(ReportError::write(&self.output))
    }

    fn compare(&self, datasets: &Datasets, request: Request, kind: &str) -> Result<Comparison, ReportError> {
        let by = request.by;
        let bar = self.progress(overlap::work(datasets, &request), by);
        let references = request.references.iter().map(overlap::summary).collect();
        let outcome = overlap::compare(datasets, request, &|| bar.inc(1))?;
        bar.finish_and_clear();
        let place = Place { dir: &self.output, kind, masks: self.write_masks };
        let checked = (0..outcome.slots.len())
            .map(|checked| lists::write(datasets, &outcome, checked, &place))
            .collect::<Result<_, _>>()?;
        Ok(Comparison { kind: kind.into(), by, references, checked })
    }

    fn progress(&self, length: u64, by: By) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} row groups · {eta} · {msg}");
        let bar = ProgressBar::new(length).with_message(format!("by {}", by.name()));
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    fn tell(
        &self,
        report: &OverlapReport,
        json: &str,
        files: &[PathBuf],
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        if self.json {
            return out.write_all(json.as_bytes());
        }
        if self.quiet {
            return Ok(());
        }
        for comparison in &report.comparisons {
            for c in &comparison.checked {
                writeln!(
                    out,
                    "{}, by {}: {} of {} structures overlap ({}){}",
                    c.set.name,
                    comparison.by.name(),
                    number::integer(c.overlapping),
                    number::integer(c.set.structures),
                    number::percent(c.share),
                    c.mask
                        .as_ref()
                        .map(|m| format!("; {}", self.output.join(m).display()))
                        .unwrap_or_default()
                )?;
            }
        }
        let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        writeln!(out, "{}", names.join(", "))
    }
}

/// Files are named after the directories: two of one name would write over each other.
fn distinct_names<'a>(dirs: impl Iterator<Item = &'a PathBuf>) -> Result<(), ReportError> {
    let mut seen: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for dir in dirs {
        let name = directory_name(dir);
        match seen.get(&name) {
            Some(other) if *other != dir => {
                return Err(ReportError::Usage(format!(
                    "{} and {} have the same name, after which the lists are named; rename one, or compare them one after \
                     another",
                    other.display(),
                    dir.display()
                )));
            }
            _ => drop(seen.insert(name, dir)),
        }
    }
    Ok(())
}
