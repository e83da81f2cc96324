//! Signals that a parent of other processes passes on instead of heeding them itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// What has arrived for the children and was not passed on yet.
#[derive(Debug, Default)]
pub(super) struct ForwardedSignals {
    stop: Arc<AtomicBool>,
    save: Arc<AtomicBool>,
}

impl ForwardedSignals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system does not let us listen.
    pub(super) fn listen() -> io::Result<Self> {
        let signals = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&signals.stop))?;
        }
        flag::register(SIGUSR1, Arc::clone(&signals.save))?;
        Ok(signals)
    }

    /// The next one to pass on.
    pub(super) fn next(&self) -> Option<Signal> {
        if self.stop.swap(false, Ordering::Relaxed) {
            return Some(Signal::SIGTERM);
        }
        self.save.swap(false, Ordering::Relaxed).then_some(Signal::SIGUSR1)
    }
}
