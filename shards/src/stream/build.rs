//! From planned structures to a batch: decode, targets, graphs, collation. What workers do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;

use super::OpenDataset;
use super::blocks::Slot;
use super::random::KeyedRng;
use crate::batch::{BatchTargets, HostBatch, RowId, graph_of_row};
use crate::error::ShardError;
use crate::reader::{Block, Columns};

/// A structure with the row group it lies in.
#[derive(Debug)]
pub(super) struct Pick {
    pub(super) slot: Arc<Slot>,
    pub(super) task: u32,
    pub(super) index: u32,
    pub(super) position: u64,
}

/// A micro-batch to build.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) picks: Vec<Pick>,
    pub(super) epoch: u64,
    /// Place in the global batch.
    pub(super) index: u32,
}

/// What the workers have done so far, over all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Row groups decoded.
    pub row_groups: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes as stored.
    pub bytes: u64,
    /// Structures put into batches.
    pub structures: u64,
    /// Of them, graphs that came from stored neighbour lists.
    pub stored_neighbors: u64,
    /// Reading and decoding.
    pub decode: Duration,
    /// Neighbour lists and graphs of single structures.
    pub graphs: Duration,
    /// Joining structures and graphs into batches.
    pub collate: Duration,
}

#[derive(Debug, Default)]
struct Counters([AtomicU64; 8]);

impl Counters {
    fn add(&self, counter: usize, amount: u64) {
        self.0[counter].fetch_add(amount, Ordering::Relaxed);
    }

    fn time(&self, counter: usize, since: Instant) {
        self.add(counter, since.elapsed().as_nanos() as u64);
    }
}

/// How many given-back batches are kept: what one step returns before workers have taken them all again.
const MOST_SPENT: usize = 8;

/// Builds batches of opened datasets; shared by all workers.
#[derive(Debug)]
pub(super) struct Builder {
    datasets: Arc<Vec<OpenDataset>>,
    targets: Vec<BatchTargets>,
    seed: u64,
    edge_dropout: f64,
    counters: Counters,
    /// Batches no longer wanted, whose memory the next ones take.
    spent: ArrayQueue<HostBatch>,
}

impl Builder {
    /// Lets reads that wait for a server end with an error.
    pub(super) fn cancel(&self) {
        self.datasets.iter().for_each(|opened| opened.dataset.cancel());
    }

    pub(super) fn new(datasets: Arc<Vec<OpenDataset>>, seed: u64, edge_dropout: f64) -> Self {
        let targets = datasets.iter().map(|d| BatchTargets::new(&d.entry.transform)).collect();
        let (counters, spent) = (Counters::default(), ArrayQueue::new(MOST_SPENT));
        Self { datasets, targets, seed, edge_dropout, counters, spent }
    }

    /// Takes a batch back for its memory.
    pub(super) fn give_back(&self, batch: HostBatch) {
        // Where there are enough, it is freed.
        drop(self.spent.push(batch));
    }

    /// What has been done so far.
    pub(super) fn work(&self) -> Work {
        let [row_groups, rows, bytes, structures, stored_neighbors, decode, graphs, collate] =
            std::array::from_fn(|k| self.counters.0[k].load(Ordering::Relaxed));
        let time = Duration::from_nanos;
        Work {
            row_groups,
            rows,
            bytes,
            structures,
            stored_neighbors,
            decode: time(decode),
            graphs: time(graphs),
            collate: time(collate),
        }
    }

    fn decode(&self, slot: &Slot) -> Result<Block, ShardError> {
        let begin = Instant::now();
        let opened = &self.datasets[slot.dataset];
        let group = &opened.dataset.row_groups()[slot.group as usize];
        let block = opened.dataset.read(group, Columns::training(opened.stored))?;
        self.counters.add(0, 1);
        self.counters.add(1, block.rows() as u64);
        self.counters.add(2, opened.dataset.stored_bytes(group)?);
        self.counters.time(5, begin);
        Ok(block)
    }

    /// Decodes a row group ahead of its use, unless a server would have to be waited for: what is to be built now does not
    /// wait behind that. What fails now fails again, and is told, when it is used.
    pub(super) fn decode_ahead(&self, slot: &Slot) {
        let dataset = &self.datasets[slot.dataset].dataset;
        if dataset.is_at_hand(&dataset.row_groups()[slot.group as usize]) {
            drop(slot.fill(|slot| self.decode(slot)));
        }
    }

    /// Builds a batch.
    pub(super) fn build(&self, job: &Job) -> Result<HostBatch, ShardError> {
        let blocks = self.blocks(job)?;
        let begin = Instant::now();
        let atoms =
            job.picks.iter().zip(&blocks).map(|(pick, block)| block.natoms(pick.index as usize) as usize);
        let mut batch = self.spent.pop().unwrap_or_default();
        batch.empty(job.picks.len(), atoms.sum());
        batch.index = job.index;
        for (pick, block) in job.picks.iter().zip(&blocks) {
            let id = RowId { dataset: pick.task, row: block.first_row() + u64::from(pick.index) };
            batch.push(id, &block.row(pick.index as usize), &self.targets[pick.slot.dataset])?;
        }
        self.counters.add(3, job.picks.len() as u64);
        self.counters.time(7, begin);
        let begin = Instant::now();
        let mut graphs = Vec::with_capacity(job.picks.len());
        for (pick, block) in job.picks.iter().zip(&blocks) {
            let opened = &self.datasets[pick.slot.dataset];
            let Some(spec) = &opened.entry.graph else { continue };
            let row = block.row(pick.index as usize);
            let (graph, stored) = if self.edge_dropout > 0.0 {
                let key = [self.seed, job.epoch, pick.position];
                let mut rng = KeyedRng::new("edge dropout", &key);
                let mut drop_edge = || rng.unit() < self.edge_dropout;
                graph_of_row(&row, spec, opened.stored, Some(&mut drop_edge))?
            } else {
                graph_of_row(&row, spec, opened.stored, None)?
            };
            batch.stored_neighbors += u32::from(stored);
            graphs.push(graph);
        }
        self.counters.add(4, u64::from(batch.stored_neighbors));
        self.counters.time(6, begin);
        let begin = Instant::now();
        batch.graph.refill(&graphs);
        self.counters.time(7, begin);
        Ok(batch)
    }

    /// The decoded row group of each pick.
    fn blocks(&self, job: &Job) -> Result<Vec<Arc<Block>>, ShardError> {
        // First what no one else is decoding, each job from another end, so that workers share what is to be done.
        let count = job.picks.len();
        for k in 0..count {
            let slot = &job.picks[(k + 7 * job.index as usize) % count].slot;
            slot.fill(|slot| self.decode(slot))?;
        }
        job.picks.iter().map(|pick| pick.slot.get(|slot| self.decode(slot))).collect()
    }
}
