//! How a run is watched: a bar on a terminal, plain lines elsewhere, JSON lines for machines, or nothing.

use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Time between plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Which way a run tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A bar where standard error is a terminal, lines otherwise.
    Human,
    /// One JSON object a line.
    Json,
    /// Nothing but errors.
    Quiet,
}

/// Losses of one task in a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskLoss {
    /// Mean weighed error of its structures' energies, or of the property, normalised units.
    pub energy_loss: f64,
    /// Mean weighed force error; absent where no forces are learnt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_loss: Option<f64>,
    /// Structures of it in the step that have an energy.
    pub structures: u64,
}

/// One optimiser step, as written to `metrics.jsonl` and told to the user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepRecord {
    /// `train`.
    pub kind: &'static str,
    /// Optimiser steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: f64,
    /// Structures consumed.
    pub samples: u64,
    /// Minutes since the run began, validations and checkpoints included, the time between sessions not.
    pub minutes: f64,
    /// Loss of the step.
    pub loss: f64,
    /// L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Largest learning rate of the parameter groups.
    pub lr: f64,
    /// Losses by task; tasks without a label in the step are left out.
    pub tasks: std::collections::BTreeMap<String, TaskLoss>,
    /// Structures a second since the session began.
    pub samples_per_second: f64,
    /// Share of the session's time spent waiting for data.
    pub waiting: f64,
}

/// Throughput of a session.
#[derive(Debug)]
pub struct Meter {
    begin: Instant,
    waited: Duration,
    samples: u64,
}

impl Meter {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { begin: Instant::now(), waited: Duration::ZERO, samples: 0 }
    }

    /// Counts a step.
    pub fn count(&mut self, samples: u64, waited: Duration) {
        self.samples += samples;
        self.waited += waited;
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Structures a second.
    pub fn rate(&self) -> f64 {
        self.samples as f64 / self.seconds().max(1e-9)
    }

    /// Share of the time spent waiting for data.
    pub fn waiting(&self) -> f64 {
        self.waited.as_secs_f64() / self.seconds().max(1e-9)
    }
}

/// Tells of a run's steps.
pub struct Progress {
    mode: Mode,
    bar: Option<ProgressBar>,
    out: Box<dyn Write>,
    last_line: Option<Instant>,
    total: u64,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("mode", &self.mode)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// For a run of `total` structures. JSON goes to `out`, everything else to standard error.
    pub fn new(mode: Mode, total: u64, out: Box<dyn Write>) -> Self {
        let target = ProgressDrawTarget::stderr();
        let bar = (mode == Mode::Human && !target.is_hidden()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), target);
            let style = ProgressStyle::with_template("{bar:30} {percent}% · {msg} · {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { mode, bar, out, last_line: None, total }
    }

    /// Tells of a step.
    pub fn step(&mut self, record: &StepRecord) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Json => self.json(record),
            Mode::Human => {
                let text = step_text(record);
                if let Some(bar) = &self.bar {
                    bar.set_position(record.samples);
                    bar.set_message(text);
                } else if self.last_line.is_none_or(|t| t.elapsed() >= LINE_INTERVAL) {
                    self.last_line = Some(Instant::now());
                    let left = (self.total.saturating_sub(record.samples)) as f64 / record.samples_per_second;
                    self.line(&format!("{text} · {} left", duration(left)));
                }
            }
        }
    }

    /// Tells of anything else: a validation, a checkpoint. `value` is what machines get.
    pub fn event(&mut self, text: &str, value: &impl Serialize) {
        match self.mode {
            Mode::Quiet => {}
            Mode::Json => self.json(value),
            Mode::Human => self.line(text),
        }
    }

    /// Ends the bar.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| drop(writeln!(std::io::stderr(), "{text}"))),
            // A closed standard error must not end a training run.
            None => drop(writeln!(std::io::stderr(), "{text}")),
        }
    }

    fn json(&mut self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            // As above: the run matters more than who reads of it.
            drop(writeln!(self.out, "{text}"));
        }
    }
}

fn step_text(record: &StepRecord) -> String {
    let mut text = format!("step {} · epoch {:.2} · loss {:.4}", record.step, record.epoch, record.loss);
    for (name, loss) in &record.tasks {
        let _ = match loss.force_loss {
            Some(forces) => write!(text, " · {name} E {:.3} F {forces:.3}", loss.energy_loss),
            None => write!(text, " · {name} {:.3}", loss.energy_loss),
        };
    }
    let _ = write!(
        text,
        " · lr {:.2e} · {:.1} samples/s · {:.0} % waiting",
        record.lr,
        record.samples_per_second,
        100.0 * record.waiting
    );
    text
}

/// A length of time for people.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".into();
    }
    let seconds = seconds.max(0.0) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(7.9), "7 s");
        assert_eq!(duration(61.0), "1 min 01 s");
        assert_eq!(duration(7384.0), "2 h 03 min");
        assert_eq!(duration(f64::INFINITY), "unknown");
    }
}
