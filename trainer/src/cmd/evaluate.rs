//! `jmp-train evaluate`: errors on a split, predictions as Parquet; of several folds also their mean.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::{CheckpointArgs, CommonArgs, DONE};
use crate::config::Config;
use crate::evaluation::{Evaluation, Request};
use crate::metrics::Errors;

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// The configuration of the run, for its datasets.
    config: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// The split to evaluate; dataset.test of the configuration when absent, else test.
    #[arg(long)]
    split: Option<String>,
    /// Where predictions go; predictions-SPLIT.parquet in the run directory (or here) when absent.
    #[arg(long, value_name = "FILE.parquet", conflicts_with = "folds")]
    output: Option<PathBuf>,
    /// Tells overlapping and other structures apart: a Parquet file with the columns id and overlapping, as
    /// `jmp-tools overlap --write-masks` writes.
    #[arg(long, value_name = "FILE.parquet")]
    mask: Option<PathBuf>,
    /// Evaluates these folds one after the other and tells their mean; {fold} in --checkpoint stands for each.
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', conflicts_with = "fold")]
    folds: Vec<u32>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Mean and spread of one number over folds.
#[derive(Debug, Serialize)]
struct OverFolds {
    mean: f64,
    /// Sample standard deviation.
    std: f64,
    folds: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct FoldReport {
    kind: &'static str,
    folds: Vec<u32>,
    /// Task → error → over folds.
    tasks: BTreeMap<String, BTreeMap<&'static str, OverFolds>>,
    /// Task → structures of all folds with a prediction that is not finite, which are in no mean.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    not_finite: BTreeMap<String, u64>,
}

impl EvaluateArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        if self.folds.is_empty() {
            let evaluation = self.evaluate(&self.common.overrides(), &self.checkpoint.checkpoint)?;
            self.tell(&evaluation, out)?;
            return Ok(DONE);
        }
        let pattern = self.checkpoint.checkpoint.display().to_string();
        if !pattern.contains("{fold}") {
            bail!(super::usage(format!("--folds: expected {{fold}} in --checkpoint, found {pattern}")));
        }
        let mut evaluations = Vec::new();
        for fold in &self.folds {
            let mut overrides = self.common.overrides();
            overrides.push(format!("fold={fold}"));
            let checkpoint = PathBuf::from(pattern.replace("{fold}", &fold.to_string()));
            let evaluation = self.evaluate(&overrides, &checkpoint)?;
            self.tell(&evaluation, out)?;
            evaluations.push(evaluation);
        }
        self.tell_folds(&evaluations, out)?;
        Ok(DONE)
    }

    fn evaluate(&self, overrides: &[String], checkpoint: &Path) -> anyhow::Result<Evaluation> {
        let config = Config::read(&self.config, overrides)?;
        let request = Request {
            checkpoint,
            split: self.split.as_deref(),
            output: self.output.as_deref(),
            mask: self.mask.as_deref(),
        };
        Evaluation::run(config, request)
    }

    fn tell(&self, evaluation: &Evaluation, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.common.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(evaluation)?)?);
        }
        if self.common.quiet {
            return Ok(());
        }
        if evaluation.scales_of_configuration {
            writeln!(
                out,
                "an imported model brings no references and scales of labels: those of the configuration's datasets are used"
            )?;
        }
        for (name, errors) in &evaluation.tasks {
            writeln!(out, "{name}, split {}:", evaluation.split)?;
            tell_errors(errors, evaluation.shifted.contains(name), out)?;
            for (part, errors) in &evaluation.breakdown[name].by_overlap {
                let number = |value: Option<f64>| value.map_or("none".to_owned(), |v| format!("{v:.4}"));
                let (mae, forces) = (number(errors.mae), number(errors.force_mae));
                writeln!(
                    out,
                    "  {part}: MAE {mae}, force MAE {forces} eV/Å, {} structures",
                    errors.structures
                )?;
            }
        }
        Ok(writeln!(out, "predictions: {}", evaluation.predictions)?)
    }

    fn tell_folds(&self, evaluations: &[Evaluation], out: &mut dyn Write) -> anyhow::Result<()> {
        let mut tasks: BTreeMap<String, BTreeMap<&'static str, OverFolds>> = BTreeMap::new();
        let mut not_finite = BTreeMap::new();
        for name in evaluations.iter().flat_map(|evaluation| evaluation.tasks.keys()) {
            let errors: Vec<&Errors> = evaluations.iter().filter_map(|e| e.tasks.get(name)).collect();
            tasks.insert(name.clone(), over_folds(&errors));
            let diverged = errors.iter().filter_map(|e| e.not_finite.as_ref()).map(|d| d.structures).sum();
            if diverged > 0 {
                not_finite.insert(name.clone(), diverged);
            }
        }
        let report = FoldReport { kind: "folds", folds: self.folds.clone(), tasks, not_finite };
        if self.common.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(&report)?)?);
        }
        if self.common.quiet {
            return Ok(());
        }
        for (name, structures) in &report.not_finite {
            writeln!(out, "{name}: {structures} structures of all folds are in no mean: not finite")?;
        }
        for (name, errors) in &report.tasks {
            for (what, OverFolds { mean, std, folds }) in errors {
                writeln!(out, "{name}, {} folds: {what} {mean:.5} ± {std:.5} {folds:.5?}", folds.len())?;
            }
        }
        Ok(())
    }
}

fn tell_errors(errors: &Errors, shifted: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let n = errors.structures;
    if let Some(diverged) = &errors.not_finite {
        writeln!(out, "  {}", diverged.text())?;
    }
    if let Some(scalar) = &errors.scalar {
        writeln!(out, "  {}, {n} structures", scalar.text())?;
    }
    if let (Some(mae), Some(per_atom)) = (errors.energy_mae, errors.energy_mae_per_atom) {
        let mark = if shifted { ", shifted: only forces were learnt" } else { "" };
        writeln!(
            out,
            "  energy MAE {:.3} meV ({:.3} meV/atom){mark}, {n} structures",
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
    Ok(())
}

/// Each error that all folds have, over the folds.
fn over_folds(errors: &[&Errors]) -> BTreeMap<&'static str, OverFolds> {
    type Number = fn(&Errors) -> Option<f64>;
    let numbers: [(&str, Number); 6] = [
        ("mae", |e| e.scalar.as_ref()?.mae),
        ("rmse", |e| e.scalar.as_ref()?.rmse),
        ("roc_auc", |e| e.scalar.as_ref()?.roc_auc),
        ("balanced_accuracy", |e| e.scalar.as_ref()?.balanced_accuracy),
        ("energy_mae", |e| e.energy_mae),
        ("force_mae", |e| e.force_mae),
    ];
    let over = |(what, number): (&'static str, Number)| {
        let folds: Vec<f64> = errors.iter().map(|e| number(e)).collect::<Option<_>>()?;
        let n = folds.len() as f64;
        let mean = folds.iter().sum::<f64>() / n;
        let squares: f64 = folds.iter().map(|x| (x - mean).powi(2)).sum();
        let std = if folds.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
        Some((what, OverFolds { mean, std, folds }))
    };
    numbers.into_iter().filter_map(over).collect()
}
