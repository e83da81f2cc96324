//! The threads: one plans, workers decode and build, the caller takes results in order.
//!
//! Order is kept without a reorder buffer: the planner hands the caller one promise for each item, in sequence, before the
//! item is built. The bounded number of such promises is what limits work ahead. Building goes before decoding ahead, and
//! decodes by itself what is not there yet, so that nothing ever waits for a window that is not needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};

use super::blocks::{Slot, Windows};
use super::build::{Builder, Job, Pick};
use super::planner::{Planned, Planner};
use super::{Cursor, GlobalBatch, Opened, Share, StreamError};
use crate::batch::HostBatch;
use crate::error::ShardError;

/// Gives its item when it is there; `None` where that is not until the instant given, and then it may be asked again.
type Promise<T> = Box<dyn FnMut(Option<Instant>) -> Option<Result<T, ShardError>> + Send>;
type Task = Box<dyn FnOnce() + Send>;

/// The running threads. Dropping it stops them.
pub(super) struct Pipeline<T> {
    items: Option<Receiver<Promise<T>>>,
    /// The next item's, which was waited for in vain.
    pending: Option<Promise<T>>,
    planner: Option<JoinHandle<()>>,
    /// Set when no one wants what is left to do.
    abandoned: Arc<AtomicBool>,
    builder: Arc<Builder>,
}

impl<T> std::fmt::Debug for Pipeline<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("pending", &self.pending.is_some()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Pipeline<T> {
    /// Starts `workers` threads and a planner, of whose items at most `depth` wait.
    pub(super) fn start(
        builder: Arc<Builder>,
        workers: usize,
        depth: usize,
        plan: impl FnOnce(&Output<T>) -> Result<(), ShardError> + Send + 'static,
    ) -> Result<Self, ShardError> {
        let (order, items) = channel::bounded(depth);
        let abandoned = Arc::new(AtomicBool::new(false));
        let output =
            Output { workers: Workers::start(workers, &abandoned)?, order, builder: builder.clone() };
        let planner = std::thread::Builder::new()
            .name("loader planner".to_string())
            .spawn(move || {
                if let Err(error) = plan(&output) {
                    let mut error = Some(error);
                    output.promise(Box::new(move |_| error.take().map(Err)));
                }
            })
            .map_err(|e| StreamError::Threads { workers, reason: e.to_string() })?;
        Ok(Self { items: Some(items), pending: None, planner: Some(planner), abandoned, builder })
    }

    /// The next item, waited for as long as it takes.
    pub(super) fn next(&mut self) -> Option<Result<T, ShardError>> {
        match self.next_by(None) {
            Next::Item(item) => Some(item),
            Next::End | Next::NotYet => None,
        }
    }

    /// The next item, waited for until `deadline`.
    pub(super) fn next_by(&mut self, deadline: Option<Instant>) -> Next<T> {
        let Some(items) = &self.items else { return Next::End };
        let mut promise = match self.pending.take().map_or_else(|| received(items, deadline), Ok) {
            Ok(promise) => promise,
            Err(RecvTimeoutError::Timeout) => return Next::NotYet,
            Err(RecvTimeoutError::Disconnected) => {
                self.items = None;
                // No more items: the planner has either finished or panicked.
                let finished = self.planner.take().is_none_or(|planner| planner.join().is_ok());
                let lost = || Next::Item(Err(StreamError::Worker { what: "the order" }.into()));
                return if finished { Next::End } else { lost() };
            }
        };
        let Some(result) = promise(deadline) else {
            self.pending = Some(promise);
            return Next::NotYet;
        };
        if result.is_err() {
            // After an error the order behind it is not worth having.
            self.items = None;
        }
        Next::Item(result)
    }

    pub(super) fn builder(&self) -> &Builder {
        &self.builder
    }
}

impl<T> Drop for Pipeline<T> {
    fn drop(&mut self) {
        // The planner's next promise finds no one, and it returns.
        (self.items, self.pending) = (None, None);
        self.abandoned.store(true, Ordering::Relaxed);
        // Reads that wait for a server end, those of planner and workers.
        self.builder.cancel();
        if let Some(planner) = self.planner.take() {
            // A panic in the planner has been reported by its own message.
            let _ = planner.join();
        }
    }
}

/// Where the planner's work goes.
#[derive(Debug)]
pub(super) struct Output<T> {
    workers: Workers,
    order: Sender<Promise<T>>,
    builder: Arc<Builder>,
}

impl<T> Output<T> {
    /// Hands out a promise; false when no one listens any more.
    pub(super) fn promise(&self, promise: Promise<T>) -> bool {
        self.order.send(promise).is_ok()
    }

    /// Has a batch built.
    pub(super) fn build(&self, job: Job) -> Receiver<Result<HostBatch, ShardError>> {
        let (done, result) = channel::bounded(1);
        let builder = self.builder.clone();
        self.workers.soon(Box::new(move || {
            // The receiver is gone when the stream was dropped meanwhile.
            let _ = done.send(builder.build(&job));
        }));
        result
    }

    /// Has a row group decoded when there is nothing better to do.
    pub(super) fn decode_ahead(&self, slot: &Arc<Slot>) {
        let builder = self.builder.clone();
        let slot = Arc::downgrade(slot);
        self.workers.later(Box::new(move || {
            // Given up meanwhile: not worth decoding.
            if let Some(slot) = slot.upgrade() {
                builder.decode_ahead(&slot);
            }
        }));
    }
}

/// What came of waiting for an item.
#[derive(Debug)]
pub enum Next<T> {
    /// It, or why there is none.
    Item(Result<T, ShardError>),
    /// There are no more.
    End,
    /// It is still being made.
    NotYet,
}

/// What a channel gives until `deadline`; as long as it takes without one.
fn received<T>(channel: &Receiver<T>, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
    match deadline {
        Some(deadline) => channel.recv_deadline(deadline),
        None => channel.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// The result of a batch, when it is there; `None` if that is not until `deadline`.
pub(super) fn wait(
    result: &Receiver<Result<HostBatch, ShardError>>,
    deadline: Option<Instant>,
) -> Option<Result<HostBatch, ShardError>> {
    match received(result, deadline) {
        Ok(result) => Some(result),
        Err(RecvTimeoutError::Timeout) => None,
        // A worker that panicked has dropped the sender.
        Err(RecvTimeoutError::Disconnected) => Some(Err(StreamError::Worker { what: "a batch" }.into())),
    }
}

/// Row groups that wait to be decoded ahead.
const MOST_AHEAD: usize = 1024;

/// Threads with two queues. Dropping it lets them finish what is queued, unless it is abandoned.
#[derive(Debug)]
struct Workers {
    soon: Option<Sender<Task>>,
    later: Option<Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(count: usize, abandoned: &Arc<AtomicBool>) -> Result<Self, StreamError> {
        let (soon, soon_tasks) = channel::unbounded();
        let (later, later_tasks) = channel::bounded(MOST_AHEAD);
        let mut workers = Self { soon: Some(soon), later: Some(later), threads: Vec::new() };
        for i in 0..count {
            let (soon, later, abandoned) = (soon_tasks.clone(), later_tasks.clone(), abandoned.clone());
            let thread = std::thread::Builder::new()
                .name(format!("loader {i}"))
                .spawn(move || work(&soon, &later, &abandoned))
                .map_err(|e| StreamError::Threads { workers: count, reason: e.to_string() })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    fn soon(&self, task: Task) {
        // The queues are open as long as the workers live.
        let _ = self.soon.as_ref().map(|queue| queue.send(task));
    }

    fn later(&self, task: Task) {
        // Where more waits than there is time for, it is decoded when it is needed.
        let _ = self.later.as_ref().map(|queue| queue.try_send(task));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        (self.soon, self.later) = (None, None);
        for thread in self.threads.drain(..) {
            // Its panic has been reported by its own message.
            let _ = thread.join();
        }
    }
}

fn work(soon: &Receiver<Task>, later: &Receiver<Task>, abandoned: &AtomicBool) {
    let run = |task: Task| {
        if !abandoned.load(Ordering::Relaxed) {
            // A panic must not take the worker along: it drops the task's channel, which is an error there.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
        }
    };
    loop {
        channel::select_biased! {
            recv(soon) -> task => match task {
                Ok(task) => run(task),
                Err(_) => return,
            },
            recv(later) -> task => match task {
                Ok(task) => run(task),
                // The planner is done: what is to be built is still to be built.
                Err(_) => return soon.iter().for_each(run),
            },
        }
    }
}

/// The mixed, shuffled sequence of a rank.
pub(super) fn training(
    opened: Opened,
    share: Share,
    start: Cursor,
    ahead: bool,
) -> Result<Pipeline<GlobalBatch>, ShardError> {
    let config = &opened.config;
    let parts = config.micro_batches.div_ceil(share.ranks as usize);
    let (workers, depth) = (config.workers, (config.prefetch / parts).max(1));
    let builder = Arc::new(opened.builder());
    Pipeline::start(builder, workers, depth, move |output| {
        let mut windows = Windows::new(opened.order.clone(), start.epoch);
        for epoch in start.epoch..opened.config.epochs {
            windows.enter_epoch(epoch);
            let from =
                if epoch == start.epoch { start.clone() } else { Cursor { epoch, ..Cursor::default() } };
            let fresh = from.step == 0;
            let mut planner = Planner::new(opened.order.clone(), from)?;
            let mut any = false;
            while let Some(planned) = planner.next(share.ranks)? {
                any = true;
                if !submit(output, &mut windows, &opened, planned, (share, epoch, ahead)) {
                    return Ok(());
                }
                windows.leave_done(&planner);
            }
            if fresh && !any {
                return Err(StreamError::NothingFits.into());
            }
        }
        Ok(())
    })
}

/// Has this rank's part of a global batch built; false when no one listens any more.
fn submit(
    output: &Output<GlobalBatch>,
    windows: &mut Windows,
    opened: &Opened,
    planned: Planned,
    (share, epoch, ahead): (Share, u64, bool),
) -> bool {
    let Planned { parts, totals, skipped, cursor } = planned;
    let mut jobs = Vec::new();
    let mut later = Vec::new();
    for part in parts.into_iter().filter(|part| part.owner == share.rank) {
        let lane = opened.order.lane_of(part.index);
        let mut picks = Vec::with_capacity(part.samples.len());
        for sample in &part.samples {
            picks.push(Pick {
                slot: windows.slot(lane, sample),
                task: sample.task,
                index: sample.place.index,
                position: sample.position,
            });
            if ahead && sample.late {
                later.extend(windows.ahead(lane, sample));
            }
        }
        jobs.push(Job { picks, epoch, index: part.index });
    }
    // Before anyone reads them: a server is asked for many at once.
    for (dataset, group) in windows.take_fresh() {
        let dataset = &opened.datasets[dataset].dataset;
        dataset.prefetch(&dataset.row_groups()[group as usize]);
    }
    let results: Vec<_> = jobs.into_iter().map(|job| output.build(job)).collect();
    later.iter().for_each(|slot| output.decode_ahead(slot));
    let mut whole = Some((totals, skipped, cursor));
    let mut parts = Vec::with_capacity(results.len());
    output.promise(Box::new(move |deadline| {
        while let Some(result) = results.get(parts.len()) {
            match wait(result, deadline)? {
                Ok(part) => parts.push(part),
                Err(error) => return Some(Err(error)),
            }
        }
        let (totals, skipped, cursor) = whole.take()?;
        Some(Ok(GlobalBatch { parts: std::mem::take(&mut parts), totals, skipped, cursor }))
    }))
}
