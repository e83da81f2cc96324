//! Threads that fetch ahead into the cache.

use std::sync::OnceLock;

use crossbeam::channel::{self, Sender};

type Job = Box<dyn FnOnce() + Send>;

/// A queue of downloads. Its threads start with the first job and end when it is dropped.
#[derive(Debug)]
pub(super) struct Prefetch {
    threads: usize,
    jobs: OnceLock<Sender<Job>>,
}

impl Prefetch {
    /// At most `threads` jobs run at a time.
    pub(super) fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), jobs: OnceLock::new() }
    }

    /// Queues a job. Where threads cannot be started nothing is fetched ahead, and readers fetch for themselves.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let start = || {
            let (sender, jobs) = channel::unbounded::<Job>();
            for index in 0..self.threads {
                let jobs = jobs.clone();
                let work = move || jobs.iter().for_each(|job| job());
                // One that cannot be started is one fewer.
                drop(std::thread::Builder::new().name(format!("fetch {index}")).spawn(work));
            }
            sender
        };
        // Without any thread no one listens.
        let _ = self.jobs.get_or_init(start).send(Box::new(job));
    }
}
