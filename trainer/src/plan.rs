//! A run before it runs: how long an epoch is, how many steps there are, which schedule follows.

use shards::ShardError;
use shards::stream::{self, EpochPlan};

use crate::config::number::Count;
use crate::config::sections::{FinetuneSchedule, LayerRates};
use crate::config::{Config, ScheduleConfig};
use crate::data::stream_config;
use crate::schedule::{FineTuneRates, FineTuneSchedule, GroupRate, Schedule, WarmupCosine};
use crate::task::Task;

/// Length of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    /// One epoch of the temperature-expanded set.
    pub epoch: EpochPlan,
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: u64,
    /// Structures after which the run is complete.
    pub total_samples: u64,
    /// Epochs the stream must yield for that.
    pub epochs: u64,
    /// Structures of a full optimiser step; a mean where micro-batches are filled to limits.
    pub batch: u64,
}

impl RunPlan {
    /// The plan of a run.
    pub fn new(config: &Config, tasks: &[Task]) -> Result<Self, ShardError> {
        let epoch = stream::plan_of(&stream_config(config, tasks, 1))?;
        let epochs = match &config.schedule {
            ScheduleConfig::Pretrain(schedule) => schedule.epochs.get(),
            ScheduleConfig::Finetune(_, stop) => stop.epochs.get() as f64,
        };
        Ok(Self {
            steps_per_epoch: epoch.steps,
            total_samples: (epoch.structures as f64 * epochs).ceil() as u64,
            epochs: epochs.ceil() as u64,
            batch: epoch.global_batch,
            epoch,
        })
    }

    /// Optimiser steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        let whole = self.total_samples / self.epoch.structures.max(1);
        let rest = self.total_samples % self.epoch.structures.max(1);
        whole * self.steps_per_epoch + rest.div_ceil(self.batch)
    }

    /// The limit of optimiser steps that a configuration sets, if it does.
    fn max_steps(config: &Config) -> Option<u64> {
        let limit = match &config.schedule {
            ScheduleConfig::Pretrain(schedule) => schedule.max_steps,
            ScheduleConfig::Finetune(_, stop) => stop.max_steps,
        };
        limit.map(Count::get)
    }

    /// Optimiser steps that a run makes at most: all, or those up to `max_steps`.
    pub fn most_steps(&self, config: &Config) -> u64 {
        let all = self.total_steps();
        Self::max_steps(config).map_or(all, |limit| limit.min(all))
    }

    /// Structures that a run learns from at most.
    pub fn most_samples(&self, config: &Config) -> u64 {
        let all = self.total_samples;
        Self::max_steps(config).map_or(all, |limit| limit.saturating_mul(self.batch).min(all))
    }

    /// Epochs done after `samples` structures.
    pub fn epochs_at(&self, samples: u64) -> f64 {
        samples as f64 / self.epoch.structures.max(1) as f64
    }

    /// The schedule of a run of this length.
    pub fn schedule(&self, config: &Config) -> Schedule {
        let lr = config.optimizer.lr.get();
        match &config.schedule {
            ScheduleConfig::Pretrain(s) => Schedule::Pretrain(WarmupCosine {
                lr,
                warmup_steps: s.warmup_steps,
                warmup_factor: s.warmup_factor.get(),
                final_factor: s.final_factor.get(),
                batch: self.batch,
                total_samples: self.total_samples,
            }),
            ScheduleConfig::Finetune(s, _) => Schedule::Finetune(FineTuneSchedule::new(FineTuneRates {
                groups: groups(s, lr),
                warmup_steps: s.warmup_epochs * self.steps_per_epoch,
                warmup_factor: s.warmup_factor.get(),
                cosine_steps: s.cosine_epochs * self.steps_per_epoch,
                plateau: s.plateau.rule().cloned(),
            })),
        }
    }
}

/// Rates of the parameter groups: the embedding, each block that has a factor, everything else.
fn groups(schedule: &FinetuneSchedule, lr: f64) -> Vec<GroupRate> {
    let LayerRates { embedding, blocks } = &schedule.layers;
    let scales = std::iter::once(embedding.get()).chain(blocks.iter().map(|b| b.get())).chain([1.0]);
    scales.map(|scale| GroupRate::new(lr, scale, schedule.final_factor.get())).collect()
}

/// The parameter group of a tensor: 0 for all in pre-training; in fine-tuning the place of its layer in [`LayerRates`].
///
/// As in the released code, an output block belongs to the interaction block before it, output block 0 to the first; the bases
/// have the full rate.
pub fn group_of(config: &Config, name: &str) -> usize {
    let ScheduleConfig::Finetune(schedule, _) = &config.schedule else { return 0 };
    let blocks = schedule.layers.blocks.len();
    let number = |rest: &str| rest.split('.').next().and_then(|n| n.parse::<usize>().ok());
    let block = if name.starts_with("embedding.") {
        return 0;
    } else if let Some(rest) = name.strip_prefix("backbone.int_blocks.") {
        number(rest)
    } else if let Some(rest) = name.strip_prefix("backbone.out_blocks.") {
        number(rest).map(|n| n.saturating_sub(1))
    } else {
        None
    };
    block.filter(|b| *b < blocks).map_or(blocks + 1, |b| b + 1)
}
