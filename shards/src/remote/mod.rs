//! Datasets on object stores and web servers, with a cache on this machine.
//!
//! ```text
//! Dataset ── RemoteDir ──► Cache (objects by hash, least recently used go first)
//!                │ missing
//!                └──► download: ranges of objects, hashes checked, tried again ──► object_store
//! ```
//!
//! A [`Dataset`](crate::Dataset) opened at a URL reads the manifest, then footers and row groups as they are asked for; each is one
//! range of a part and one content of the cache. docs/remote.md says why, and what can be set.

mod cache;
mod client;
mod dir;
mod download;
mod location;
mod options;
mod prefetch;
mod retry;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cache::Cache;
pub(crate) use dir::{Check, RemoteDir, Request};
pub(crate) use download::Wanted;
pub use location::{Location, RemoteUrl};
pub use options::{ByteSize, Log, RemoteOptions};
use prefetch::Prefetch;

use crate::error::ShardError;

/// How this process reads URLs: cache, limits, and what was done so far.
#[derive(Debug)]
pub struct Remote {
    options: RemoteOptions,
    cache: Cache,
    prefetch: Prefetch,
    requests: AtomicU64,
    bytes: AtomicU64,
    hits: AtomicU64,
    retries: AtomicU64,
}

/// What reading URLs has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests sent.
    pub requests: u64,
    /// Bytes received and found right.
    pub bytes: u64,
    /// Contents taken from the cache.
    pub hits: u64,
    /// Requests that were sent again after a failure.
    pub retries: u64,
}

/// What [`Dataset::open`](crate::Dataset::open) uses for URLs.
static INSTALLED: Mutex<Installed> = Mutex::new(Installed::Nothing);

enum Installed {
    Nothing,
    Options(RemoteOptions),
    Open(Arc<Remote>),
}

impl RemoteOptions {
    /// Makes datasets that are opened from now on use these settings. Nothing is opened before a URL is.
    pub fn install(self) {
        *INSTALLED.lock().unwrap_or_else(PoisonError::into_inner) = Installed::Options(self);
    }
}

impl Remote {
    /// Opens the cache. Threads start when a URL is used.
    ///
    /// # Errors
    /// When the cache's directory cannot be used.
    pub fn new(options: RemoteOptions) -> Result<Arc<Self>, ShardError> {
        let cache = Cache::open(&options.cache_dir()?, options.cache_size.bytes())?;
        let prefetch = Prefetch::new(options.connections);
        let zero = || AtomicU64::new(0);
        let [requests, bytes, hits, retries] = [zero(), zero(), zero(), zero()];
        Ok(Arc::new(Self { options, cache, prefetch, requests, bytes, hits, retries }))
    }

    /// The process's own: of the options last installed, or the default ones.
    ///
    /// # Errors
    /// As [`Remote::new`].
    pub fn installed() -> Result<Arc<Self>, ShardError> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        let options = match &*installed {
            Installed::Open(remote) => return Ok(remote.clone()),
            Installed::Options(options) => options.clone(),
            Installed::Nothing => RemoteOptions::default(),
        };
        let remote = Self::new(options)?;
        *installed = Installed::Open(remote.clone());
        Ok(remote)
    }

    /// What reading has cost so far.
    pub fn traffic(&self) -> Traffic {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            requests: of(&self.requests),
            bytes: of(&self.bytes),
            hits: of(&self.hits),
            retries: of(&self.retries),
        }
    }
}
