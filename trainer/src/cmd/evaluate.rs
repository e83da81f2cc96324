//! `jmp-train evaluate`: errors on a split, predictions as Parquet.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::{CheckpointArgs, CommonArgs, DONE};
use crate::checkpoint::{self, CheckpointError, Info, State};
use crate::config::{Config, ForceMode};
use crate::distributed::World;
use crate::evaluate::errors_on;
use crate::metrics::Errors;
use crate::network::Network;
use crate::predictions::PredictionWriter;
use crate::setup;
use crate::task::Task;

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// The configuration of the run, for its datasets.
    config: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The split to evaluate.
    #[arg(long, default_value = "test")]
    split: String,
    /// Where predictions go; predictions-SPLIT.parquet in the run directory (or here) when absent.
    #[arg(long, value_name = "FILE.parquet")]
    output: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    kind: &'static str,
    split: &'a str,
    checkpoint: String,
    predictions: String,
    /// Tasks trained on forces alone: their energies are shifted by the mean error on the training split.
    shifted: Vec<String>,
    /// Whether references and scales are the configuration's: an imported model brings none.
    scales_of_configuration: bool,
    tasks: BTreeMap<String, Errors>,
}

impl EvaluateArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let path = checkpoint::locate(&self.checkpoint.checkpoint, true)?;
        let info = checkpoint::read_info(&path)?;
        let mut config = Config::read(&self.config, &self.common.overrides())?;
        config.model = info.model.clone();
        let mut tasks = tasks_of(&config, &info, &path)?;
        let network = load(&config, &path)?;
        let shifted = settle_energies(&network, &config, &mut tasks)?;
        let output =
            self.output.clone().unwrap_or_else(|| default_output(&self.checkpoint.checkpoint, &self.split));
        let mut writer = PredictionWriter::create(&output)?;
        let mut judged = BTreeMap::new();
        let alone = World::alone();
        for (index, task) in tasks.iter().enumerate() {
            let (name, transform) = (&task.record.name, &task.record.transform);
            let errors = errors_on(
                &network,
                &config,
                (&tasks, index),
                (&self.split, u64::MAX),
                &alone,
                |batch, prediction| Ok(writer.write(name, transform, batch, prediction)?),
            )?;
            judged.insert(name.clone(), errors);
        }
        let report = Report {
            kind: "evaluation",
            split: &self.split,
            checkpoint: path.display().to_string(),
            predictions: writer.finish()?.display().to_string(),
            shifted,
            scales_of_configuration: info.origin.is_some(),
            tasks: judged,
        };
        self.keep(&report)?;
        self.tell(&report, out)?;
        Ok(DONE)
    }

    /// Leaves the report in the run's directory, where `jmp-tools` finds it.
    fn keep(&self, report: &Report) -> anyhow::Result<()> {
        let run = &self.checkpoint.checkpoint;
        if run.join("config.toml").is_file() {
            let file = run.join(format!("evaluation-{}.json", self.split));
            std::fs::write(&file, serde_json::to_string_pretty(report)? + "\n")
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }

    fn tell(&self, report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.common.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(report)?)?);
        }
        if report.scales_of_configuration {
            writeln!(
                out,
                "an imported model brings no references and scales of labels: those of the configuration's datasets are used"
            )?;
        }
        for (name, errors) in &report.tasks {
            writeln!(out, "{name}, split {}:", report.split)?;
            if let (Some(mae), Some(per_atom)) = (errors.energy_mae, errors.energy_mae_per_atom) {
                let n = errors.structures;
                writeln!(
                    out,
                    "  energy MAE {:.3} meV ({:.3} meV/atom), {n} structures",
                    1e3 * mae,
                    1e3 * per_atom
                )?;
            }
            if let (Some(mae), Some(zero)) = (errors.force_mae, errors.force_mae_of_zero) {
                let share = mae / zero;
                writeln!(
                    out,
                    "  force MAE {:.3} meV/Å; predicting zero gives {:.3} meV/Å (ratio {share:.4}), {} atoms",
                    1e3 * mae,
                    1e3 * zero,
                    errors.atoms
                )?;
            }
        }
        Ok(writeln!(out, "predictions: {}", report.predictions)?)
    }
}

/// The tasks of a configuration with the transforms and graphs that the model was trained with.
fn tasks_of(config: &Config, info: &Info, path: &Path) -> anyhow::Result<Vec<Task>> {
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
    let (then, now) = (
        names(info.tasks.iter().map(|t| &t.name).collect()),
        names(config.tasks.iter().map(|t| &t.data.name).collect()),
    );
    // Whether forces are an energy's gradient shows in no tensor: an imported model is used as configured.
    let same = |a: ForceMode, b: ForceMode| match info.origin {
        Some(_) => (a == ForceMode::Direct) == (b == ForceMode::Direct),
        None => a == b,
    };
    let same_heads = info.tasks.iter().zip(&config.tasks).all(|(a, b)| same(a.forces, b.forces));
    if info.kind != config.kind || then != now || !same_heads {
        let differences = vec![format!(
            "the checkpoint is of {} on {then}; the configuration is of {} on {now}",
            info.kind.name(),
            config.kind.name()
        )];
        return Err(CheckpointError::Differs { path: path.to_path_buf(), differences }.into());
    }
    let mut tasks = Task::open_all(config)?;
    for (task, record) in tasks.iter_mut().zip(&info.tasks).filter(|_| info.origin.is_none()) {
        task.record.transform = record.transform.clone();
        task.record.graph = record.graph;
    }
    Ok(tasks)
}

/// A model trained on forces alone knows energies up to a constant: it is chosen so that the mean error on the training
/// split vanishes. Returns the names of such tasks.
fn settle_energies(network: &Network, config: &Config, tasks: &mut [Task]) -> anyhow::Result<Vec<String>> {
    let mut shifted = Vec::new();
    for index in 0..tasks.len() {
        if tasks[index].record.energy_weight > 0.0 {
            continue;
        }
        let (mut sum, mut count) = (0.0, 0_u64);
        let split = tasks[index].record.split.clone();
        errors_on(
            network,
            config,
            (tasks, index),
            (&split, u64::MAX),
            &World::alone(),
            |batch, prediction| {
                for (g, _) in batch.has_energy.iter().enumerate().filter(|(_, has)| **has) {
                    sum += batch.energy[g] - prediction.energy[g];
                    count += 1;
                }
                Ok(())
            },
        )?;
        let record = &mut tasks[index].record;
        if count > 0 {
            record.transform.mean += record.transform.std * sum / count as f64;
            shifted.push(record.name.clone());
        }
    }
    Ok(shifted)
}

fn load(config: &Config, path: &Path) -> anyhow::Result<Network> {
    let network = setup::network(config, setup::device(config, None)?);
    let weights = State::read_weights(path)?.into_best_weights();
    network.load(&weights).map_err(|e| CheckpointError::content(path, e.to_string()))?;
    Ok(network)
}

fn default_output(checkpoint: &Path, split: &str) -> PathBuf {
    let dir = if checkpoint.join("config.toml").is_file() { checkpoint } else { Path::new(".") };
    dir.join(format!("predictions-{split}.parquet"))
}
