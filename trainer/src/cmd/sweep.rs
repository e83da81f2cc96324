//! `jmp-train sweep`: a fine-tuning run for each point of a grid, one after the other; interrupted, it goes on.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use shards::manifest::write_durably;

use super::launch::TakenArgs;
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
    #[command(flatten)]
    taken: TakenArgs,
    /// Train from random weights instead.
    #[arg(long, conflicts_with = "checkpoint")]
    scratch: bool,
    /// Go on with points whose run has failed, from its last checkpoint; otherwise they stay as they are.
    #[arg(long)]
    retry_failed: bool,
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
    outcome: Option<Outcome>,
    /// Why there is no outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// Exit code of a run whose input is at fault.
const BAD_INPUT: i32 = 2;

/// What came of a point.
enum Came {
    Finished(Outcome),
    Failed(String),
    /// It was stopped by a signal.
    Stopped,
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
            match self.come_of(point, index == 0, signals)? {
                Came::Finished(outcome) => rows.push(self.row(point, Some(outcome), None)),
                Came::Failed(failure) => rows.push(self.row(point, None, Some(failure))),
                Came::Stopped => return self.stopped(out),
            }
        }
        let failed = rows.iter().any(|row| row.failure.is_some());
        self.tell(rows, out)?;
        Ok(if failed { FAILED } else { DONE })
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
            taken: self.taken.words(),
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

    /// Runs a point to its end, from wherever it stands. A run that fails, because it diverges for example, leaves the others
    /// their turn.
    fn come_of(&self, point: &Point, is_first: bool, signals: &Signals) -> anyhow::Result<Came> {
        let dir = self.run_dir(point);
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.arg("finetune");
        match sweep::standing(&dir) {
            Standing::Done(outcome) => return Ok(Came::Finished(outcome)),
            Standing::Failed(failure) if !self.retry_failed => return Ok(Came::Failed(failure)),
            Standing::Begun => command.arg("--resume").arg(&dir),
            Standing::Failed(_) if sweep::is_begun(&dir) => command.arg("--resume").arg(&dir),
            Standing::Open | Standing::Failed(_) => {
                command.arg(&self.config);
                match &self.checkpoint {
                    Some(checkpoint) => command.arg("--checkpoint").arg(checkpoint).args(self.taken.words()),
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
        sweep::forget_failure(&dir)?;
        let (status, said) = run_to_end(&mut command, signals)?;
        match sweep::standing(&dir) {
            Standing::Done(outcome) => Ok(Came::Finished(outcome)),
            _ if signals.is_stop_asked() => Ok(Came::Stopped),
            // What is wrong with the first point is mostly wrong with them all.
            _ if status.code() == Some(BAD_INPUT) && is_first => {
                anyhow::bail!("the run in {} was refused ({status}); nothing else was begun", dir.display())
            }
            _ => {
                let failure = if said.is_empty() { status.to_string() } else { said };
                sweep::keep_failure(&dir, &failure)?;
                Ok(Came::Failed(failure))
            }
        }
    }

    fn row(&self, point: &Point, outcome: Option<Outcome>, failure: Option<String>) -> Row {
        let run = self.run_dir(point).display().to_string();
        Row { kind: "point", run, settings: point.settings.clone(), outcome, failure }
    }

    /// The table, best first; points without validation, and those that failed, last.
    fn tell(&self, mut rows: Vec<Row>, out: &mut dyn Write) -> anyhow::Result<()> {
        let best = |row: &Row| Some(row.outcome.as_ref()?.best.as_ref()?.metric);
        let metric = |row: &Row| best(row).unwrap_or(f64::INFINITY);
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
            let settings = row.settings.join(" ");
            let Some(Outcome { step, minutes, best, .. }) = &row.outcome else {
                let why = row.failure.as_deref().unwrap_or_default();
                writeln!(out, "{:>12}  {:>9}  {:>9}  {:>8}  {settings}: {why}", "failed", "", "", "")?;
                continue;
            };
            let (value, at) = match best {
                Some(best) => (format!("{:.6}", best.metric), best.step.to_string()),
                None => ("none".to_owned(), "none".to_owned()),
            };
            writeln!(out, "{value:>12}  {at:>9}  {step:>9}  {minutes:>8.1}  {settings}")?;
        }
        if rows.iter().any(|row| row.failure.is_some()) && !self.common.json {
            writeln!(out, "failed points stay as they are; --retry-failed goes on with them")?;
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

/// Waits for a run, which is out of the terminal's reach, and passes one signal on to it. Its messages go where ours go;
/// returns the last one that tells of an error, too, except of a run that draws its bar on a terminal.
fn run_to_end(command: &mut Command, signals: &Signals) -> anyhow::Result<(ExitStatus, String)> {
    use std::os::unix::process::CommandExt;
    let is_drawn = std::io::stderr().is_terminal();
    let messages = if is_drawn { Stdio::inherit() } else { Stdio::piped() };
    let command = command.process_group(0).stdin(Stdio::null()).stderr(messages);
    let mut child = command.spawn().context("starting a run")?;
    let messages = child.stderr.take().map(|pipe| std::thread::spawn(move || pass_on(pipe)));
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().context("waiting for a run")? {
            let said = messages.and_then(|thread| thread.join().ok()).unwrap_or_default();
            return Ok((status, said));
        }
        if signals.is_stop_asked() && !told {
            told = true;
            ask_to_stop(&child)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Writes a run's messages to standard error, line by line; returns the last that begins with `error:`, without that.
fn pass_on(pipe: impl Read) -> String {
    let mut said = String::new();
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if let Some(error) = line.strip_prefix("error: ") {
            error.clone_into(&mut said);
        }
        // A closed standard error must not end the run that writes to the pipe.
        drop(writeln!(std::io::stderr(), "{line}"));
    }
    said
}

/// SIGTERM, upon which a run saves a checkpoint and ends.
fn ask_to_stop(child: &Child) -> anyhow::Result<()> {
    let status = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    let sent = status.context("sending SIGTERM")?.success();
    anyhow::ensure!(sent, "SIGTERM could not be sent to process {}", child.id());
    Ok(())
}
