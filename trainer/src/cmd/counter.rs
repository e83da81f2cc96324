//! How a long count is watched: a bar on a terminal, plain lines elsewhere, nothing if so wanted.

use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Counts structures on standard error.
pub(super) struct Counter {
    bar: Option<ProgressBar>,
    quiet: bool,
    begin: Instant,
    told: Instant,
    count: u64,
}

impl Counter {
    /// `total` is `None` where the end is not known.
    pub(super) fn new(total: Option<u64>, quiet: bool) -> Self {
        let target = ProgressDrawTarget::stderr();
        let bar = (!quiet && !target.is_hidden()).then(|| {
            let bar = ProgressBar::with_draw_target(total, target);
            let template = match total {
                Some(_) => "{bar:30} {percent}% · {human_pos} structures · {per_sec} · {eta} left",
                None => "{spinner} {human_pos} structures · {per_sec}",
            };
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Self { bar, quiet, begin: Instant::now(), told: Instant::now(), count: 0 }
    }

    /// So many are done.
    pub(super) fn set(&mut self, count: u64) {
        self.count = count;
        if let Some(bar) = &self.bar {
            bar.set_position(count);
        } else if !self.quiet && self.told.elapsed() >= LINE_INTERVAL {
            self.told = Instant::now();
            // A closed standard error must not end the work.
            drop(writeln!(std::io::stderr(), "{count} structures · {:.1} a second", self.rate()));
        }
    }

    /// Structures a second.
    pub(super) fn rate(&self) -> f64 {
        self.count as f64 / self.begin.elapsed().as_secs_f64().max(1e-9)
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Takes the bar away.
    pub(super) fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
