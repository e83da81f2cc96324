//! What a person, or with `--json` a program, gets to see.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ingest::IngestError;
use ingest::convert::Progress;

/// How to speak.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    /// Errors only.
    pub(crate) quiet: bool,
    /// One JSON object instead of text.
    pub(crate) json: bool,
}

impl Console {
    /// A line for a person.
    pub(crate) fn say(self, line: &str) {
        if !self.quiet && !self.json {
            // A reader that went away (`| head`) is no failure.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }

    /// A warning, on standard error.
    pub(crate) fn warn(self, line: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "warning: {line}");
        }
    }

    /// The result for a program.
    pub(crate) fn result(self, value: &serde_json::Value) {
        if self.json {
            let _ = writeln!(io::stdout(), "{value}");
        }
    }

    /// Prints an error and gives the exit code: 2 for bad input, 1 for all else.
    pub(crate) fn fail(self, error: &anyhow::Error) -> ExitCode {
        let code = exit_code(error);
        if self.json && !error.is::<crate::cmd::Told>() {
            let value = serde_json::json!({ "error": error.to_string(), "exit_code": code });
            let _ = writeln!(io::stdout(), "{value}");
        }
        let _ = writeln!(io::stderr(), "error: {error}");
        ExitCode::from(code)
    }

    /// A progress display for `total` structures.
    pub(crate) fn progress(self, what: &str, total: u64) -> Display {
        Display::new(what, total, !self.quiet)
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let bad_input = match error.downcast_ref::<IngestError>() {
        Some(error) => error.is_bad_input(),
        None => error.is::<crate::cmd::Refused>() || error.is::<crate::cmd::Told>(),
    };
    if bad_input { 2 } else { 1 }
}

/// Lines between which a log that is no terminal stays silent.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar on a terminal, a line now and then elsewhere.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    plain: bool,
    what: String,
    total: u64,
    started: Instant,
    stored: AtomicU64,
    left_out: AtomicU64,
    resumed: AtomicU64,
    last_line: Mutex<Instant>,
}

impl Display {
    fn new(what: &str, total: u64, shown: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = (shown && terminal).then(|| {
            let bar = ProgressBar::new(total);
            let template = "{prefix} {bar:30} {human_pos}/{human_len} {per_sec} {msg} {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(what.to_owned());
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            plain: shown && !terminal,
            what: what.to_owned(),
            total,
            started: now,
            stored: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            last_line: Mutex::new(now),
        }
    }

    /// Structures done a second since the start.
    pub(crate) fn rate(&self) -> f64 {
        self.stored.load(Ordering::Relaxed) as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Removes the bar.
    pub(crate) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, done: u64, left_out: u64) {
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < LINE_EVERY {
            return;
        }
        *last = Instant::now();
        let rate = self.rate();
        let left = (self.total.saturating_sub(done)) as f64 / rate.max(1e-9);
        let rejected = if left_out > 0 { format!(", {left_out} left out") } else { String::new() };
        let _ = writeln!(
            io::stderr(),
            "{}: {done} of {} structures, {rate:.0} a second{rejected}, about {left:.0} s left",
            self.what,
            self.total
        );
    }
}

impl Progress for Display {
    fn advance(&self, stored: u64, left_out: u64) {
        let done = self.stored.fetch_add(stored, Ordering::Relaxed) + stored;
        let out = self.left_out.fetch_add(left_out, Ordering::Relaxed) + left_out;
        if let Some(bar) = &self.bar {
            bar.inc(stored + left_out);
            if left_out > 0 {
                bar.set_message(format!("{out} left out"));
            }
        } else if self.plain {
            self.line(done + out + self.resumed.load(Ordering::Relaxed), out);
        }
    }

    fn resumed(&self, structures: u64) {
        self.resumed.fetch_add(structures, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(structures);
        }
    }

    fn measuring(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message("measuring splits");
        }
    }
}
