//! The threads: one plans, a pool decodes windows and builds batches, the caller takes them in order.
//!
//! Order is kept without a reorder buffer: the planner hands the caller one channel for each batch, in sequence, before
//! the batch is built. The bounded number of such channels is what limits work ahead.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{self, Receiver, Sender};

use super::mix::Interleave;
use super::order::{Place, SplitRows};
use super::random::KeyedRng;
use super::sequence::{Sample, Sequence, WindowId};
use super::{Cursor, StreamConfig, StreamError, stored_neighbors_suffice};
use crate::batch::{HostBatch, RowId, graph_of_row};
use crate::error::ShardError;
use crate::graph::GraphBatch;
use crate::reader::{Block, Columns, Dataset};

type BatchResult = Result<HostBatch, ShardError>;

/// What all threads read.
#[derive(Debug)]
pub(super) struct Shared {
    config: StreamConfig,
    datasets: Vec<Dataset>,
    splits: Arc<Vec<SplitRows>>,
    mix: Interleave,
    stored: Vec<bool>,
}

/// The running threads. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Pipeline {
    batches: Option<Receiver<Receiver<BatchResult>>>,
    planner: Option<JoinHandle<()>>,
}

/// A structure with the decoded row group it lies in.
struct Pick {
    task: u32,
    dataset: usize,
    block: Arc<Block>,
    index: usize,
    epoch: u64,
    position: u64,
}

impl Shared {
    pub(super) fn new(
        config: StreamConfig,
        datasets: Vec<Dataset>,
        splits: Vec<SplitRows>,
        mix: Interleave,
    ) -> Self {
        let stored = datasets
            .iter()
            .zip(&config.datasets)
            .map(|(d, c)| stored_neighbors_suffice(d, &c.graph, config.edge_dropout))
            .collect();
        Self { config, datasets, splits: Arc::new(splits), mix, stored }
    }

    fn decode(&self, dataset: usize, group: u32) -> Result<Block, ShardError> {
        let opened = &self.datasets[dataset];
        opened.read(&opened.row_groups()[group as usize], Columns::training(self.stored[dataset]))
    }

    /// Builds a batch from its picks: targets, graphs, edge dropout.
    fn build(&self, picks: &[Pick], cursor: Cursor) -> BatchResult {
        let mut batch = HostBatch { cursor, ..HostBatch::default() };
        let mut graphs = Vec::with_capacity(picks.len());
        for pick in picks {
            let row = pick.block.row(pick.index);
            let entry = &self.config.datasets[pick.dataset];
            let id = RowId { dataset: pick.task, row: pick.block.first_row() + pick.index as u64 };
            batch.push(id, &row, &entry.transform)?;
            let (graph, stored) = if self.config.edge_dropout > 0.0 {
                let key = [self.config.seed, pick.epoch, pick.position];
                let mut rng = KeyedRng::new("edge dropout", &key);
                let mut drop_edge = || rng.unit() < self.config.edge_dropout;
                graph_of_row(&row, &entry.graph, self.stored[pick.dataset], Some(&mut drop_edge))?
            } else {
                graph_of_row(&row, &entry.graph, self.stored[pick.dataset], None)?
            };
            batch.stored_neighbors += u32::from(stored);
            graphs.push(graph);
        }
        batch.graph = GraphBatch::collate(&graphs);
        Ok(batch)
    }
}

impl Pipeline {
    /// The mixed, shuffled sequence.
    pub(super) fn training(shared: Arc<Shared>, start: Cursor) -> Result<Self, ShardError> {
        Self::start(&shared.clone().config, move |output| {
            for epoch in start.epoch..shared.config.epochs {
                let position = if epoch == start.epoch { start.position } else { 0 };
                if !plan_epoch(&shared, output, epoch, position) {
                    return;
                }
            }
        })
    }

    /// One dataset in row order.
    pub(super) fn sequential(shared: Arc<Shared>, task: u32) -> Result<Self, ShardError> {
        Self::start(&shared.clone().config, move |output| plan_sequential(&shared, output, task))
    }

    fn start(config: &StreamConfig, plan: impl FnOnce(&Output) + Send + 'static) -> Result<Self, ShardError> {
        let workers = config.workers;
        let failed = |reason: String| StreamError::Threads { workers, reason };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|i| format!("loader {i}"))
            // Without a handler a panic would abort the process; so it drops the batch's channel, which is an error there.
            .panic_handler(|_| {})
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let (order, batches) = channel::bounded(config.prefetch);
        let output = Output { pool, order };
        let planner = std::thread::Builder::new()
            .name("loader planner".to_string())
            .spawn(move || plan(&output))
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self { batches: Some(batches), planner: Some(planner) })
    }

    pub(super) fn next(&mut self) -> Option<BatchResult> {
        let Ok(batch) = self.batches.as_ref()?.recv() else {
            self.batches = None;
            // No more batches: the planner has either finished or panicked.
            let finished = self.planner.take().is_none_or(|planner| planner.join().is_ok());
            return (!finished).then(|| Err(StreamError::Worker { what: "the order" }.into()));
        };
        let stopped = || Err(StreamError::Worker { what: "a batch" }.into());
        let result = batch.recv().unwrap_or_else(|_| stopped());
        if result.is_err() {
            // After an error the order behind it is not worth having.
            self.batches = None;
        }
        Some(result)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // The planner's next send fails, and it returns.
        self.batches = None;
        if let Some(planner) = self.planner.take() {
            // A panic in the planner has been reported by its own message.
            let _ = planner.join();
        }
    }
}

/// Where the planner's work goes.
struct Output {
    pool: rayon::ThreadPool,
    order: Sender<Receiver<BatchResult>>,
}

impl Output {
    /// Queues a batch; false when no one listens any more.
    fn submit(&self, shared: &Arc<Shared>, picks: Vec<Pick>, cursor: Cursor) -> bool {
        let (done, result) = channel::bounded(1);
        if self.order.send(result).is_err() {
            return false;
        }
        let shared = shared.clone();
        self.pool.spawn_fifo(move || {
            // The receiver is gone when the stream was dropped meanwhile.
            let _ = done.send(shared.build(&picks, cursor));
        });
        true
    }

    fn fail(&self, error: ShardError) {
        let (done, result) = channel::bounded(1);
        let _ = done.send(Err(error));
        let _ = self.order.send(result);
    }

    /// Decodes row groups on the pool, those of `held` apart.
    fn decode(
        &self,
        shared: &Arc<Shared>,
        dataset: usize,
        groups: &[u32],
        held: &Blocks,
    ) -> Vec<PendingBlock> {
        let decode = |&group: &u32| {
            let (done, block) = channel::bounded(1);
            if let Some(block) = held.get(group) {
                drop(done.send(Ok(block)));
            } else {
                let shared = shared.clone();
                self.pool.spawn_fifo(move || drop(done.send(shared.decode(dataset, group).map(Arc::new))));
            }
            PendingBlock { group, block }
        };
        groups.iter().map(decode).collect()
    }
}

/// A row group being decoded.
struct PendingBlock {
    group: u32,
    block: Receiver<Result<Arc<Block>, ShardError>>,
}

/// Decoded row groups, ascending.
#[derive(Default)]
struct Blocks(Vec<(u32, Arc<Block>)>);

impl Blocks {
    fn get(&self, group: u32) -> Option<Arc<Block>> {
        let index = self.0.binary_search_by_key(&group, |(group, _)| *group).ok()?;
        Some(self.0[index].1.clone())
    }
}

/// Decoded row groups of one dataset's window, and those of the next window on their way.
#[derive(Default)]
struct WindowCache {
    current: Option<WindowId>,
    blocks: Blocks,
    ahead: Option<(WindowId, Vec<PendingBlock>)>,
}

impl WindowCache {
    fn enter(
        &mut self,
        shared: &Arc<Shared>,
        output: &Output,
        sequence: &Sequence,
        dataset: usize,
        id: WindowId,
    ) -> Result<(), ShardError> {
        if self.current == Some(id) {
            return Ok(());
        }
        let pending = match self.ahead.take() {
            Some((ahead, pending)) if ahead == id => pending,
            _ => output.decode(shared, dataset, &sequence.window_groups(dataset, id), &self.blocks),
        };
        let mut blocks = Blocks::default();
        for PendingBlock { group, block } in pending {
            let block = block.recv().map_err(|_| StreamError::Worker { what: "a row group" })??;
            blocks.0.push((group, block));
        }
        self.blocks = blocks;
        self.current = Some(id);
        self.ahead = sequence.next_window(dataset, id).map(|next| {
            (next, output.decode(shared, dataset, &sequence.window_groups(dataset, next), &self.blocks))
        });
        Ok(())
    }

    fn block(&self, place: Place) -> Result<Arc<Block>, ShardError> {
        Ok(self.blocks.get(place.group).ok_or(StreamError::Worker { what: "a window" })?)
    }
}

/// Plans one epoch; false when it must stop.
fn plan_epoch(shared: &Arc<Shared>, output: &Output, epoch: u64, position: u64) -> bool {
    let config = &shared.config;
    let mut sequence =
        Sequence::new(shared.splits.clone(), shared.mix.clone(), config.seed, config.window, epoch, position);
    let mut caches: Vec<WindowCache> = shared.datasets.iter().map(|_| WindowCache::default()).collect();
    let total = shared.mix.total();
    let mut picks = Vec::with_capacity(config.batch_size);
    while let Some(Sample { task, window, place, position }) = sequence.next() {
        let dataset = task as usize;
        let cache = &mut caches[dataset];
        let block = cache.enter(shared, output, &sequence, dataset, window).and_then(|()| cache.block(place));
        match block {
            Ok(block) => {
                picks.push(Pick { task, dataset, block, index: place.index as usize, epoch, position });
            }
            Err(error) => {
                output.fail(error);
                return false;
            }
        }
        let done = position + 1 == total;
        if picks.len() == config.batch_size || done {
            let cursor = if done {
                Cursor { epoch: epoch + 1, position: 0 }
            } else {
                Cursor { epoch, position: position + 1 }
            };
            if !output.submit(shared, std::mem::take(&mut picks), cursor) {
                return false;
            }
        }
    }
    true
}

fn plan_sequential(shared: &Arc<Shared>, output: &Output, task: u32) {
    let split = &shared.splits[0];
    let total = split.len();
    let mut held: Option<(u32, Arc<Block>)> = None;
    let mut picks = Vec::with_capacity(shared.config.batch_size);
    for (position, place) in (0..).zip(split.ascending()) {
        let block = match held.take().filter(|(group, _)| *group == place.group) {
            Some((_, block)) => Ok(block),
            None => shared.decode(0, place.group).map(Arc::new),
        };
        let block = match block {
            Ok(block) => block,
            Err(error) => return output.fail(error),
        };
        held = Some((place.group, block.clone()));
        picks.push(Pick { task, dataset: 0, block, index: place.index as usize, epoch: 0, position });
        if picks.len() == shared.config.batch_size || position + 1 == total {
            let cursor = Cursor { epoch: 0, position: position + 1 };
            if !output.submit(shared, std::mem::take(&mut picks), cursor) {
                return;
            }
        }
    }
}
