//! A run from its first step to its last: learn, tell, judge, keep, stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use serde::Serialize;
use shards::stream::Cursor;

use crate::checkpoint::{Best, Info, SCHEMA_VERSION, Store};
use crate::config::sections::StopSection;
use crate::config::{Config, ScheduleConfig};
use crate::data::{GlobalBatch, TrainingData};
use crate::evaluate::{Judgement, validate};
use crate::learner::{Learner, StepReport};
use crate::metrics::Errors;
use crate::plan::RunPlan;
use crate::progress::{Meter, Progress, StepRecord, TaskLoss};
use crate::run_dir::RunDir;
use crate::scalar::ScalarErrors;
use crate::schedule::Schedule;
use crate::task::Task;

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Its epochs are over.
    Complete,
    /// `schedule.max_steps` or `stop.max_steps` was reached.
    MaxSteps,
    /// No better validation for too long.
    Patience,
    /// Learning rates have become too small.
    MinLr,
    /// `stop.minutes` are over.
    Minutes,
    /// Someone asked it to stop.
    Signal,
}

/// What a run amounts to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// `finished`.
    pub kind: &'static str,
    /// Why it ended.
    pub ending: Ending,
    /// Optimiser steps done.
    pub step: u64,
    /// Structures consumed.
    pub samples: u64,
    /// Minutes of training over all restarts.
    pub minutes: f64,
    /// Structures a second of this session.
    pub samples_per_second: f64,
    /// Share of this session's time spent waiting for data.
    pub waiting: f64,
    /// The best validation.
    pub best: Option<Best>,
    /// Where the run lies.
    pub run: String,
}

/// What a run remembers beside its learner.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Where the stream goes on.
    pub cursor: Cursor,
    /// The best validation.
    pub best: Option<Best>,
    /// Validations since then.
    pub stale_validations: u64,
    /// Minutes of earlier sessions.
    pub minutes: f64,
}

/// A validation as written to `metrics.jsonl`.
#[derive(Debug, Serialize)]
struct ValidationRecord<'a> {
    kind: &'static str,
    step: u64,
    epoch: f64,
    samples: u64,
    /// Minutes since the run began, this validation included.
    minutes: f64,
    metric: f64,
    tasks: &'a BTreeMap<String, Errors>,
}

/// A running run.
#[derive(Debug)]
pub struct Session<'a> {
    config: &'a Config,
    tasks: &'a [Task],
    plan: RunPlan,
    learner: Learner,
    data: TrainingData,
    run_dir: RunDir,
    store: Store,
    progress: Progress,
    memory: Memory,
    meter: Meter,
    stop: &'static AtomicBool,
    validated_at: Option<u64>,
}

impl<'a> Session<'a> {
    /// Starts the loader; nothing is learnt yet.
    pub fn start(
        (config, tasks, plan): (&'a Config, &'a [Task], RunPlan),
        learner: Learner,
        memory: Memory,
        run_dir: RunDir,
        progress: Progress,
        stop: &'static AtomicBool,
    ) -> anyhow::Result<Self> {
        let data = TrainingData::open(config, tasks, plan.epochs, memory.cursor)?;
        let store = run_dir.checkpoints(config.checkpoint.keep.get())?;
        let meter = Meter::start();
        Ok(Self {
            config,
            tasks,
            plan,
            learner,
            data,
            run_dir,
            store,
            progress,
            memory,
            meter,
            stop,
            validated_at: None,
        })
    }

    /// Runs to the end, whichever comes first.
    pub fn run(mut self) -> anyhow::Result<Outcome> {
        if self.learner.position().step == 0 {
            // From here on a killed run can be resumed.
            self.save()?;
        }
        let mut ending = self.reason_to_stop();
        while ending.is_none() {
            let Some(batch) = self.data.next().transpose()? else { break };
            let report = self.learner.step(&batch.parts)?;
            self.memory.cursor = batch.cursor;
            self.tell(&report, &batch)?;
            ending = self.reason_to_stop();
            let improved = self.is_validation_due(&batch, ending) && self.validate()?;
            ending = ending.or_else(|| self.reason_to_stop());
            if improved || ending.is_some() || self.is_checkpoint_due(&batch) {
                self.save()?;
            }
        }
        self.progress.finish();
        let outcome = self.outcome(ending.unwrap_or(Ending::Complete));
        self.run_dir.metric(&outcome)?;
        Ok(outcome)
    }

    fn tell(&mut self, report: &StepReport, batch: &GlobalBatch) -> anyhow::Result<()> {
        self.meter.count(report.structures, batch.waited);
        let at = self.learner.position();
        if let (true, Some(scale)) = (report.skipped, self.learner.loss_scale()) {
            let text = format!(
                "step {}: gradient overflowed, weights kept; loss scale {} now",
                at.step,
                scale.get()
            );
            self.run_dir.log(&text)?;
        }
        let losses = self.tasks.iter().enumerate().map(|(t, task)| {
            let loss = TaskLoss {
                energy_loss: report.tasks.energy_mean(t),
                force_loss: report.tasks.force_mean(t),
                structures: report.tasks.energies[t] as u64,
            };
            (task.record.name.clone(), loss)
        });
        let record = StepRecord {
            kind: "train",
            step: at.step,
            epoch: self.plan.epochs_at(at.samples),
            samples: at.samples,
            minutes: self.minutes(),
            loss: report.loss,
            gradient_norm: report.gradient_norm,
            lr: report.lrs.iter().copied().fold(0.0, f64::max),
            tasks: losses.filter(|(_, loss)| loss.structures > 0).collect(),
            samples_per_second: self.meter.rate(),
            waiting: self.meter.waiting(),
        };
        self.progress.step(&record);
        Ok(self.run_dir.metric(&record)?)
    }

    fn is_validation_due(&self, batch: &GlobalBatch, ending: Option<Ending>) -> bool {
        let rule = &self.config.validation;
        let due = match rule.every_steps {
            Some(every) => self.learner.position().step.is_multiple_of(every.get()),
            None => batch.ends_epoch() && batch.cursor.epoch.is_multiple_of(rule.every_epochs.get()),
        };
        let last = ending.is_some_and(|e| e != Ending::Signal);
        (due || last) && self.validated_at != Some(self.learner.position().step)
    }

    fn is_checkpoint_due(&self, batch: &GlobalBatch) -> bool {
        match self.config.checkpoint.every_steps {
            Some(every) => self.learner.position().step.is_multiple_of(every.get()),
            None => batch.ends_epoch(),
        }
    }

    /// Judges the averaged weights on the validation splits; true if they are the best so far.
    fn validate(&mut self) -> anyhow::Result<bool> {
        let (config, tasks) = (self.config, self.tasks);
        let judged =
            self.learner.evaluating(|network| validate(network, config, tasks)).context("validation")?;
        let Some(Judgement { metric, tasks }) = judged else { return Ok(false) };
        let at = self.learner.position();
        self.validated_at = Some(at.step);
        self.learner.validated(metric);
        let improved = self.memory.best.as_ref().is_none_or(|best| metric < best.metric);
        if improved {
            self.memory.best = Some(Best { step: at.step, metric });
            self.memory.stale_validations = 0;
        } else {
            self.memory.stale_validations += 1;
        }
        let epoch = self.plan.epochs_at(at.samples);
        let record = ValidationRecord {
            kind: "validation",
            step: at.step,
            epoch,
            samples: at.samples,
            minutes: self.minutes(),
            metric,
            tasks: &tasks,
        };
        let mark = if improved { " (best)" } else { "" };
        let text = format!("step {} · validation {metric:.5}{mark} · {}", at.step, errors_text(&tasks));
        self.progress.event(&text, &record);
        self.run_dir.log(&text)?;
        self.run_dir.metric(&record)?;
        Ok(improved)
    }

    fn reason_to_stop(&self) -> Option<Ending> {
        let at = self.learner.position();
        if self.stop.load(Ordering::Relaxed) {
            return Some(Ending::Signal);
        }
        if at.samples >= self.plan.total_samples {
            return Some(Ending::Complete);
        }
        match &self.config.schedule {
            ScheduleConfig::Pretrain(s) => {
                s.max_steps.filter(|m| at.step >= m.get()).map(|_| Ending::MaxSteps)
            }
            ScheduleConfig::Finetune(_, stop) => self.reason_to_stop_early(stop),
        }
    }

    fn reason_to_stop_early(&self, stop: &StopSection) -> Option<Ending> {
        let tired = stop.patience.is_some_and(|p| self.memory.stale_validations >= p.get());
        let late = stop.minutes.is_some_and(|m| self.minutes() >= m.get());
        let slow = match self.learner.schedule() {
            Schedule::Finetune(s) => {
                stop.min_lr.is_some_and(|lr| s.below(self.learner.position().step, lr.get()))
            }
            Schedule::Pretrain(_) => false,
        };
        let steps = stop.max_steps.is_some_and(|m| self.learner.position().step >= m.get());
        [(steps, Ending::MaxSteps), (tired, Ending::Patience), (slow, Ending::MinLr), (late, Ending::Minutes)]
            .into_iter()
            .find_map(|(yes, ending)| yes.then_some(ending))
    }

    fn minutes(&self) -> f64 {
        self.memory.minutes + self.meter.seconds() / 60.0
    }

    fn save(&mut self) -> anyhow::Result<()> {
        let info = Info {
            schema_version: SCHEMA_VERSION,
            kind: self.config.kind,
            position: self.learner.position(),
            minutes: self.minutes(),
            cursor: serde_json::to_value(self.memory.cursor)?,
            schedule: self.learner.schedule().clone(),
            seed: self.config.run.seed,
            loss_scale: self.learner.loss_scale(),
            best: self.memory.best.clone(),
            stale_validations: self.memory.stale_validations,
            model: self.config.model.clone(),
            tasks: self.tasks.iter().map(|t| t.record.clone()).collect(),
            config: self.config.text.clone(),
            origin: None,
            files: BTreeMap::new(),
        };
        let path = self.store.save(info, &self.learner.state())?;
        self.run_dir.log(&format!("checkpoint {}", path.display()))?;
        Ok(())
    }

    fn outcome(&self, ending: Ending) -> Outcome {
        let at = self.learner.position();
        Outcome {
            kind: "finished",
            ending,
            step: at.step,
            samples: at.samples,
            minutes: self.minutes(),
            samples_per_second: self.meter.rate(),
            waiting: self.meter.waiting(),
            best: self.memory.best.clone(),
            run: self.run_dir.path().display().to_string(),
        }
    }
}

/// Errors of all tasks in meV and meV/Å, or the unit of the property.
pub fn errors_text(tasks: &BTreeMap<String, Errors>) -> String {
    let milli = |value: Option<f64>, unit: &str, name: &str| {
        value.map(|v| format!("{name} {:.1} {unit}", 1e3 * v)).unwrap_or_default()
    };
    let text = |(name, e): (&String, &Errors)| {
        let scalar = e.scalar.as_ref().map(ScalarErrors::text).unwrap_or_default();
        let parts = [milli(e.energy_mae, "meV", "E"), milli(e.force_mae, "meV/Å", "F"), scalar];
        let known: Vec<String> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        format!("{name}: {}", known.join(", "))
    };
    tasks.iter().map(text).collect::<Vec<_>>().join(" · ")
}
