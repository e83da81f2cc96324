//! A step from its first micro-batch to the weights that have moved.

use std::time::Instant;

use shards::batch::HostBatch;

use super::ranks::Whole;
use super::step::{Clock, StepError, StepReport, StepTimes, non_finite};
use super::{Learner, LossScale};
use crate::clip::Bound;
use crate::distributed::{Asked, DistributedError};
use crate::loss::TaskSums;
use crate::schedule::Position;

/// A step that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// The global batch.
    pub(super) whole: Whole,
    loss: f64,
    tasks: TaskSums,
    /// This rank's micro-batches so far.
    added: usize,
    /// The first of them whose loss is not finite, and its loss.
    to_blame: Option<(usize, f64)>,
    times: StepTimes,
    clock: Clock,
    /// What any rank asked at its end.
    pub(super) asked: Asked,
}

impl Default for Begun {
    fn default() -> Self {
        Self {
            whole: Whole::default(),
            loss: 0.0,
            tasks: TaskSums::default(),
            added: 0,
            to_blame: None,
            times: StepTimes::default(),
            clock: Clock::at(Instant::now()),
            asked: Asked::default(),
        }
    }
}

impl Learner {
    /// Learns from the micro-batches of one global batch, all of which this process has.
    pub fn step(&mut self, micro_batches: &[HostBatch]) -> Result<StepReport, StepError> {
        self.step_of(Whole::counted(&self.loss, micro_batches), micro_batches)
    }

    /// Learns from a global batch of which this rank has these micro-batches.
    pub fn step_of(&mut self, whole: Whole, micro_batches: &[HostBatch]) -> Result<StepReport, StepError> {
        self.begin(whole);
        for (place, host) in micro_batches.iter().enumerate() {
            self.add(host, place + 1 == micro_batches.len())?;
        }
        self.finish(micro_batches, Asked::default())
    }

    /// Begins a step on a global batch. Every rank does, also one that has no micro-batch of it.
    ///
    /// What an earlier step had begun and not finished is forgotten. Weights, moments and average stay as they are until
    /// [`Self::finish`] moves them: the learner may be saved between micro-batches.
    pub fn begin(&mut self, whole: Whole) {
        let clock = Clock::at(Instant::now());
        self.clear();
        self.begun = Begun { whole, tasks: TaskSums::zeros(self.tasks), clock, ..Begun::default() };
        self.begun.clock.lap(&mut self.begun.times.optimizer);
    }

    /// Adds the gradient of a micro-batch; `is_last` says that this rank has no other.
    pub fn add(&mut self, host: &HostBatch, is_last: bool) -> Result<(), StepError> {
        if is_last {
            self.together.before_last_backward();
        }
        let Begun { whole, mut times, mut clock, .. } = self.begun;
        let (loss, sums) = self.learn(host.index as usize, host, whole.counts, (&mut times, &mut clock))?;
        let begun = &mut self.begun;
        (begun.times, begun.clock) = (times, clock);
        if !loss.is_finite() {
            begun.to_blame = begun.to_blame.or(Some((begun.added, loss)));
        }
        begun.loss += loss;
        begun.tasks.add(&sums);
        begun.added += 1;
        Ok(())
    }

    /// Ends the step together with the other ranks, whatever came of this rank's part; `micro_batches` are those it had.
    /// The weights do not move on an error, nor when any rank asks to give up, on any rank.
    pub fn finish(&mut self, micro_batches: &[HostBatch], asked: Asked) -> Result<StepReport, StepError> {
        let at = self.position;
        let lrs = self.schedule.lrs(at);
        let Begun { whole, mut loss, ref mut tasks, to_blame, mut times, mut clock, .. } = self.begun;
        let mut tasks = std::mem::take(tasks);
        let scale = self.loss_scale.map_or(1.0, LossScale::get);
        self.exchange_gradients()?;
        clock.lap(&mut times.exchange);
        let mut gradient_norm = self.gather_gradient() / scale;
        clock.lap(&mut times.optimizer);
        let asked = self.together.sum_step(&mut loss, &mut gradient_norm, &mut tasks, asked)?;
        clock.lap(&mut times.exchange);
        self.begun.asked = asked;
        if asked.give_up {
            return Err(StepError::GivenUp);
        }
        if !loss.is_finite() {
            let value = to_blame.map_or(loss, |(_, part)| part);
            let part = to_blame.map(|(place, _)| place);
            return Err(self.not_finite(("loss", value), micro_batches, part)?);
        }
        let skipped = self.move_weights(gradient_norm, &lrs, micro_batches)?;
        clock.lap(&mut times.optimizer);
        let structures = whole.structures;
        self.position = Position { step: at.step + 1, samples: at.samples + structures };
        Ok(StepReport { at, loss, tasks, gradient_norm, lrs, structures, skipped, times })
    }

    /// Clipping, AdamW and the average; whether the weights stayed because the gradient overflowed in 16-bit floats.
    fn move_weights(
        &mut self,
        gradient_norm: f64,
        lrs: &[f64],
        micro_batches: &[HostBatch],
    ) -> Result<bool, StepError> {
        let scale = self.loss_scale.map_or(1.0, LossScale::get);
        let skipped = !gradient_norm.is_finite() && self.loss_scale.is_some_and(LossScale::can_shrink);
        if gradient_norm.is_finite() {
            let bound = self.clip.bound(gradient_norm);
            let bound = Bound { scale: bound.scale / scale, ..bound };
            self.optimizer.step(&mut self.parameters, lrs, bound, self.ema.as_ref())?;
        } else if !skipped {
            let part = self.find_non_finite(micro_batches, self.begun.whole.counts)?;
            return Err(self.not_finite(("gradient's norm", gradient_norm), micro_batches, part)?);
        }
        self.loss_scale = self.loss_scale.map(|scale| scale.after(!skipped));
        Ok(skipped)
    }

    /// The error of a step whose loss or gradient is not finite, which all ranks find out together. Those with a micro-batch
    /// to blame keep it; where no rank has one, because the sum alone is not finite, rank 0 keeps all of its own.
    fn not_finite(
        &self,
        (what, value): (&'static str, f64),
        micro_batches: &[HostBatch],
        part: Option<usize>,
    ) -> Result<StepError, DistributedError> {
        let (step, world) = (self.position.step, self.together.world());
        let is_found = world.any(part.is_some())?;
        if part.is_some() || (!is_found && world.is_first()) {
            return Ok(non_finite(step, (what, value), micro_batches, part));
        }
        Ok(StepError::NonFiniteElsewhere { step, what })
    }
}
