//! `jmp-train fit-scales`: the factors that keep the variance of activations.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::{CommonArgs, DONE};
use crate::checkpoint::scale_factors;
use crate::config::Config;
use crate::pretrained::{self, Source};
use crate::setup;
use crate::task::Task;

/// Arguments of `fit-scales`.
#[derive(Debug, Args)]
pub(super) struct FitScalesArgs {
    /// The configuration, for its model and training data.
    config: PathBuf,
    /// Fit for the embedding and backbone of this model; for fresh weights of the configuration's seed when absent.
    #[arg(long, value_name = "CKPT")]
    checkpoint: Option<PathBuf>,
    /// Batches of training data to fit on.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
    /// The file to write; name it in the configuration as model.scale_factors = { file = "…" }.
    #[arg(long, value_name = "FILE.json")]
    output: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    file: String,
    batches: usize,
    structures: usize,
    fitted: usize,
    /// Factors that no batch reached.
    unfitted: Vec<String>,
    factors: BTreeMap<String, f64>,
}

impl FitScalesArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let config = Config::read(&self.config, &self.common.overrides())?;
        let tasks = Task::open_all(&config)?;
        let network = setup::network(&config, setup::device(&config, None)?);
        if let Some(path) = &self.checkpoint {
            pretrained::take(&network, None, &Source::at(path))?;
        }
        network.scale_factors().iter().for_each(|factor| factor.set(0.0));
        let batches = setup::first_batches(&config, &tasks, self.batches)?;
        if batches.is_empty() {
            bail!("the training data holds not one batch");
        }
        network.fit_scale_factors(&batches);
        let buffers = network.buffers();
        let (mut factors, mut unfitted) = (BTreeMap::new(), Vec::new());
        for factor in network.scale_factors() {
            match buffers.get(&factor.name).map(|value| value.double_value(&[])) {
                Some(value) if value != 0.0 => drop(factors.insert(factor.name.clone(), value)),
                _ => unfitted.push(factor.name.clone()),
            }
        }
        scale_factors::write(&self.output, &factors)?;
        let report = Report {
            kind: "fit-scales",
            file: self.output.display().to_string(),
            batches: batches.len(),
            structures: batches.iter().map(shards::batch::HostBatch::structures).sum(),
            fitted: factors.len(),
            unfitted,
            factors,
        };
        self.tell(&report, out)?;
        Ok(DONE)
    }

    fn tell(&self, report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.common.quiet {
            return Ok(());
        }
        if self.common.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(report)?)?);
        }
        for (name, value) in &report.factors {
            writeln!(out, "{value:>12.6}  {name}")?;
        }
        let Report { file, batches, structures, fitted, unfitted, .. } = report;
        writeln!(
            out,
            "{fitted} scale factors fitted on {batches} batches ({structures} structures): {file}"
        )?;
        if !unfitted.is_empty() {
            writeln!(
                out,
                "not fitted, since no batch reached them (no quadruplets, say): {}; a model cannot be started with this file",
                unfitted.join(", ")
            )?;
        }
        Ok(())
    }
}
