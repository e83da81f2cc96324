//! A run from its first step to its last: learn, tell, judge, keep, stop.

mod machines;
mod outcome;
mod passing_over;
mod saving;
mod telling;

use std::rc::Rc;
use std::time::Duration;

use shards::stream::{Next, Share};

use crate::checkpoint::{Best, Writer};
use crate::config::sections::StopSection;
use crate::config::{Config, ScheduleConfig};
use crate::data::{GlobalBatch, TrainingData};
use crate::distributed::{Asked, World};
use crate::evaluate::{Interrupted, Judge, Judgement, validate};
use crate::learner::{Learner, StepError, StepReport, Whole};
use crate::plan::RunPlan;
use crate::progress::{Meter, Progress};
use crate::run_dir::RunDir;
use crate::schedule::Schedule;
use crate::signals::Signals;
use crate::task::Task;
use crate::watch::Watch;

use machines::SessionRecord;
use outcome::ValidationRecord;
pub use outcome::{Ending, Memory, Outcome, errors_text};

/// How long a rank waits for data before it looks whether someone asks for something.
const PATIENCE: Duration = Duration::from_millis(200);

/// What came of waiting for a global batch.
enum Awaited {
    Batch(Box<GlobalBatch>),
    /// There are no more.
    End,
    /// The run is to stop before it is there.
    GivenUp,
}

/// What came of a global batch.
enum Learnt {
    Step(Box<StepReport>),
    /// It was passed over.
    Nothing,
    /// The run is to stop, and the batch comes again when it goes on.
    GivenUp,
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
    /// Of rank 0 alone.
    writer: Option<Writer>,
    watch: Watch,
    memory: Memory,
    meter: Meter,
    signals: &'static Signals,
    validated_at: Option<u64>,
    world: Rc<World>,
    asked: Asked,
}

impl<'a> Session<'a> {
    /// Starts the loader; nothing is learnt yet.
    pub fn start(
        (config, tasks, plan): (&'a Config, &'a [Task], RunPlan),
        (mut learner, memory): (Learner, Memory),
        run_dir: RunDir,
        progress: Progress,
        (signals, world): (&'static Signals, Rc<World>),
    ) -> anyhow::Result<Self> {
        learner.join(world.clone(), config.model.recompute)?;
        let share = Share { rank: world.rank(), ranks: world.ranks() };
        let data = TrainingData::open(config, tasks, plan.epochs, share, memory.cursor.clone())?;
        let (mut run, mut writer) = (config.run.clone(), None);
        if world.is_first() {
            let store = run_dir.checkpoints(config.checkpoint.keep.get())?;
            writer = Some(Writer::new(store, config.checkpoint.background));
        } else {
            (run.tensorboard, run.prometheus) = (false, None);
        }
        let watch = Watch::open(&run, run_dir.path(), learner.position().step, progress)?;
        Ok(Self {
            config,
            tasks,
            plan,
            learner,
            data,
            run_dir,
            writer,
            watch,
            memory,
            meter: Meter::start(),
            signals,
            validated_at: None,
            world,
            asked: Asked::default(),
        })
    }

    /// Runs to the end, whichever comes first.
    pub fn run(mut self) -> anyhow::Result<Outcome> {
        if self.learner.position().step == 0 {
            // From here on a killed run can be resumed.
            self.save()?;
        }
        let begin = (self.learner.position().step, self.memory.minutes);
        let device = self.learner.network().store().device();
        self.run_dir.metric(&SessionRecord::of(&self.world, device, begin)?)?;
        self.asked = self.asking().of_all(&self.world)?;
        if self.asked.save {
            // Asked while the run was being prepared: not to be put off until a step is done.
            self.save()?;
        }
        let mut ending = self.reason_to_stop();
        if self.memory.validation_due && !self.asked.stop {
            // Also of a run whose last step is done.
            self.validate_and_save(ending.is_some())?;
            ending = self.reason_to_stop();
        }
        while ending.is_none() {
            let batch = match self.await_batch()? {
                Awaited::Batch(batch) => *batch,
                Awaited::End => {
                    self.validate_and_save_at_end()?;
                    ending = Some(self.unless_interrupted(Ending::Complete));
                    break;
                }
                Awaited::GivenUp => {
                    ending = Some(Ending::Signal);
                    self.save()?;
                    break;
                }
            };
            let learnt = self.learn(&batch)?;
            if matches!(learnt, Learnt::GivenUp) {
                ending = Some(Ending::Signal);
                self.save()?;
                break;
            }
            self.memory.cursor = batch.cursor.clone();
            self.leave_out(&batch)?;
            self.tell(&learnt, &batch)?;
            ending = self.reason_to_stop();
            let due = ending.is_some() || self.is_checkpoint_due(&batch) || self.asked.save;
            if self.is_validation_due(&batch) {
                self.validate_and_save(due)?;
                let ended = ending.or_else(|| self.reason_to_stop());
                ending = ended.map(|ending| self.unless_interrupted(ending));
            } else if due {
                self.save()?;
            }
            self.data.give_back(batch);
        }
        self.watch.finish();
        let written = self.writer.as_mut().map(Writer::wait).transpose()?.unwrap_or_default();
        self.log_checkpoints(&written)?;
        let outcome = self.outcome(ending.unwrap_or(Ending::Complete));
        self.run_dir.metric(&outcome)?;
        Ok(outcome)
    }

    /// The next global batch; signals that come while it is waited for are answered at once.
    fn await_batch(&mut self) -> anyhow::Result<Awaited> {
        loop {
            match self.data.next_within(PATIENCE) {
                Next::Item(batch) => return Ok(Awaited::Batch(Box::new(batch?))),
                Next::End => return Ok(Awaited::End),
                Next::NotYet if self.heed_signals()? => break,
                Next::NotYet => {}
            }
        }
        // The other ranks may have begun the step, and wait at its end for what this one says.
        self.learner.begin(Whole::default());
        match self.learner.finish(&[], Asked { give_up: true, ..self.asking() }) {
            Err(StepError::GivenUp) => {
                self.asked = self.learner.last_asked();
                Ok(Awaited::GivenUp)
            }
            Err(error) => Err(error.into()),
            Ok(_) => anyhow::bail!("a step that was given up moved the weights"),
        }
    }

    /// How a run ends whose last validation may have been cut short, to be made when it goes on.
    fn unless_interrupted(&self, ending: Ending) -> Ending {
        if self.memory.validation_due { Ending::Signal } else { ending }
    }

    /// Learns from a global batch together with the other ranks.
    fn learn(&mut self, batch: &GlobalBatch) -> anyhow::Result<Learnt> {
        self.learner.begin(Whole::planned(self.learner.loss(), &batch.totals));
        let mut give_up = false;
        for (place, host) in batch.parts.iter().enumerate() {
            give_up = self.heed_signals()?;
            if give_up {
                break;
            }
            self.learner.add(host, place + 1 == batch.parts.len())?;
        }
        let finished = self.learner.finish(&batch.parts, Asked { give_up, ..self.asking() });
        self.asked = self.learner.last_asked();
        match finished {
            Ok(report) => Ok(Learnt::Step(Box::new(report))),
            Err(StepError::GivenUp) => Ok(Learnt::GivenUp),
            Err(error @ StepError::NonFinite { .. }) => {
                self.pass_over(error, batch).map(|()| Learnt::Nothing)
            }
            Err(error @ StepError::NonFiniteElsewhere { .. }) => {
                self.pass_over_with_others(&error).map(|()| Learnt::Nothing)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Answers signals in the middle of a step or validation; true if it is to be given up.
    fn heed_signals(&mut self) -> anyhow::Result<bool> {
        if self.world.is_first() && self.signals.take_save() {
            // Saved as it was before the step, which goes on.
            self.save()?;
        }
        Ok(is_stop_near(self.signals, &self.world))
    }

    fn is_validation_due(&self, batch: &GlobalBatch) -> bool {
        let rule = &self.config.validation;
        let due = match rule.every_steps {
            Some(every) => self.learner.position().step.is_multiple_of(every.get()),
            None => batch.ends_epoch() && batch.cursor.epoch.is_multiple_of(rule.every_epochs.get()),
        };
        // A signal that comes with the last step cuts its validation short, which is then made when the run goes on.
        (due || self.reason_to_end().is_some()) && self.validated_at != Some(self.learner.position().step)
    }

    /// As after the last step of a run that is complete.
    fn validate_and_save_at_end(&mut self) -> anyhow::Result<()> {
        if self.validated_at == Some(self.learner.position().step) {
            self.save()
        } else {
            self.validate_and_save(true)
        }
    }

    fn is_checkpoint_due(&self, batch: &GlobalBatch) -> bool {
        match self.config.checkpoint.every_steps {
            Some(every) => self.learner.position().step.is_multiple_of(every.get()),
            None => batch.ends_epoch(),
        }
    }

    /// Validates, and saves if the result is the best so far, `due` says so, or the run is to stop.
    ///
    /// A validation that a signal cuts short is remembered by the checkpoint and made when the run goes on.
    fn validate_and_save(&mut self, due: bool) -> anyhow::Result<()> {
        self.memory.validation_due = true;
        loop {
            match self.validate() {
                Ok(improved) => {
                    self.memory.validation_due = false;
                    let due = due || self.asked.save || self.reason_to_stop().is_some();
                    return if improved || due { self.save() } else { Ok(()) };
                }
                Err(error) if error.is::<Interrupted>() => {
                    self.save()?;
                    if self.asked.stop {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.context("validation")),
            }
        }
    }

    /// Judges the averaged weights on the validation splits; true if they are the best so far.
    fn validate(&mut self) -> anyhow::Result<bool> {
        let (config, tasks, signals, world) = (self.config, self.tasks, self.signals, self.world.clone());
        let interrupted = || is_stop_near(signals, &world) || signals.is_save_asked();
        let judged = self
            .learner
            .evaluating(|network| validate(Judge { network, config, tasks, world: &world }, interrupted));
        // A rank with an error says so and ends; it must not answer what the others still ask in the validation.
        let judged = match judged {
            Err(error) if !error.is::<Interrupted>() => return Err(error),
            judged => judged,
        };
        self.asked = self.asking().of_all(&self.world)?;
        let judged = judged?;
        let Some(Judgement { metric, tasks }) = judged else { return Ok(false) };
        let at = self.learner.position();
        self.validated_at = Some(at.step);
        self.learner.validated(metric);
        if !metric.is_finite() {
            return self.pass_over_validation(metric, &tasks).map(|()| false);
        }
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
        self.watch.validation(&text, &record, (at.step, metric), &tasks)?;
        self.run_dir.log(&text)?;
        self.run_dir.metric(&record)?;
        Ok(improved)
    }

    /// What this rank would have all do. A clock and a signal are one rank's own; all must stop at the same step.
    fn asking(&self) -> Asked {
        let late = match &self.config.schedule {
            ScheduleConfig::Finetune(_, stop) => stop.minutes.is_some_and(|m| self.minutes() >= m.get()),
            ScheduleConfig::Pretrain(_) => false,
        };
        let stop = is_stop_near(self.signals, &self.world);
        Asked { stop, late, save: self.signals.take_save(), give_up: false }
    }

    fn reason_to_stop(&self) -> Option<Ending> {
        if self.asked.stop { Some(Ending::Signal) } else { self.reason_to_end() }
    }

    /// Why the run would be over if nobody asked it to stop.
    fn reason_to_end(&self) -> Option<Ending> {
        let at = self.learner.position();
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
        let late = self.asked.late;
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

    fn outcome(&self, ending: Ending) -> Outcome {
        let at = self.learner.position();
        Outcome {
            kind: "finished",
            ending,
            step: at.step,
            samples: at.samples,
            left_out: self.memory.left_out,
            minutes: self.minutes(),
            samples_per_second: self.meter.rate(),
            waiting: self.meter.waiting(),
            best: self.memory.best.clone(),
            run: self.run_dir.path().display().to_string(),
        }
    }
}

/// Whether this rank was asked to stop, of which it tells the others, or another tells of it.
fn is_stop_near(signals: &Signals, world: &World) -> bool {
    if signals.is_stop_asked() {
        world.tell_stop();
        return true;
    }
    world.is_stop_told()
}
