//! The training step: one global batch in, better weights out.

mod advance;
mod ranks;
mod step;

use std::collections::BTreeMap;
use std::time::Instant;

use shards::batch::HostBatch;
use tch::Tensor;
use thiserror::Error;

use crate::checkpoint::{Info, State, TaskRecord};
use crate::clip::Clip;
use crate::config::sections::{LossSection, OptimizerSection, Precision};
use crate::distributed::Together;
use crate::ema::Ema;
use crate::guard::{self, Refusal};
use crate::loss::{Loss, LossCounts, LossTerms, TaskSums, TaskWeights};
use crate::loss_scale::LossScale;
use crate::native;
use crate::network::Network;
use crate::optim::{AdamW, AdamWRule};
use crate::parameters::{ParameterError, Parameters, norm};
use crate::pcgrad::Surgery;
use crate::prediction::HostPrediction;
use crate::schedule::{Position, Schedule};

use advance::Begun;
pub use ranks::Whole;
use step::{Clock, step_seed};
pub use step::{StepError, StepReport, StepTimes};

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
    surgery: Option<Surgery>,
    clip: Clip,
    position: Position,
    seed: u64,
    divisors: BTreeMap<String, f64>,
    tasks: usize,
    together: Together,
    begun: Begun,
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
        let weights: Vec<TaskWeights> = tasks.iter().map(TaskWeights::of).collect();
        let loss = Loss::new(rules.loss, &weights, parameters.values());
        let learner = Self {
            optimizer: AdamW::new(rule, &parameters),
            ema: optimizer.ema.map(|decay| Ema::new(decay.get(), &parameters)),
            loss: match tasks.iter().find_map(TaskRecord::class_weight) {
                Some(weight) => loss.of_classes(weight),
                None => loss,
            },
            surgery: rules.loss.pcgrad.map(|tasks_are| Surgery::new(tasks_are, tasks.len(), &parameters)),
            loss_scale: (rules.precision == Precision::F16).then(LossScale::default),
            clip: optimizer.clip,
            seed: rules.seed,
            divisors: network.gradient_divisors(),
            network,
            parameters,
            schedule,
            position,
            tasks: tasks.len(),
            together: Together::alone(),
            begun: Begun::default(),
        };
        native::keep_memory();
        Ok(learner)
    }

    /// Passes over the global batch that could not be learnt from: a step of the schedule, no update of the optimiser.
    pub fn pass_over(&mut self) {
        let Position { step, samples } = self.position;
        self.position = Position { step: step + 1, samples: samples + self.begun.whole.structures };
    }

    /// Counts structures that were left out for their size as consumed: they belong to the epoch.
    pub fn leave_out(&mut self, structures: u64) {
        self.position.samples += structures;
    }

    /// Loss and gradient norm of these micro-batches of the step at `at` together, each with its number in it, for weights
    /// that were loaded before.
    pub fn replay(
        &mut self,
        at: Position,
        parts: &[(usize, &HostBatch)],
        counts: LossCounts,
    ) -> Result<(f64, f64), StepError> {
        self.position = at;
        self.clear();
        let (mut times, mut clock) = (StepTimes::default(), Clock::at(Instant::now()));
        let mut loss = 0.0;
        for (number, host) in parts {
            loss += self.learn(*number, host, counts, (&mut times, &mut clock))?.0;
        }
        Ok((loss, self.gather_gradient() / self.loss_scale.map_or(1.0, LossScale::get)))
    }

    /// Scales losses as the run did that kept `saved`, if this one computes in 16-bit floats, too.
    pub fn scale_losses(&mut self, saved: Option<LossScale>) {
        self.loss_scale = self.loss_scale.map(|scale| saved.unwrap_or(scale));
    }

    /// The gradients by parameter, as the last pass left them.
    pub fn gradients(&self) -> BTreeMap<String, Tensor> {
        self.parameters.named(self.parameters.gradients())
    }

    fn clear(&mut self) {
        self.parameters.zero_gradients();
        if let Some(surgery) = &mut self.surgery {
            surgery.clear();
        }
    }

    /// Adds the gradient of one micro-batch; its share of the loss and the sums by task.
    fn learn(
        &mut self,
        number: usize,
        host: &HostBatch,
        counts: LossCounts,
        (times, clock): (&mut StepTimes, &mut Clock),
    ) -> Result<(f64, TaskSums), StepError> {
        let step = self.position.step;
        // Dropout is a function of seed, step and micro-batch: a resumed run draws what the uninterrupted one drew, and a
        // micro-batch draws the same wherever it is computed.
        tch::manual_seed(step_seed(self.seed, step, number));
        let pass = || -> Result<(f64, TaskSums), tch::TchError> {
            let batch = self.network.batch(host);
            clock.lap(&mut times.batch);
            let prediction = self.network.forward(&batch, true);
            let terms = self.loss.of(&prediction, &batch, &host.task, counts);
            drop(prediction);
            clock.lap(&mut times.forward);
            self.differentiate(&terms)?;
            let told = (terms.total.double_value(&[]), terms.task_sums());
            clock.lap(&mut times.backward);
            Ok(told)
        };
        guard::out_of_memory(pass).map_err(|refusal| match refusal {
            Refusal::Memory(told) => StepError::OutOfMemory { step, sizes: guard::sizes(host), told },
            Refusal::Torch(error) => error.into(),
        })
    }

    /// Adds the gradient of a loss to the parameters', or to those of its tasks.
    fn differentiate(&mut self, terms: &LossTerms) -> Result<(), tch::TchError> {
        let scale = self.loss_scale.map_or(1.0, LossScale::get);
        // Of the parameters alone: gradient forces make positions leaves, too.
        let Some(surgery) = &mut self.surgery else {
            return native::backward(&(&terms.total * scale), self.parameters.tensors());
        };
        for (task, part) in terms.parts(surgery.tasks()).iter().enumerate() {
            let gradients = Tensor::f_run_backward(&[part * scale], self.parameters.tensors(), true, false)?;
            self.parameters.add_ordered(surgery.gradient(task), &gradients);
        }
        Ok(())
    }

    /// Ends the passes of a step: divides what blocks share, settles conflicts of tasks. Returns the gradient's L2 norm.
    fn gather_gradient(&mut self) -> f64 {
        if let Some(surgery) = &mut self.surgery {
            for task in 0..surgery.len() {
                self.parameters
                    .divide_shared(surgery.gradient(task), |name| self.divisors.get(name).copied());
            }
            let mut total = self.parameters.gradients().shallow_clone();
            surgery.combine(step_seed(self.seed, self.position.step, 0) as u64, &mut total);
        } else {
            let gradients = self.parameters.gradients();
            self.parameters.divide_shared(gradients, |name| self.divisors.get(name).copied());
        }
        norm(self.parameters.gradients())
    }

    /// The first micro-batch whose own gradient is not finite.
    fn find_non_finite(
        &mut self,
        micro_batches: &[HostBatch],
        counts: LossCounts,
    ) -> Result<Option<usize>, StepError> {
        for (number, host) in micro_batches.iter().enumerate() {
            let (_, norm) = self.replay(self.position, &[(host.index as usize, host)], counts)?;
            if !norm.is_finite() {
                return Ok(Some(number));
            }
        }
        Ok(None)
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
            updates: Some(self.optimizer.updates()),
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
        self.optimizer.restore(state.updates.unwrap_or(info.position.step));
        self.position = info.position;
        self.schedule = info.schedule.clone();
        self.scale_losses(info.loss_scale);
        Ok(())
    }
}

/// Why a batch cannot be judged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PredictError {
    /// There is not enough memory for it.
    #[error(
        "out of memory for a batch of {sizes}; use a smaller validation.batch_size or sampling.max_atoms, or run.precision = \
         \"bf16\" ({told})"
    )]
    OutOfMemory {
        /// Of the batch.
        sizes: String,
        /// libtorch's words.
        told: String,
    },
    /// libtorch refused.
    #[error("libtorch")]
    Torch(#[source] tch::TchError),
}

/// Predictions for a batch on the host, without anything left to differentiate.
pub fn predict(network: &Network, host: &HostBatch) -> Result<HostPrediction, PredictError> {
    let work = || network.forward(&network.batch(host), false).to_host();
    guard::out_of_memory(work).map_err(|refusal| match refusal {
        Refusal::Memory(told) => PredictError::OutOfMemory { sizes: guard::sizes(host), told },
        Refusal::Torch(error) => PredictError::Torch(error),
    })
}
