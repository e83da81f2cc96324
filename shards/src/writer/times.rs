use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a writer's threads spent their time on, summed over the threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Rules of the format and physics checks.
    pub check: Duration,
    /// Neighbour lists and graph counts.
    pub neighbors: Duration,
    /// Columns encoded and compressed.
    pub compress: Duration,
    /// Files written, hashed and synced.
    pub write: Duration,
}

impl Times {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.check + self.neighbors + self.compress + self.write
    }

    /// Runs a step and adds what it took to one of the sums.
    pub(super) fn measure<T>(sum: &mut Duration, step: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = step();
        *sum += start.elapsed();
        result
    }
}

/// [`Times`] that several threads add to.
#[derive(Debug, Default)]
pub(super) struct SharedTimes([AtomicU64; 4]);

impl SharedTimes {
    pub(super) fn add(&self, times: Times) {
        for (sum, time) in self.0.iter().zip([times.check, times.neighbors, times.compress, times.write]) {
            sum.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> Times {
        let [check, neighbors, compress, write] =
            [0, 1, 2, 3].map(|k| Duration::from_nanos(self.0[k].load(Ordering::Relaxed)));
        Times { check, neighbors, compress, write }
    }
}
