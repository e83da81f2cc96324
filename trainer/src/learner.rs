//! The training step: one global batch in, better weights out.

use std::collections::BTreeMap;
use std::time::Instant;

use shards::batch::HostBatch;
use thiserror::Error;

use crate::checkpoint::{Info, State, TaskRecord};
use crate::clip::{Bound, Clip};
use crate::config::sections::{LossSection, OptimizerSection, Precision};
use crate::ema::Ema;
use crate::loss::{Loss, LossCounts, TaskSums};
use crate::loss_scale::LossScale;
use crate::native;
use crate::network::Network;
use crate::optim::{AdamW, AdamWRule};
use crate::parameters::{ParameterError, Parameters, norm};
use crate::prediction::HostPrediction;
use crate::schedule::{Position, Schedule};

/// Why a step could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StepError {
    /// Loss or gradient is NaN or infinite. The weights have not moved.
    #[error("step {step}: the {what} is {value}; structures of the batch: {}", ids.join(", "))]
    NonFinite {
        /// Step that failed.
        step: u64,
        /// `loss` or `gradient's norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Ids of the structures in the batch.
        ids: Vec<String>,
    },
    /// libtorch refused.
    #[error("libtorch")]
    Torch(#[from] tch::TchError),
}

/// What a step tells of itself.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Where the run stood before the step.
    pub at: Position,
    /// The loss.
    pub loss: f64,
    /// Its parts by task.
    pub tasks: TaskSums,
    /// Total L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of each parameter group.
    pub lrs: Vec<f64>,
    /// Structures of the global batch.
    pub structures: u64,
    /// Whether the gradient overflowed in 16-bit floats, so that the weights did not move.
    pub skipped: bool,
    /// What took how long.
    pub times: StepTimes,
}

/// Parts of a step, s; on a GPU the time to ask for the work, not to do it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepTimes {
    /// From host arrays to tensors.
    pub batch: f64,
    /// Predictions and loss.
    pub forward: f64,
    /// Gradients.
    pub backward: f64,
    /// Clipping, AdamW and the average.
    pub optimizer: f64,
}

/// How a learner learns.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// AdamW, clipping, average.
    pub optimizer: &'a OptimizerSection,
    /// The loss.
    pub loss: LossSection,
    /// Seed of dropout.
    pub seed: u64,
    /// Width of activations.
    pub precision: Precision,
}

/// A network and everything that makes it better.
#[derive(Debug)]
pub struct Learner {
    network: Network,
    parameters: Parameters,
    optimizer: AdamW,
    ema: Option<Ema>,
    schedule: Schedule,
    loss: Loss,
    loss_scale: Option<LossScale>,
    clip: Clip,
    position: Position,
    seed: u64,
    divisors: BTreeMap<String, f64>,
}

impl Learner {
    /// A learner before its first step. `group` gives each parameter its place in the schedule's groups.
    pub fn new(
        rules: Rules,
        tasks: &[TaskRecord],
        network: Network,
        schedule: Schedule,
        group: impl Fn(&str) -> usize,
    ) -> Result<Self, ParameterError> {
        let position = Position { step: 0, samples: 0 };
        let groups = schedule.lrs(position).len();
        let parameters = Parameters::flatten(network.store(), groups, group)?;
        let optimizer = rules.optimizer;
        let rule = AdamWRule {
            betas: (optimizer.betas.0.get(), optimizer.betas.1.get()),
            eps: optimizer.eps.get(),
            weight_decay: optimizer.weight_decay.get(),
        };
        let weights = |of: fn(&TaskRecord) -> f64| tasks.iter().map(of).collect::<Vec<_>>();
        let (energy, forces) = (weights(|t| t.energy_weight), weights(|t| t.force_weight));
        let loss = Loss::new(rules.loss, &energy, &forces, parameters.values());
        let learner = Self {
            optimizer: AdamW::new(rule, &parameters),
            ema: optimizer.ema.map(|decay| Ema::new(decay.get(), &parameters)),
            loss: match tasks.iter().find_map(TaskRecord::class_weight) {
                Some(weight) => loss.of_classes(weight),
                None => loss,
            },
            loss_scale: (rules.precision == Precision::F16).then(LossScale::default),
            clip: optimizer.clip,
            seed: rules.seed,
            divisors: network.gradient_divisors(),
            network,
            parameters,
            schedule,
            position,
        };
        native::keep_memory();
        Ok(learner)
    }

    /// Learns from one global batch, given as micro-batches. The weights do not move on an error.
    pub fn step(&mut self, micro_batches: &[HostBatch]) -> Result<StepReport, StepError> {
        let at = self.position;
        let lrs = self.schedule.lrs(at);
        // Dropout is a function of seed and step, so that a resumed run draws what the uninterrupted one drew.
        tch::manual_seed(step_seed(self.seed, at.step));

        let mut counts = LossCounts::default();
        micro_batches.iter().for_each(|batch| counts.add(self.loss.counts(batch)));
        let (mut times, mut clock) = (StepTimes::default(), Clock::start());
        self.parameters.zero_gradients();
        clock.lap(&mut times.optimizer);
        let scale = self.loss_scale.map_or(1.0, LossScale::get);
        let (mut loss, mut tasks) = (0.0, TaskSums::default());
        for host in micro_batches {
            let batch = self.network.batch(host);
            clock.lap(&mut times.batch);
            let prediction = self.network.forward(&batch, true);
            let terms = self.loss.of(&prediction, &batch, &host.task, counts);
            drop(prediction);
            clock.lap(&mut times.forward);
            // Of the parameters alone: gradient forces make positions leaves, too.
            native::backward(&(&terms.total * scale), self.parameters.tensors())?;
            loss += terms.total.double_value(&[]);
            tasks.add(&terms.task_sums());
            clock.lap(&mut times.backward);
        }
        let finite = |what, value: f64| check_finite(at.step, what, value, micro_batches);
        finite("loss", loss)?;
        self.parameters.divide_shared(|name| self.divisors.get(name).copied());
        let gradient_norm = norm(self.parameters.gradients()) / scale;
        let skipped = !gradient_norm.is_finite() && self.loss_scale.is_some_and(LossScale::can_shrink);
        if skipped {
            self.optimizer.skip();
        } else {
            finite("gradient's norm", gradient_norm)?;
            let bound = self.clip.bound(gradient_norm);
            let bound = Bound { scale: bound.scale / scale, ..bound };
            self.optimizer.step(&mut self.parameters, &lrs, bound, self.ema.as_ref())?;
        }
        self.loss_scale = self.loss_scale.map(|scale| scale.after(!skipped));
        clock.lap(&mut times.optimizer);

        let structures = micro_batches.iter().map(|b| b.structures() as u64).sum();
        self.position = Position { step: at.step + 1, samples: at.samples + structures };
        Ok(StepReport { at, loss, tasks, gradient_norm, lrs, structures, skipped, times })
    }

    /// Runs `work` on the network with the averaged weights, or the weights where no average is kept.
    pub fn evaluating<T>(&mut self, work: impl FnOnce(&Network) -> T) -> T {
        match &self.ema {
            Some(ema) => ema.with_average(&mut self.parameters, || work(&self.network)),
            None => work(&self.network),
        }
    }

    /// Passes a validation metric on to the schedule.
    pub fn validated(&mut self, metric: f64) {
        self.schedule.validated(self.position.step, metric);
    }

    /// Where the run stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The loss scale, of runs in 16-bit floats.
    pub fn loss_scale(&self) -> Option<LossScale> {
        self.loss_scale
    }

    /// The schedule with its state.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The network, with the weights as they are.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Trainable numbers.
    pub fn size(&self) -> i64 {
        self.parameters.len()
    }

    /// Makes the average a copy of the weights again; after weights were loaded from elsewhere.
    pub fn restart_average(&mut self) {
        if let Some(ema) = &self.ema {
            let mut average = ema.average().shallow_clone();
            tch::no_grad(|| average.copy_(self.parameters.values()));
        }
    }

    /// Everything a checkpoint holds of the learner's tensors.
    pub fn state(&self) -> State {
        let (first, second) = self.optimizer.moments();
        let named = |flat| self.parameters.named(flat);
        let mut model = self.network.buffers();
        model.extend(named(self.parameters.values()));
        State {
            model,
            ema: self.ema.as_ref().map(|ema| named(ema.average())).unwrap_or_default(),
            first: named(first),
            second: named(second),
        }
    }

    /// Puts the learner where a checkpoint of the same run left it.
    pub fn restore(&mut self, info: &Info, state: &State) -> Result<(), ParameterError> {
        self.network.load_buffers(&state.model)?;
        self.parameters.copy_named(self.parameters.values(), &state.model)?;
        if let Some(ema) = &self.ema {
            self.parameters.copy_named(ema.average(), &state.ema)?;
        }
        let (first, second) = self.optimizer.moments();
        self.parameters.copy_named(first, &state.first)?;
        self.parameters.copy_named(second, &state.second)?;
        self.optimizer.restore(info.position.step);
        self.position = info.position;
        self.schedule = info.schedule.clone();
        self.loss_scale = self.loss_scale.map(|scale| info.loss_scale.unwrap_or(scale));
        Ok(())
    }
}

/// Predictions for a batch on the host, without anything left to differentiate.
pub fn predict(network: &Network, host: &HostBatch) -> Result<HostPrediction, tch::TchError> {
    network.forward(&network.batch(host), false).to_host()
}

/// Adds the time between laps to parts of a step.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self, part: &mut f64) {
        let now = Instant::now();
        *part += (now - self.0).as_secs_f64();
        self.0 = now;
    }
}

fn check_finite(step: u64, what: &'static str, value: f64, batches: &[HostBatch]) -> Result<(), StepError> {
    if value.is_finite() {
        return Ok(());
    }
    let ids = batches.iter().flat_map(|b| b.ids.clone()).collect();
    Err(StepError::NonFinite { step, what, value, ids })
}

/// SplitMix64 of seed and step: neighbouring steps get unrelated seeds.
fn step_seed(seed: u64, step: u64) -> i64 {
    let mut z =
        seed.wrapping_mul(0xA076_1D64_78BD_642F).wrapping_add(step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) as i64
}
