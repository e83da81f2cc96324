//! The connection of one rank to the others.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use super::error::DistributedError;
use super::ffi::{self, Group, Store};
use super::place::Place;
use crate::checkpoint::Writing;
use crate::native;

/// Where a failing rank says why, as `rank newline message`.
const FAILURE: &str = "failure";
/// Where a rank that is to stop says so.
const STOP: &str = "stop";
/// What a rank says of itself while it writes a checkpoint.
const WRITING: &[u8] = b"1";
/// Time between looks at both.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a rank whose connections broke waits for another to say why.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a rank has for ending by itself after another failed.
const GRACE: Duration = Duration::from_secs(15);
/// The same while it writes a checkpoint: gigabytes for a slow disk.
const WRITING_GRACE: Duration = Duration::from_mins(2);

/// A joined rank.
#[derive(Debug)]
pub(super) struct Link {
    rank: u32,
    ranks: u32,
    pub(super) group: Group,
    store: Store,
    /// Whether the store ends with this process.
    serves: bool,
    watch: Watch,
}

impl Link {
    /// Meets the others.
    pub(super) fn join(place: &Place, timeout: Duration, device: Device) -> Result<Self, DistributedError> {
        check_version()?;
        let Place { rank, ranks, .. } = *place;
        let refused = |message: String| DistributedError::Join {
            rank,
            ranks,
            host: place.host.clone(),
            port: place.port,
            message: first_sentence(&message),
            seconds: timeout.as_secs(),
        };
        let prefix = prefix(&place.attempt);
        let at = (place.host.as_str(), place.port);
        let store = Store::connect(at, place.serves, &prefix, timeout).map_err(refused)?;
        // All ranks of a loopback address are on this machine, and nothing needs to be open to others.
        let is_local = matches!(at.0, "localhost" | "127.0.0.1" | "::1");
        let gpu = match device {
            Device::Cuda(index) => Some((native::nccl_plugin().map_err(refused)?, index as u32)),
            _ => None,
        };
        let group = Group::new(&store, (rank, ranks), timeout, is_local.then_some("127.0.0.1"), gpu)
            .map_err(refused)?;
        let watch = Watch::start(rank, Store::connect(at, false, &prefix, timeout).map_err(refused)?);
        Ok(Self { rank, ranks, group, store, serves: place.serves, watch })
    }

    /// Adds up `values` over all ranks; every rank gets the same bits.
    pub(super) fn sum(&self, values: &mut [f64]) -> Result<(), DistributedError> {
        let tensor = Tensor::from_slice(values);
        self.told(self.group.sum(&tensor), "a sum over ranks")?;
        tensor.copy_data(values, values.len());
        Ok(())
    }

    /// Adds up a tensor over all ranks, in place.
    pub(super) fn sum_tensor(&self, tensor: &Tensor) -> Result<(), DistributedError> {
        self.told(self.group.sum(tensor), "a sum over ranks")
    }

    /// Every rank's bytes, by rank.
    pub(super) fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, DistributedError> {
        let lengths = self.gather_tensors(&Tensor::from_slice(&[bytes.len() as i64]))?;
        let lengths: Vec<i64> = lengths.iter().map(|length| length.int64_value(&[0])).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut padded = bytes.to_vec();
        padded.resize(longest as usize, 0);
        let parts = self.gather_tensors(&Tensor::from_slice(&padded))?;
        let bytes = |(part, length): (&Tensor, &i64)| {
            let mut bytes = vec![0; longest as usize];
            part.copy_data(&mut bytes, longest as usize);
            bytes.truncate(*length as usize);
            bytes
        };
        Ok(parts.iter().zip(&lengths).map(bytes).collect())
    }

    fn gather_tensors(&self, input: &Tensor) -> Result<Vec<Tensor>, DistributedError> {
        let outputs: Vec<Tensor> = (0..self.ranks).map(|_| input.empty_like()).collect();
        self.told(self.group.gather(&outputs, input), "an exchange of messages")?;
        Ok(outputs)
    }

    /// Gives all ranks rank 0's values, in place.
    pub(super) fn broadcast(&self, tensors: &[Tensor]) -> Result<(), DistributedError> {
        // One kind at a time: what is sent together must be alike.
        for kind in [Kind::Float, Kind::Double, Kind::Int64] {
            let alike: Vec<Tensor> =
                tensors.iter().filter(|t| t.kind() == kind).map(Tensor::shallow_clone).collect();
            if !alike.is_empty() {
                self.told(self.group.broadcast(&alike), "the exchange of weights")?;
            }
        }
        Ok(())
    }

    /// What an operation with the other ranks came to; where it failed, why.
    pub(super) fn told<T>(
        &self,
        result: Result<T, String>,
        during: &'static str,
    ) -> Result<T, DistributedError> {
        result.map_err(|message| {
            let begin = Instant::now();
            loop {
                // The store may be gone with the rank that served it; the watch looked while that rank waited.
                let failure = self.store.peek(FAILURE).ok().flatten().or_else(|| self.watch.seen());
                if let Some((other, message)) = failure.as_deref().and_then(parse_failure) {
                    return DistributedError::Other { rank: self.rank, other, message };
                }
                if begin.elapsed() > PATIENCE {
                    let message = first_sentence(&message);
                    return DistributedError::Lost { rank: self.rank, during, message };
                }
                thread::sleep(Duration::from_millis(50));
            }
        })
    }

    /// Says which rank fails and why, unless that was said before.
    pub(super) fn fail(&self, failing: &str, message: &str) {
        if let Ok(None) = self.store.peek(FAILURE) {
            let message: String = message.chars().take(1000).collect();
            // Where the store is gone the others notice by that.
            drop(self.store.set(FAILURE, format!("{failing}\n{message}").as_bytes()));
            if self.serves && self.ranks > 1 {
                // The others look at intervals, and after this process there is nothing to look at.
                thread::sleep(3 * LOOK_INTERVAL);
            }
        }
        self.watch.end();
    }

    /// Says that this rank is to stop, before all agree on it.
    pub(super) fn tell_stop(&self) {
        // Where the store is gone the others notice by that; where it is slow, at the end of the step.
        drop(self.store.set(STOP, b"1"));
    }

    /// Whether a rank has said so, as of half a second ago.
    pub(super) fn is_stop_told(&self) -> bool {
        self.watch.0.is_stop_told.load(Ordering::Relaxed)
    }

    /// Waits until all ranks are done; from here on nobody is missed.
    pub(super) fn say_goodbye(&self) -> Result<(), DistributedError> {
        self.sum(&mut [0.0])?;
        self.watch.end();
        Ok(())
    }

    /// Closes the connections, after all have said goodbye.
    pub(super) fn free(self) {
        self.group.free();
    }
}

/// What failing ranks say, as the parent that started them sees it.
#[derive(Debug)]
pub(super) struct Failures(Store);

impl Failures {
    /// Looks into the store at this port of this machine.
    pub(super) fn connect(port: u16) -> Result<Self, String> {
        Store::connect(("127.0.0.1", port), false, &prefix("0"), Duration::from_secs(30)).map(Self)
    }

    /// The first rank that failed, and why.
    pub(super) fn first(&self) -> Option<(String, String)> {
        parse_failure(&self.0.peek(FAILURE).ok()??)
    }

    /// Whether this rank writes a checkpoint, as of half a second ago.
    pub(super) fn is_writing(&self, rank: u32) -> bool {
        self.0.peek(&writing_key(rank)).is_ok_and(|told| told.as_deref() == Some(WRITING))
    }
}

/// Where a rank says whether it writes a checkpoint.
fn writing_key(rank: u32) -> String {
    format!("writing/{rank}")
}

/// Attempts of a launcher must not see each other's keys.
fn prefix(attempt: &str) -> String {
    format!("jmp/{attempt}")
}

/// A thread that ends this process where another rank has failed and this one cannot notice, because it waits for a GPU or
/// for data; it also hears when another is to stop.
#[derive(Debug)]
struct Watch(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    ended: AtomicBool,
    is_stop_told: AtomicBool,
    /// What a failing rank said.
    failure: Mutex<Option<Vec<u8>>>,
}

impl Watch {
    fn start(rank: u32, store: Store) -> Self {
        let watched = Arc::new(Watched::default());
        let watch = Self(watched.clone());
        let look = move || {
            let mut noticed: Option<(Instant, String)> = None;
            let mut was_writing = false;
            while !watched.ended.load(Ordering::Relaxed) {
                thread::sleep(LOOK_INTERVAL);
                match &noticed {
                    // The others may be gone already, and the store with them.
                    _ if watched.ended.load(Ordering::Relaxed) => {}
                    None => {
                        was_writing = tell_writing(&store, rank, was_writing);
                        noticed = watched.look(&store).map(|why| (Instant::now(), why));
                        if matches!(store.peek(STOP), Ok(Some(_))) {
                            watched.is_stop_told.store(true, Ordering::Relaxed);
                        }
                    }
                    Some((since, why)) if since.elapsed() > grace() => {
                        // Nobody is left to tell a closed standard error.
                        drop(writeln!(std::io::stderr(), "error: rank {rank} stops because {why}"));
                        std::process::exit(1);
                    }
                    Some(_) => {}
                }
            }
        };
        // Without the thread a failure is noticed at the next exchange.
        drop(thread::Builder::new().name("ranks".into()).spawn(look));
        watch
    }

    /// What a failing rank said while the store could be asked.
    fn seen(&self) -> Option<Vec<u8>> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Watched {
    /// What the store says of other ranks, if that is bad.
    fn look(&self, store: &Store) -> Option<String> {
        match store.peek(FAILURE) {
            Ok(failure) => {
                let failure = failure?;
                let (other, message) = parse_failure(&failure)?;
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                Some(format!("rank {other} failed: {message}"))
            }
            Err(_) => Some("the launcher or rank 0 is gone".into()),
        }
    }
}

/// Tells a parent whether this rank writes a checkpoint, if that has changed.
fn tell_writing(store: &Store, rank: u32, told: bool) -> bool {
    let is_writing = Writing::is_under_way();
    if is_writing != told {
        // Without a store there is no parent that waits.
        drop(store.set(&writing_key(rank), if is_writing { WRITING } else { b"0" }));
    }
    is_writing
}

/// How long this rank may still go on.
fn grace() -> Duration {
    if Writing::is_under_way() { WRITING_GRACE } else { GRACE }
}

fn parse_failure(bytes: &[u8]) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let (rank, message) = text.split_once('\n')?;
    Some((rank.to_owned(), message.to_owned()))
}

/// The loaded libtorch must be the one that the shim was compiled for.
fn check_version() -> Result<(), DistributedError> {
    let (built, settings) = (ffi::version_built(), ffi::library_settings());
    let found = settings.split("TORCH_VERSION=").nth(1).and_then(|rest| rest.split([',', ' ', '\n']).next());
    if found.is_some_and(|found| found.split('+').next() == Some(built.as_str())) {
        return Ok(());
    }
    Err(DistributedError::Version { built, found: found.unwrap_or("no version").to_owned() })
}

/// What matters of libtorch's words: the first sentence, without the place in its source.
fn first_sentence(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(". This is typically").next().unwrap_or_default();
    match line.split_once("] ") {
        Some((place, words)) if place.starts_with('[') && place.contains(".cc:") => words.to_owned(),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_libtorchs_words_the_first_sentence_is_kept() {
        let gloo = "[/a/gloo/pair.cc:553] Connection closed by peer [127.0.0.1]:3813. This is typically caused by a crash.";
        assert_eq!(first_sentence(gloo), "Connection closed by peer [127.0.0.1]:3813");
        assert_eq!(first_sentence("wait timeout after 3000ms\nframe #0"), "wait timeout after 3000ms");
    }
}
