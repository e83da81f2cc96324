//! A run's streams: global batches for learning, splits in row order for judging.

use std::time::{Duration, Instant};

use shards::ShardError;
use shards::batch::HostBatch;
use shards::stream::{Cursor, EpochPlan, Stream, StreamConfig, StreamDataset, Temperature};

use crate::checkpoint::TaskRecord;
use crate::config::Config;
use crate::config::number::Fraction;
use crate::task::Task;

/// The stream a configuration asks for, over the tasks' training splits.
pub fn stream_config(config: &Config, tasks: &[Task], epochs: u64) -> StreamConfig {
    let sampling = &config.sampling;
    let temperature = match sampling.temperature {
        t if t.is_infinite() => Temperature::Infinite,
        t => Temperature::Finite(t),
    };
    StreamConfig {
        datasets: tasks.iter().map(|t| dataset(t, &t.record.split)).collect(),
        temperature,
        seed: config.run.seed,
        batch_size: sampling.batch_size.get() as usize,
        epochs,
        window: sampling.window.get() as usize,
        edge_dropout: config.model.edge_dropout.map_or(0.0, Fraction::get),
        workers: sampling.workers.get() as usize,
        prefetch: sampling.prefetch.get() as usize,
    }
}

fn dataset(task: &Task, split: &str) -> StreamDataset {
    let TaskRecord { transform, graph, .. } = &task.record;
    StreamDataset {
        dir: task.dir.clone(),
        split: split.to_owned(),
        graph: *graph,
        transform: transform.clone(),
    }
}

/// A split of a task in row order.
pub fn sequential(config: &Config, task: &Task, index: usize, split: &str) -> Result<Stream, ShardError> {
    let size = config.validation.batch_size.unwrap_or(config.sampling.batch_size).get() as usize;
    let (workers, prefetch) =
        (config.sampling.workers.get() as usize, config.sampling.prefetch.get() as usize);
    Stream::sequential(dataset(task, split), index as u32, size, workers, prefetch)
}

/// The micro-batches of one optimiser step.
#[derive(Debug)]
pub struct GlobalBatch {
    /// Micro-batches, at most as many as are accumulated; fewer at the end of an epoch.
    pub parts: Vec<HostBatch>,
    /// Where the stream goes on after it.
    pub cursor: Cursor,
    /// How long the trainer waited for it.
    pub waited: Duration,
}

impl GlobalBatch {
    /// Whether an epoch ended with it.
    pub fn ends_epoch(&self) -> bool {
        self.cursor.position == 0
    }
}

/// The training data as a sequence of global batches, none of which crosses the end of an epoch.
#[derive(Debug)]
pub struct TrainingData {
    stream: Stream,
    accumulate: usize,
    share: (u32, u32),
}

impl TrainingData {
    /// Starts loading at `start`, for rank `share.0` of `share.1`.
    pub fn open(
        config: &Config,
        tasks: &[Task],
        epochs: u64,
        start: Cursor,
        share: (u32, u32),
    ) -> Result<Self, ShardError> {
        let stream = Stream::open(stream_config(config, tasks, epochs), start)?;
        Ok(Self { stream, accumulate: config.sampling.accumulate.get() as usize, share })
    }

    /// Numbers of an epoch.
    pub fn plan(&self) -> &EpochPlan {
        self.stream.plan()
    }
}

impl Iterator for TrainingData {
    type Item = Result<GlobalBatch, ShardError>;

    fn next(&mut self) -> Option<Self::Item> {
        let begin = Instant::now();
        let mut parts = Vec::with_capacity(self.accumulate);
        while parts.len() < self.accumulate {
            match self.stream.next() {
                Some(Ok(batch)) => {
                    let cursor = batch.cursor;
                    parts.push(batch);
                    if cursor.position == 0 {
                        break;
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        let cursor = parts.last()?.cursor;
        let (rank, ranks) = self.share;
        let mut place = 0..;
        parts.retain(|_| place.next().is_some_and(|p: u32| p % ranks == rank));
        Some(Ok(GlobalBatch { parts, cursor, waited: begin.elapsed() }))
    }
}
