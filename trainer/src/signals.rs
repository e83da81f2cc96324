//! What the system and its users may ask of a run: to stop, to save.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// Exit code of a program that a second signal ended at once.
const ENDED: i32 = 1;

/// Requests that have arrived.
#[derive(Debug, Default)]
pub struct Signals {
    stop: Arc<AtomicBool>,
    save: Arc<AtomicBool>,
}

impl Signals {
    /// Takes SIGUSR1 as a request to save from now on, which would otherwise end a process that still prepares.
    ///
    /// # Errors
    /// When the system does not let us listen.
    pub fn listen_for_saves() -> io::Result<&'static Self> {
        static SIGNALS: OnceLock<Signals> = OnceLock::new();
        if let Some(listening) = SIGNALS.get() {
            return Ok(listening);
        }
        let signals = Self::default();
        flag::register(SIGUSR1, Arc::clone(&signals.save))?;
        Ok(SIGNALS.get_or_init(|| signals))
    }

    /// Listens from now on, for the whole life of the process: Ctrl-C, SIGTERM and SIGHUP ask to stop and a second one ends
    /// the program at once; SIGUSR1 asks to save and go on.
    ///
    /// # Errors
    /// When the system does not let us listen.
    pub fn listen() -> io::Result<&'static Self> {
        static LISTENING: AtomicBool = AtomicBool::new(false);
        let signals = Self::listen_for_saves()?;
        if LISTENING.swap(true, Ordering::Relaxed) {
            return Ok(signals);
        }
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag not yet set.
            flag::register_conditional_shutdown(signal, ENDED, Arc::clone(&signals.stop))?;
            flag::register(signal, Arc::clone(&signals.stop))?;
        }
        Ok(signals)
    }

    /// Whether the run is to stop.
    pub fn is_stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a checkpoint was asked for and not yet taken on.
    pub fn is_save_asked(&self) -> bool {
        self.save.load(Ordering::Relaxed)
    }

    /// Whether a checkpoint was asked for since the last time.
    pub fn take_save(&self) -> bool {
        self.save.swap(false, Ordering::Relaxed)
    }
}
