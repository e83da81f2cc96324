//! The files of one dataset below a URL: from the cache, else downloaded, checked and kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path as Key;

use super::cache::CacheKey;
use super::download::{Failure, Wanted, Watch, download};
use super::location::RemoteUrl;
use super::{Remote, client, retry};
use crate::error::ShardError;
use crate::manifest::{FILE_NAME, Manifest};

/// A dataset's place on a server.
#[derive(Debug)]
pub(crate) struct RemoteDir {
    url: RemoteUrl,
    store: Arc<dyn ObjectStore>,
    remote: Arc<Remote>,
    cancelled: AtomicBool,
    /// Whether it was told that the cache keeps nothing.
    fails_to_keep: AtomicBool,
}

/// A part of a file that is fetched, checked and kept as one.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The file's name below the URL.
    file: String,
    /// What it is, for messages: `row group 3`.
    what: String,
    wanted: Wanted,
    check: Check,
    key: CacheKey,
}

/// What tells whether bytes are the right ones.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    /// The BLAKE3 of all of them.
    Content(String),
    /// Its first 16 digits.
    Short(String),
    /// Their number alone: the format has no hash of single columns. In the cache they carry one.
    Length,
}

/// Bytes that arrived but are wrong are asked for so often; a file that is wrong at its source stays so.
const DOWNLOADS: u32 = 3;
/// A manifest, by which a URL is first met, is not waited for as long as data in the middle of a run.
const FIRST_ATTEMPTS: u32 = 5;
/// Bytes of a BLAKE3.
const HASH: usize = 32;

impl Request {
    /// `identity`: the hash of a content that holds these bytes, and what says which of its bytes they are.
    pub(crate) fn new(
        file: impl Into<String>,
        what: impl Into<String>,
        wanted: Wanted,
        check: Check,
        identity: &[&str],
    ) -> Self {
        Self { file: file.into(), what: what.into(), wanted, check, key: CacheKey::of(identity) }
    }

    /// How the bytes differ from what they should be: what, expected, found.
    fn fault(&self, bytes: &[u8]) -> Option<(String, String, String)> {
        let hash = || blake3::hash(bytes).to_hex().to_string();
        let (what, expected, found) = match &self.check {
            Check::Content(expected) => (format!("BLAKE3 of the {}", self.what), expected, hash()),
            Check::Short(expected) => {
                (format!("checksum of {}", self.what), expected, hash()[..16].to_owned())
            }
            Check::Length => return None,
        };
        (*expected != found).then(|| (what, expected.clone(), found))
    }

    /// The bytes as the cache holds them.
    fn sealed(&self, bytes: &Bytes) -> Bytes {
        match self.check {
            Check::Length => [bytes, blake3::hash(bytes).as_bytes().as_slice()].concat().into(),
            _ => bytes.clone(),
        }
    }

    /// The bytes of what the cache held, if they are still the right ones.
    fn opened(&self, content: Vec<u8>) -> Option<Bytes> {
        let content = Bytes::from(content);
        if !matches!(self.check, Check::Length) {
            return self.fault(&content).is_none().then_some(content);
        }
        let length = content.len().checked_sub(HASH)?;
        (*blake3::hash(&content[..length]).as_bytes() == content[length..]).then(|| content.slice(..length))
    }
}

impl RemoteDir {
    /// A client for the URL; nothing is sent yet.
    pub(crate) fn new(url: RemoteUrl, remote: Arc<Remote>) -> Result<Self, ShardError> {
        let store = client::connect(&url, remote.options.allow_http)?;
        Ok(Self {
            url,
            store,
            remote,
            cancelled: AtomicBool::new(false),
            fails_to_keep: AtomicBool::new(false),
        })
    }

    /// The URL of a file, for messages.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.url.file(file)
    }

    /// Lets waiting reads end with an error, and later ones fail.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// The manifest as it is now: it may have got splits since it was last read. Kept for reading offline.
    pub(crate) fn manifest(&self) -> Result<Manifest, ShardError> {
        let path = self.path(FILE_NAME);
        let key = CacheKey::of(&["manifest", &self.url.to_string()]);
        if self.remote.options.offline {
            let content = self.remote.cache.get(&key).ok_or_else(|| self.offline(FILE_NAME, "manifest"))?;
            return Manifest::decode(&content, &path);
        }
        let request = Request {
            file: FILE_NAME.to_owned(),
            what: "manifest".to_owned(),
            wanted: Wanted::Whole,
            check: Check::Length,
            key: key.clone(),
        };
        let accept = |bytes: Bytes| Ok((Manifest::decode(&bytes, &path)?, bytes));
        let attempts = self.remote.options.attempts.min(FIRST_ATTEMPTS);
        let (manifest, bytes) = match self.fetch(&request, attempts, accept) {
            Ok(fetched) => fetched,
            Err(ShardError::NoObject { .. }) => {
                return Err(ShardError::NoManifest { dir: PathBuf::from(self.url.to_string()) });
            }
            // An outage must not end a run that opens its data again, say for validation.
            Err(error @ ShardError::Download { passing: true, .. }) => {
                let content = self.remote.cache.get(&key).ok_or(error)?;
                self.tell(&format!("{}: not reached, taken as it was when last fetched", path.display()));
                return Manifest::decode(&content, &path);
            }
            Err(error) => return Err(error),
        };
        self.keep(self.remote.cache.replace(&key, &bytes));
        Ok(manifest)
    }

    /// Bytes from the cache, or fetched, checked and kept there. Whoever else wants the same meanwhile waits for them.
    pub(crate) fn object(&self, request: &Request) -> Result<Bytes, ShardError> {
        if let Some(bytes) = self.cached(request) {
            return Ok(bytes);
        }
        if self.remote.options.offline {
            return Err(self.offline(&request.file, &request.what));
        }
        let turn = self.remote.cache.turn(&request.key, &self.cancelled);
        let _turn = turn.ok_or_else(|| self.failed(request, "cancelled"))?;
        if let Some(bytes) = self.cached(request) {
            return Ok(bytes);
        }
        let accept = |bytes: Bytes| match request.fault(&bytes) {
            None => Ok(bytes),
            Some((what, expected, found)) => {
                Err(ShardError::Corrupt { path: self.path(&request.file), what, expected, found })
            }
        };
        let bytes = self.fetch(request, self.remote.options.attempts, accept)?;
        self.keep(self.remote.cache.put(&request.key, &request.sealed(&bytes)));
        Ok(bytes)
    }

    /// Bytes from the cache alone. Damaged ones are removed from it.
    pub(crate) fn cached(&self, request: &Request) -> Option<Bytes> {
        let content = self.remote.cache.get(&request.key)?;
        let opened = request.opened(content);
        if opened.is_some() {
            self.remote.hits.fetch_add(1, Ordering::Relaxed);
        } else {
            self.tell(&format!("{}: damaged in the cache, fetched again", self.name(request)));
            self.remote.cache.remove(&request.key);
        }
        opened
    }

    /// Whether the cache has it.
    pub(crate) fn has(&self, request: &Request) -> bool {
        self.remote.cache.has(&request.key)
    }

    /// Forgets what the cache has of it.
    pub(crate) fn forget(&self, request: &Request) {
        self.remote.cache.remove(&request.key);
    }

    /// Queues work that fills the cache; it is left out where nothing can be kept, or no one is left to want it.
    pub(crate) fn ahead(self: &Arc<Self>, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        if self.remote.options.offline || !self.remote.cache.stores() {
            return;
        }
        let dir = Arc::downgrade(self);
        self.remote.prefetch.submit(move || {
            if let Some(dir) = dir.upgrade().filter(|dir| !dir.cancelled.load(Ordering::Relaxed)) {
                work(&dir);
            }
        });
    }

    /// Downloads until `accept` takes the bytes or it makes no sense to go on.
    fn fetch<T>(
        &self,
        request: &Request,
        attempts: u32,
        accept: impl Fn(Bytes) -> Result<T, ShardError>,
    ) -> Result<T, ShardError> {
        let mut wrong = 0;
        for attempt in 1.. {
            let error = match self.attempt(request) {
                Ok(bytes) => {
                    let length = bytes.len() as u64;
                    match accept(bytes) {
                        Ok(accepted) => {
                            self.remote.bytes.fetch_add(length, Ordering::Relaxed);
                            return Ok(accepted);
                        }
                        Err(error) => {
                            wrong += 1;
                            error
                        }
                    }
                }
                Err(Failure::Missing) => return Err(ShardError::NoObject { path: self.path(&request.file) }),
                Err(Failure::Lasting(reason)) => return Err(self.failed(request, &reason)),
                Err(Failure::Cancelled) => return Err(self.failed(request, "cancelled")),
                Err(Failure::Passing(reason)) => {
                    self.delayed(request, &format!("{reason}; attempt {attempt}"))
                }
            };
            if attempt >= attempts || wrong >= DOWNLOADS {
                return Err(tried(error, attempt));
            }
            let wait = retry::wait_after(attempt, self.remote.options.first_wait, &self.name(request));
            self.tell(&format!("{error} of {attempts}; again in {:.1} s", wait.as_secs_f64()));
            self.remote.retries.fetch_add(1, Ordering::Relaxed);
            if !retry::sleep(wait, &self.cancelled) {
                return Err(self.failed(request, "cancelled"));
            }
        }
        Err(self.failed(request, "no attempt was allowed"))
    }

    fn attempt(&self, request: &Request) -> Result<Bytes, Failure> {
        let parts = self.url.prefix.parts().chain(request.file.split('/').map(Into::into));
        let watch = Watch {
            what: self.name(request),
            log: &self.remote.options.log,
            cancelled: &self.cancelled,
            silence: self.remote.options.silence,
        };
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Failure::Cancelled);
        }
        self.remote.requests.fetch_add(request.wanted.requests(), Ordering::Relaxed);
        let runtime = client::runtime().map_err(|e| Failure::Lasting(e.to_string()))?;
        runtime.block_on(download(
            self.store.as_ref(),
            &parts.into_iter().collect::<Key>(),
            &request.wanted,
            &watch,
        ))
    }

    /// What comes of keeping a content. What cannot be kept will be fetched again: told when it begins.
    fn keep(&self, stored: std::io::Result<()>) {
        if let Err(error) = stored
            && !self.fails_to_keep.swap(true, Ordering::Relaxed)
        {
            self.tell(&format!("the cache cannot keep what is downloaded: {error}"));
        }
    }

    fn tell(&self, line: &str) {
        self.remote.options.log.tell(line);
    }

    fn name(&self, request: &Request) -> String {
        format!("{} ({})", self.path(&request.file).display(), request.what)
    }

    /// What trying again does not help.
    fn failed(&self, request: &Request, reason: &str) -> ShardError {
        self.refusal(&request.file, &request.what, reason, false)
    }

    /// What trying again may help.
    fn delayed(&self, request: &Request, reason: &str) -> ShardError {
        self.refusal(&request.file, &request.what, reason, true)
    }

    fn refusal(&self, file: &str, what: &str, reason: &str, passing: bool) -> ShardError {
        ShardError::Download {
            path: self.path(file),
            what: what.to_owned(),
            reason: reason.to_owned(),
            passing,
        }
    }

    fn offline(&self, file: &str, what: &str) -> ShardError {
        self.refusal(file, what, "it is not in the cache, and nothing is requested when offline", false)
    }
}

/// The last error of several attempts.
fn tried(error: ShardError, attempts: u32) -> ShardError {
    match error {
        ShardError::Corrupt { path, what, expected, found } => {
            let what = format!("{what}, downloaded {attempts} times");
            ShardError::Corrupt { path, what, expected, found }
        }
        other => other,
    }
}
