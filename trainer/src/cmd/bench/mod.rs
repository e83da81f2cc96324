//! `jmp-train bench`: speed of the loader alone, of the training step alone, or of the optimiser alone.

mod loader;
mod optimizer;
mod step;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::ranks::RanksArgs;
use super::{CommonArgs, DONE};
use crate::config::{Config, Source, StepConfig};
use crate::data::TrainingData;
use crate::plan::RunPlan;
use crate::setup::{self, Start};
use crate::task::Task;
use shards::stream::{Cursor, Share};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Reading, graphs and batches, without a model.
    Loader,
    /// Forward, backward and optimiser on batches that are there already.
    Step,
    /// Clipping, AdamW and the average, for the parameters of a configuration of kind "step".
    Optimizer,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// What to measure.
    subject: Subject,
    /// The configuration.
    config: PathBuf,
    /// Optimiser steps, or global batches, that are measured.
    #[arg(long, default_value_t = 10)]
    count: usize,
    /// Steps before the measurement.
    #[arg(long, default_value_t = 2)]
    warm_up: usize,
    /// Batches without graphs (loader).
    #[arg(long)]
    flat: bool,
    /// Also tell what each of libtorch's operations costs (step of a configuration of kind "step").
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    ranks: RanksArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    subject: &'static str,
    batches: usize,
    samples: u64,
    atoms: u64,
    samples_per_second: f64,
    step_ms_median: f64,
    step_ms_min: f64,
    peak_rss_mb: Option<f64>,
}

impl BenchArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let source = Source::read(&self.config, &self.common.overrides())?;
        if self.subject == Subject::Optimizer {
            let (config, _) = step::prepare(&source, None)?;
            let report = optimizer::run(&config, (self.warm_up, self.count))?;
            let text = report.text();
            return self.tell(&report, |out| write!(out, "{text}"), out);
        }
        if self.subject == Subject::Step && StepConfig::is_meant(&source) {
            return self.ranks.run(
                |place| step::prepare(&source, place),
                |config, world, _| {
                    let counts = (self.warm_up, self.count);
                    let report = step::run((&source, &config), &self.config, counts, self.profile, world)?;
                    match (world.is_first(), self.common.json) {
                        (false, _) => {}
                        (true, true) => writeln!(out, "{}", serde_json::to_string(&report)?)?,
                        (true, false) => write!(out, "{}", report.text())?,
                    }
                    Ok(DONE)
                },
            );
        }
        let config = Config::from_source(&source)?;
        let tasks = Task::open_all(&config)?;
        if self.subject == Subject::Loader {
            let extent = loader::Extent { warm_up: self.warm_up, count: self.count, flat: self.flat };
            let report = loader::run(&config, &tasks, extent)?;
            return self.tell(&report, |out| report.write(out), out);
        }
        let report = self.step(&config, &tasks)?;
        self.tell(&report, |out| report.write(out), out)
    }

    /// One JSON object, or what `text` writes.
    fn tell(
        &self,
        report: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
        out: &mut dyn Write,
    ) -> anyhow::Result<u8> {
        if self.common.json {
            writeln!(out, "{}", serde_json::to_string(report)?)?;
        } else {
            text(out)?;
        }
        Ok(DONE)
    }

    fn step(&self, config: &Config, tasks: &[Task]) -> anyhow::Result<Report> {
        let plan = RunPlan::new(config, tasks)?;
        let mut config = config.clone();
        // Unfitted scale factors cost what fitted ones do.
        config.model.scale_factors = crate::config::model::ScaleFactors::None;
        let (mut learner, _, _) =
            setup::learner(&config, tasks, &plan, Start::Scratch, setup::device(&config, None)?)?;
        let data = TrainingData::open(&config, tasks, u64::MAX, Share::WHOLE, Cursor::default())?;
        let batches: Vec<_> = data.take(self.warm_up + self.count).collect::<Result<_, _>>()?;
        let mut seen = Measured::default();
        for (index, batch) in batches.iter().enumerate() {
            let begin = Instant::now();
            learner.step(&batch.parts)?;
            if index >= self.warm_up {
                seen.add(begin, &batch.parts);
            }
        }
        Ok(seen.report("step"))
    }
}

impl Report {
    /// For people.
    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Self { subject, batches, samples, samples_per_second, step_ms_median, step_ms_min, .. } = self;
        writeln!(
            out,
            "{subject}: {batches} batches, {samples} structures, {samples_per_second:.1} samples/s, \
             {step_ms_median:.1} ms a batch (median; least {step_ms_min:.1})"
        )
    }
}

#[derive(Debug, Default)]
struct Measured {
    milliseconds: Vec<f64>,
    samples: u64,
    atoms: u64,
}

impl Measured {
    fn add(&mut self, begin: Instant, parts: &[shards::batch::HostBatch]) {
        self.milliseconds.push(1e3 * begin.elapsed().as_secs_f64());
        self.samples += parts.iter().map(|p| p.structures() as u64).sum::<u64>();
        self.atoms += parts.iter().map(|p| p.atoms() as u64).sum::<u64>();
    }

    fn report(mut self, subject: &'static str) -> Report {
        self.milliseconds.sort_by(f64::total_cmp);
        let total: f64 = self.milliseconds.iter().sum();
        Report {
            kind: "bench",
            subject,
            batches: self.milliseconds.len(),
            samples: self.samples,
            atoms: self.atoms,
            samples_per_second: 1e3 * self.samples as f64 / total.max(1e-9),
            step_ms_min: self.milliseconds.first().copied().unwrap_or(0.0),
            step_ms_median: median(self.milliseconds),
            peak_rss_mb: peak_rss_mb(),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Largest resident memory so far, where Linux tells it.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
