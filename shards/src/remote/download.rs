//! One request: bytes as they arrive, watched for silence, cancelling and slowness.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path as Key;
use object_store::{Error, GetOptions, ObjectStore};

use super::Log;

/// Which bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All, of a length not known before.
    Whole,
    /// These ranges, one after the other.
    Ranges(Vec<Range<u64>>),
}

impl Wanted {
    /// How many requests it takes.
    pub(super) fn requests(&self) -> u64 {
        match self {
            Self::Whole => 1,
            Self::Ranges(ranges) => ranges.len() as u64,
        }
    }
}

/// Why there are no bytes.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such object.
    Missing,
    /// Trying again would not help.
    Lasting(String),
    /// Trying again may help.
    Passing(String),
    /// The reader no longer wants it.
    Cancelled,
}

/// What is looked at while bytes arrive.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    /// What is downloaded, for messages.
    pub(super) what: String,
    pub(super) log: &'a Log,
    pub(super) cancelled: &'a AtomicBool,
    /// A request that sends nothing for so long has failed.
    pub(super) silence: Duration,
}

/// How often `cancelled` is looked at.
const SLICE: Duration = Duration::from_millis(100);
/// Downloads that take longer tell of themselves, and again after each such time.
const LONG: Duration = Duration::from_secs(5);
/// No object that is read whole, a manifest or a list of row ranges, comes near this.
const LARGEST: u64 = 1 << 30;

/// The wanted bytes of an object, all of them.
pub(super) async fn download(
    store: &dyn ObjectStore,
    key: &Key,
    wanted: &Wanted,
    watch: &Watch<'_>,
) -> Result<Bytes, Failure> {
    let mut arrived = Arrived { bytes: Vec::new(), begin: Instant::now(), told: LONG };
    match wanted {
        Wanted::Whole => request(store, key, None, watch, &mut arrived).await?,
        Wanted::Ranges(ranges) => {
            for range in ranges {
                request(store, key, Some(range.clone()), watch, &mut arrived).await?;
            }
        }
    }
    Ok(Bytes::from(arrived.bytes))
}

/// What has come so far.
struct Arrived {
    bytes: Vec<u8>,
    begin: Instant,
    told: Duration,
}

async fn request(
    store: &dyn ObjectStore,
    key: &Key,
    range: Option<Range<u64>>,
    watch: &Watch<'_>,
    arrived: &mut Arrived,
) -> Result<(), Failure> {
    let options = GetOptions { range: range.clone().map(Into::into), ..GetOptions::default() };
    let answer = watch.wait(store.get_opts(key, options)).await?.map_err(failure)?;
    let length = answer.range.end - answer.range.start;
    if range.is_some_and(|r| r.end - r.start != length) || length > LARGEST {
        return Err(Failure::Passing(format!("the answer has {length} bytes")));
    }
    let expected = arrived.bytes.len() as u64 + length;
    let mut body = answer.into_stream();
    while let Some(piece) = watch.wait(body.next()).await? {
        arrived.bytes.extend_from_slice(&piece.map_err(failure)?);
        watch.tell(arrived, expected);
        if arrived.bytes.len() as u64 > expected {
            break;
        }
    }
    let found = arrived.bytes.len() as u64;
    if found == expected {
        return Ok(());
    }
    Err(Failure::Passing(format!("the answer ended after {found} of {expected} bytes")))
}

impl Watch<'_> {
    /// A future's result, unless it keeps silent or is cancelled.
    async fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let mut future = pin!(future);
        let begin = Instant::now();
        loop {
            if let Ok(result) = tokio::time::timeout(SLICE.min(self.silence), &mut future).await {
                return Ok(result);
            }
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Failure::Cancelled);
            }
            if begin.elapsed() >= self.silence {
                return Err(Failure::Passing(format!("no answer for {:.1} s", self.silence.as_secs_f64())));
            }
        }
    }

    fn tell(&self, arrived: &mut Arrived, expected: u64) {
        let elapsed = arrived.begin.elapsed();
        if elapsed < arrived.told {
            return;
        }
        arrived.told = elapsed + LONG;
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let so_far = mega(arrived.bytes.len() as u64);
        self.log.tell(&format!(
            "{}: {so_far:.1} of {:.1} MB after {:.0} s, {:.1} MB/s",
            self.what,
            mega(expected),
            elapsed.as_secs_f64(),
            so_far / elapsed.as_secs_f64()
        ));
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::NotFound { .. } => Failure::Missing,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            Failure::Lasting(format!("access refused; are the credentials right? ({})", reason(&error)))
        }
        Error::NotSupported { .. } => {
            Failure::Lasting("the server cannot send parts of a file (HTTP range requests)".into())
        }
        Error::Generic { .. } => Failure::Passing(reason(&error)),
        other => Failure::Lasting(reason(&other)),
    }
}

/// What the innermost cause says, with the outer ones where they say more; at most a few lines.
fn reason(error: &Error) -> String {
    let mut text = error.to_string().replace('\n', " ");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
