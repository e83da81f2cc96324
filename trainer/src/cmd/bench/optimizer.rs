//! Clipping, AdamW and the average of the weights, without a model's passes.

use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use super::median;
use crate::config::StepConfig;
use crate::config::number::Fraction;
use crate::ema::Ema;
use crate::native;
use crate::optim::{AdamW, AdamWRule};
use crate::parameters::{Parameters, norm};
use crate::setup;

/// Decay of the average where the configuration keeps none: it is part of what is measured.
const DECAY: f64 = 0.99;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct OptimizerReport {
    kind: &'static str,
    subject: &'static str,
    threads: i32,
    instruction_set: String,
    parameters: i64,
    steps: usize,
    /// Norm of the gradient, then clipping, AdamW and the average.
    step_ms_median: f64,
    step_ms_min: f64,
    /// GB that one step must at least read and write: 1 gradient read for the norm; gradient, weights, two moments and
    /// average read, all but the gradient written.
    gigabytes: f64,
    /// Shapes of the tensors, for a peer that makes the same step.
    shapes: Vec<Vec<i64>>,
}

/// Runs `warm_up` and then `count` steps on random gradients.
pub(super) fn run(config: &StepConfig, (warm_up, count): (usize, usize)) -> anyhow::Result<OptimizerReport> {
    native::keep_memory();
    let network = setup::step_network(config);
    let mut parameters = Parameters::flatten(network.store(), 1, |_| 0)?;
    let shapes: Vec<Vec<i64>> = parameters.entries().iter().map(|entry| entry.size.clone()).collect();
    let section = &config.optimizer;
    let rule = AdamWRule {
        betas: (section.betas.0.get(), section.betas.1.get()),
        eps: section.eps.get(),
        weight_decay: section.weight_decay.get(),
    };
    let mut optimizer = AdamW::new(rule, &parameters);
    let ema = Ema::new(section.ema.map_or(DECAY, Fraction::get), &parameters);
    let random = Tensor::randn([parameters.len()], (Kind::Float, parameters.values().device()));
    let mut gradients = parameters.gradients().shallow_clone();
    no_grad(|| gradients.copy_(&random));
    let mut milliseconds = Vec::new();
    for step in 0..warm_up + count.max(1) {
        let begin = Instant::now();
        let bound = section.clip.bound(norm(parameters.gradients()));
        optimizer.step(&mut parameters, &[section.lr.get()], bound, Some(&ema)).context("AdamW")?;
        if step >= warm_up {
            milliseconds.push(1e3 * begin.elapsed().as_secs_f64());
        }
    }
    Ok(OptimizerReport {
        kind: "bench",
        subject: "optimizer",
        threads: tch::get_num_threads(),
        instruction_set: native::instruction_set(),
        parameters: parameters.len(),
        steps: milliseconds.len(),
        step_ms_min: milliseconds.iter().copied().fold(f64::INFINITY, f64::min),
        step_ms_median: median(milliseconds),
        gigabytes: 1e-9 * 4.0 * 10.0 * parameters.len() as f64,
        shapes,
    })
}

impl OptimizerReport {
    /// For people.
    pub(super) fn text(&self) -> String {
        format!(
            "optimizer: {:.1} ms (median of {}; least {:.1}) for {} parameters, {} threads, {}; {:.1} GB/s\n",
            self.step_ms_median,
            self.steps,
            self.step_ms_min,
            self.parameters,
            self.threads,
            self.instruction_set,
            1e3 * self.gigabytes / self.step_ms_median
        )
    }
}
