//! From a configuration to a learner: fresh weights, weights of a pre-trained model, or where a run was left.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use shards::ShardError;
use shards::batch::HostBatch;
use shards::stream::{Cursor, Share, Stream};
use tch::Device;

use crate::checkpoint::{self, CheckpointError, Info, State, TaskRecord};
use crate::config::model::ScaleFactors;
use crate::config::{Config, ConfigError, ForceMode, StepConfig, differences};
use crate::data::stream_config;
use crate::distributed::Place;
use crate::learner::{Learner, Rules};
use crate::network::{Bias, HeadLayout, Network};
use crate::parameters;
use crate::plan::{RunPlan, group_of};
use crate::pretrained::{self, Source};
use crate::session::Memory;
use crate::task::Task;

/// Where the weights of a run come from.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Random numbers.
    Scratch,
    /// Rank 0, whose weights and scale factors replace this rank's before the first step.
    OtherRank,
    /// Another model's backbone and embedding, and its heads if so wanted.
    Pretrained(&'a Source),
    /// The run's own last checkpoint.
    Resume(&'a Path),
}

/// What starting told about itself.
#[derive(Debug, Clone, Default)]
pub struct Notes(pub Vec<String>);

/// Applies `run.device` and `run.threads`; on one rank of several, at its `place`.
pub fn device(config: &Config, place: Option<&Place>) -> anyhow::Result<Device> {
    let fair = place.and_then(|place| place.threads).map(i64::from);
    if let Some(threads) = config.run.threads.map(|threads| threads.get() as i64).or(fair) {
        tch::set_num_threads(threads as i32);
    }
    // The configuration was checked to name a device.
    let device = parameters::device(&config.run.device).context("run.device")?;
    match (device, place) {
        (Device::Cuda(_), Some(place)) if !config.run.device.starts_with("cuda:") => {
            // srun may show each task its own GPU alone.
            let visible = tch::Cuda::device_count().max(1) as u32;
            Ok(Device::Cuda((place.local_rank % visible) as usize))
        }
        _ => Ok(device),
    }
}

/// An empty network for the tasks of a configuration.
pub fn network(config: &Config, device: Device) -> Network {
    let modes: Vec<_> = config.tasks.iter().map(|t| (t.forces, Bias::when(t.head_bias))).collect();
    let scalar = config.tasks.first().and_then(|task| task.scalar.as_ref());
    let heads = scalar
        .map_or_else(|| HeadLayout::of(config.kind, &modes), |scalar| HeadLayout::Scalar(scalar.pooling));
    let network = Network::new(&config.model, heads, config.run.seed, config.run.precision, device);
    network.dropping_out(scalar.map_or(0.0, |scalar| scalar.dropout))
}

/// The network of a step's benchmark.
pub fn step_network(config: &StepConfig) -> Network {
    let heads = match config.forces {
        ForceMode::Direct => HeadLayout::Joint(config.tasks.get() as usize),
        forces => HeadLayout::Single(forces, Bias::Without),
    };
    Network::new(&config.model, heads, 0, config.precision, Device::Cpu)
}

/// A learner ready for its next step, and what the run remembers.
pub fn learner(
    config: &Config,
    tasks: &[Task],
    plan: &RunPlan,
    start: Start,
    device: Device,
) -> anyhow::Result<(Learner, Memory, Notes)> {
    let network = network(config, device);
    let mut notes = Notes::default();
    match start {
        Start::Scratch => notes.0.extend(scale_factors(config, tasks, &network)?),
        Start::Pretrained(source) => {
            notes.0.extend(pretrained::take(&network, tasks.first().map(|t| &t.record), source)?);
        }
        Start::Resume(_) | Start::OtherRank => {}
    }
    notes.0.extend(transfer(config, &network, start)?);
    let records: Vec<TaskRecord> = tasks.iter().map(|t| t.record.clone()).collect();
    let schedule = plan.schedule(config);
    let rules = Rules {
        optimizer: &config.optimizer,
        loss: config.loss,
        seed: config.run.seed,
        precision: config.run.precision,
    };
    let mut learner = Learner::new(rules, &records, network, schedule, |name| group_of(config, name))?;
    let mut memory = Memory::default();
    if let Start::Resume(run) = start {
        memory = resume(config, tasks, &mut learner, run)?;
        notes.0.push(format!("resumed at step {}", learner.position().step));
    }
    Ok((learner, memory, notes))
}

/// Applies `[transfer]`.
fn transfer(config: &Config, network: &Network, start: Start) -> Result<Vec<String>, ConfigError> {
    let (rule, mut notes) = (&config.transfer, Vec::new());
    if rule.reset_embedding && matches!(start, Start::Pretrained(_)) {
        network.reset_embedding(config.run.seed);
        notes.push("the atom embedding begins anew".to_owned());
    }
    let names: BTreeSet<String> = network.store().variables().into_keys().collect();
    if let Some(pattern) = rule.idle(&names) {
        let example = names.iter().find(|name| name.ends_with(".weight")).cloned().unwrap_or_default();
        return Err(ConfigError::Conflict {
            file: config.run.dir.clone(),
            key: "transfer.freeze".to_owned(),
            expected: format!("names of tensors or their beginnings up to a dot, such as {example}"),
            found: format!("\"{pattern}\", which none matches"),
        });
    }
    if !rule.freeze.is_empty() {
        let frozen = network.freeze(|name| rule.freezes(name));
        notes.push(format!("{frozen} tensors frozen"));
    }
    Ok(notes)
}

/// Puts a learner where its run was left, or says what has changed since.
fn resume(config: &Config, tasks: &[Task], learner: &mut Learner, run: &Path) -> anyhow::Result<Memory> {
    let path = checkpoint::locate(run, false)?;
    let info = checkpoint::read_info(&path)?;
    let mut found = differences(&info.config, &config.text);
    found.extend(changed_data(&info, tasks));
    if !found.is_empty() {
        return Err(CheckpointError::Differs { path, differences: found }.into());
    }
    learner
        .restore(&info, &State::read(&path)?)
        .map_err(|e| CheckpointError::content(&path, e.to_string()))?;
    let cursor: Cursor = serde_json::from_value(info.cursor.clone()).map_err(|e| {
        CheckpointError::content(&path, format!("cursor: {e} (older versions kept another position)"))
    })?;
    Ok(Memory {
        cursor,
        best: info.best,
        stale_validations: info.stale_validations,
        minutes: info.minutes,
        skipped: info.skipped,
        left_out: info.left_out,
        validation_due: info.validation_due,
    })
}

fn changed_data(info: &Info, tasks: &[Task]) -> Vec<String> {
    let pairs = info.tasks.iter().zip(tasks);
    pairs
        .filter(|(then, now)| then.manifest != now.record.manifest)
        .map(|(then, now)| {
            let (old, new) = (&then.manifest, &now.record.manifest);
            format!(
                "dataset `{}`: its manifest's hash was {old:.12}…, is {new:.12}… in {}",
                then.name,
                now.dir.display()
            )
        })
        .collect()
}

/// Gives a model trained from scratch its scale factors.
fn scale_factors(config: &Config, tasks: &[Task], network: &Network) -> anyhow::Result<Option<String>> {
    match &config.model.scale_factors {
        ScaleFactors::None => Ok(None),
        ScaleFactors::File(file) => {
            checkpoint::scale_factors::apply(file, &network.scale_factors())?;
            Ok(Some(format!("scale factors from {}", file.display())))
        }
        ScaleFactors::Fit(count) => {
            let batches = first_batches(config, tasks, *count)?;
            let fitted = network.fit_scale_factors(&batches);
            let all = network.scale_factors().len();
            Ok(Some(format!("{fitted} of {all} scale factors fitted on {} batches", batches.len())))
        }
    }
}

/// `count` micro-batches from the beginning of training, or all of an epoch that has fewer.
///
/// Of global batches that hold more, only a part is loaded: the share of one of several ranks.
pub fn first_batches(config: &Config, tasks: &[Task], count: u32) -> Result<Vec<HostBatch>, ShardError> {
    let ranks = (config.sampling.accumulate.get() / u64::from(count.max(1))).clamp(1, u64::from(u32::MAX));
    let share = Share { rank: 0, ranks: ranks as u32 };
    let stream = Stream::open(stream_config(config, tasks, 1), share, Cursor::default())?;
    let mut batches = Vec::new();
    for global in stream {
        batches.extend(global?.parts);
        if batches.len() >= count as usize {
            break;
        }
    }
    batches.truncate(count as usize);
    Ok(batches)
}
