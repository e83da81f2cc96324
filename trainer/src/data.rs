//! A run's streams: global batches for learning, splits in row order for judging.

use std::time::{Duration, Instant};

use shards::ShardError;
use shards::batch::{HostBatch, RowId};
use shards::stream::{
    BatchRule, Budget, Cursor, Next, RowsInOrder, Share, Stream, StreamConfig, StreamDataset, Temperature,
    Totals, Work,
};

use crate::checkpoint::TaskRecord;
use crate::config::Config;
use crate::config::number::{Count, Fraction};
use crate::config::sections::{Reduction, SamplingSection};
use crate::task::Task;

/// The stream a configuration asks for, over the tasks' training splits.
pub fn stream_config(config: &Config, tasks: &[Task], epochs: u64) -> StreamConfig {
    let sampling = &config.sampling;
    let temperature = match sampling.temperature {
        t if t.is_infinite() => Temperature::Infinite,
        t => Temperature::Finite(t),
    };
    let micro_batches = sampling.accumulate.get() as usize;
    StreamConfig {
        datasets: tasks.iter().map(|t| dataset(t, &t.record.split)).collect(),
        temperature,
        seed: config.run.seed,
        batch: batch_rule(sampling, sampling.batch_size),
        micro_batches,
        lanes: sampling.lanes.map_or(StreamConfig::lanes_for(micro_batches), |n| n.get() as usize),
        window: sampling.window.get() as usize,
        edge_dropout: config.model.edge_dropout.map_or(0.0, Fraction::get),
        epochs,
        count_free_atoms: config.loss.free_atoms_only && config.loss.reduction == Reduction::Atom,
        workers: sampling.workers.get() as usize,
        prefetch: sampling.prefetch.get() as usize,
        memory: sampling.memory.map(|megabytes| megabytes.get().saturating_mul(1_000_000)),
    }
}

fn batch_rule(sampling: &SamplingSection, batch_size: Count) -> BatchRule {
    let SamplingSection { max_atoms, max_edges, max_quadruplets, oversize, .. } = sampling;
    if [max_atoms, max_edges, max_quadruplets].iter().all(|limit| limit.is_none()) {
        return BatchRule::Structures(batch_size.get() as usize);
    }
    BatchRule::Budget(Budget {
        structures: Some(batch_size.get()),
        atoms: max_atoms.map(Count::get),
        edges: max_edges.map(Count::get),
        quadruplets: max_quadruplets.map(Count::get),
        oversize: *oversize,
    })
}

fn dataset(task: &Task, split: &str) -> StreamDataset {
    let TaskRecord { transform, graph, .. } = &task.record;
    StreamDataset {
        dir: task.dir.clone(),
        split: split.to_owned(),
        graph: Some(*graph),
        transform: transform.clone(),
    }
}

/// The first `limit` structures of a split of a task in row order, in batches that keep the limits of `[sampling]`: those of a
/// rank's share.
pub fn sequential(
    config: &Config,
    task: &Task,
    index: usize,
    (split, limit): (&str, u64),
    share: Share,
) -> Result<RowsInOrder, ShardError> {
    let size = config.validation.batch_size.unwrap_or(config.sampling.batch_size);
    let rule = batch_rule(&config.sampling, size);
    let threads = (config.sampling.workers.get() as usize, config.sampling.prefetch.get() as usize);
    RowsInOrder::open(&dataset(task, split), index as u32, (rule, limit), share, threads)
}

/// A rank's micro-batches of one optimiser step.
#[derive(Debug)]
pub struct GlobalBatch {
    /// This rank's micro-batches, at most as many as are accumulated; fewer at the end of an epoch.
    pub parts: Vec<HostBatch>,
    /// What the micro-batches of all ranks hold together.
    pub totals: Totals,
    /// Structures that were left out for their size.
    pub skipped: Vec<RowId>,
    /// Where the stream goes on after it.
    pub cursor: Cursor,
    /// How long the trainer waited for it.
    pub waited: Duration,
}

impl GlobalBatch {
    /// Whether an epoch ended with it.
    pub fn ends_epoch(&self) -> bool {
        self.cursor.step == 0
    }
}

/// The training data as a sequence of global batches, none of which crosses the end of an epoch.
#[derive(Debug)]
pub struct TrainingData {
    stream: Stream,
    /// Since when the next batch is waited for.
    waiting: Option<Instant>,
}

impl TrainingData {
    /// Starts loading a rank's share at `start`.
    pub fn open(
        config: &Config,
        tasks: &[Task],
        epochs: u64,
        share: Share,
        start: Cursor,
    ) -> Result<Self, ShardError> {
        let stream = Stream::open(stream_config(config, tasks, epochs), share, start)?;
        Ok(Self { stream, waiting: None })
    }

    /// The next batch if it is there within `patience`.
    pub fn next_within(&mut self, patience: Duration) -> Next<GlobalBatch> {
        let begin = *self.waiting.get_or_insert_with(Instant::now);
        let next = self.stream.next_within(patience);
        if !matches!(next, Next::NotYet) {
            self.waiting = None;
        }
        match next {
            Next::Item(batch) => Next::Item(batch.map(|batch| GlobalBatch {
                parts: batch.parts,
                totals: batch.totals,
                skipped: batch.skipped,
                cursor: batch.cursor,
                waited: begin.elapsed(),
            })),
            Next::End => Next::End,
            Next::NotYet => Next::NotYet,
        }
    }

    /// What the loader's threads have done so far.
    pub fn work(&self) -> Work {
        self.stream.work()
    }

    /// Returns micro-batches that were learnt from, for their memory.
    pub fn give_back(&self, batch: GlobalBatch) {
        self.stream.give_back(batch.parts);
    }
}

impl Iterator for TrainingData {
    type Item = Result<GlobalBatch, ShardError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_within(Duration::from_secs(1)) {
                Next::Item(batch) => return Some(batch),
                Next::End => return None,
                Next::NotYet => {}
            }
        }
    }
}
