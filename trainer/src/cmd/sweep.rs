//! `jmp-train sweep`: a fine-tuning run for each point of a grid, one after the other; interrupted, it goes on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use shards::manifest::write_durably;

use super::{CommonArgs, DONE, FAILED};
use crate::config::{Config, ConfigError, RunKind, Source};
use crate::signals::Signals;
use crate::sweep::{self, Grid, Outcome, Plan, Point, Standing, SweepError};

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// The fine-tuning configuration.
    config: PathBuf,
    /// Where the runs go, one directory each, and the table of all.
    #[arg(long)]
    dir: PathBuf,
    /// Values to try: KEY=[VALUE, …]. Repeatable; beside or in place of the configuration's [sweep].
    #[arg(long, value_name = "KEY=[…]")]
    over: Vec<String>,
    /// The pre-trained model.
    #[arg(long, value_name = "CKPT", required_unless_present = "scratch")]
    checkpoint: Option<PathBuf>,
    /// Train from random weights instead.
    #[arg(long, conflicts_with = "checkpoint")]
    scratch: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    run: String,
    settings: Vec<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

impl SweepArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        #[derive(Deserialize)]
        struct SweepOnly {
            #[serde(default)]
            sweep: Grid,
        }
        let settings = self.common.overrides();
        let SweepOnly { sweep: mut grid } = Source::read(&self.config, &settings)?.parse()?;
        for text in &self.over {
            sweep::add_to_grid(&mut grid, text)?;
        }
        if grid.is_empty() {
            return Err(SweepError::Empty.into());
        }
        let points = sweep::points(&grid)?;
        sweep::claim(&self.dir, &self.plan(&points)?)?;
        let signals = Signals::listen().context("listening for signals")?;
        let mut rows = Vec::new();
        for (index, point) in points.iter().enumerate() {
            if !self.common.quiet && !self.common.json {
                writeln!(out, "point {} of {}: {}", index + 1, points.len(), point.name)?;
                out.flush()?;
            }
            match self.finished(point, signals)? {
                Some(outcome) => rows.push(self.row(point, outcome)),
                None => return self.stopped(out),
            }
        }
        self.tell(rows, out)?;
        Ok(DONE)
    }

    /// All points must be configurations before the first of them runs. Where the runs lie is no part of the plan.
    fn plan(&self, points: &[Point]) -> Result<Plan, ConfigError> {
        let config = |point: &Point| -> Result<(String, String), ConfigError> {
            let settings = self.settings_of(point, Path::new(&point.name));
            let config = Config::read_kind(&self.config, &settings, RunKind::Finetune)?;
            Ok((point.name.clone(), config.text))
        };
        Ok(Plan {
            checkpoint: self.checkpoint.clone(),
            configs: points.iter().map(config).collect::<Result<_, ConfigError>>()?,
        })
    }

    fn settings_of(&self, point: &Point, dir: &Path) -> Vec<String> {
        let mut settings = self.common.overrides();
        settings.extend(point.settings.iter().cloned());
        settings.push(format!("run.dir={}", toml::Value::String(dir.display().to_string())));
        settings
    }

    fn run_dir(&self, point: &Point) -> PathBuf {
        self.dir.join(&point.name)
    }

    /// Runs a point to its end, from wherever it stands. `None`: it was stopped by a signal.
    fn finished(&self, point: &Point, signals: &Signals) -> anyhow::Result<Option<Outcome>> {
        let dir = self.run_dir(point);
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.arg("finetune");
        match sweep::standing(&dir) {
            Standing::Done(outcome) => return Ok(Some(outcome)),
            Standing::Begun => command.arg("--resume").arg(&dir),
            Standing::Open => {
                command.arg(&self.config);
                match &self.checkpoint {
                    Some(checkpoint) => command.arg("--checkpoint").arg(checkpoint),
                    None => command.arg("--scratch"),
                };
                for setting in self.settings_of(point, &dir) {
                    command.arg("--set").arg(setting);
                }
                &mut command
            }
        };
        if self.common.quiet || self.common.json {
            command.arg("--quiet");
        }
        let status = run_to_end(&mut command, signals)?;
        match sweep::standing(&dir) {
            Standing::Done(outcome) => Ok(Some(outcome)),
            _ if signals.is_stop_asked() => Ok(None),
            _ => anyhow::bail!("the run in {} failed ({status}); its log tells why", dir.display()),
        }
    }

    fn row(&self, point: &Point, outcome: Outcome) -> Row {
        let run = self.run_dir(point).display().to_string();
        Row { kind: "point", run, settings: point.settings.clone(), outcome }
    }

    /// The table, best first; points without validation last.
    fn tell(&self, mut rows: Vec<Row>, out: &mut dyn Write) -> anyhow::Result<()> {
        let metric = |row: &Row| row.outcome.best.as_ref().map_or(f64::INFINITY, |best| best.metric);
        rows.sort_by(|a, b| metric(a).total_cmp(&metric(b)));
        let file = self.dir.join("table.json");
        write_durably(&file, (serde_json::to_string_pretty(&rows)? + "\n").as_bytes())?;
        if self.common.quiet {
            return Ok(());
        }
        if !self.common.json {
            writeln!(
                out,
                "{:>12}  {:>9}  {:>9}  {:>8}  settings",
                "validation", "at step", "steps", "minutes"
            )?;
        }
        for row in &rows {
            if self.common.json {
                writeln!(out, "{}", serde_json::to_string(row)?)?;
                continue;
            }
            let Outcome { step, minutes, best, .. } = &row.outcome;
            let (value, at) = match best {
                Some(best) => (format!("{:.6}", best.metric), best.step.to_string()),
                None => ("none".to_owned(), "none".to_owned()),
            };
            let settings = row.settings.join(" ");
            writeln!(out, "{value:>12}  {at:>9}  {step:>9}  {minutes:>8.1}  {settings}")?;
        }
        Ok(())
    }

    fn stopped(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        if !self.common.quiet && !self.common.json {
            writeln!(out, "stopped by a signal; the same command goes on in {}", self.dir.display())?;
        }
        Ok(FAILED)
    }
}

/// Waits for a run, which is out of the terminal's reach, and passes one signal on to it.
fn run_to_end(command: &mut Command, signals: &Signals) -> anyhow::Result<ExitStatus> {
    use std::os::unix::process::CommandExt;
    let mut child = command.process_group(0).stdin(Stdio::null()).spawn().context("starting a run")?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().context("waiting for a run")? {
            return Ok(status);
        }
        if signals.is_stop_asked() && !told {
            told = true;
            ask_to_stop(&child)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SIGTERM, upon which a run saves a checkpoint and ends.
fn ask_to_stop(child: &Child) -> anyhow::Result<()> {
    let status = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    let sent = status.context("sending SIGTERM")?.success();
    anyhow::ensure!(sent, "SIGTERM could not be sent to process {}", child.id());
    Ok(())
}
