//! What can be set about reading URLs. None of it changes what is read.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ShardError;

/// Settings of [`Remote`](super::Remote).
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// Where downloads are kept; `None`: `.cache/jmp` in the home directory.
    pub cache: Option<PathBuf>,
    /// Most bytes that are kept.
    pub cache_size: ByteSize,
    /// Whether plain `http://` may leave this machine.
    pub allow_http: bool,
    /// Whether only the cache is read and nothing is requested.
    pub offline: bool,
    /// How often a request is tried before the error is told.
    pub attempts: u32,
    /// Wait before the second attempt; it doubles with each, up to 20 s.
    pub first_wait: Duration,
    /// A request that sends nothing for so long has failed.
    pub silence: Duration,
    /// Row groups fetched ahead at the same time.
    pub connections: usize,
    /// Told about failed attempts and long downloads.
    pub log: Log,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            cache: None,
            cache_size: ByteSize::new(64 << 30),
            allow_http: false,
            offline: false,
            attempts: 10,
            first_wait: Duration::from_millis(200),
            silence: Duration::from_secs(30),
            connections: 16,
            log: Log::default(),
        }
    }
}

impl RemoteOptions {
    /// Where the cache is.
    pub(super) fn cache_dir(&self) -> Result<PathBuf, ShardError> {
        let default = || std::env::home_dir().map(|home| home.join(".cache").join("jmp"));
        self.cache.clone().or_else(default).ok_or_else(|| ShardError::Output {
            dir: PathBuf::from("~/.cache/jmp"),
            problem: "there is no home directory for downloads; give --cache DIR".into(),
        })
    }
}

/// Who is told what happens on the way.
#[derive(Clone, Default)]
pub struct Log(Option<Tell>);

/// What is called with a line.
type Tell = Arc<dyn Fn(&str) + Send + Sync>;

impl Log {
    /// Calls `tell` with one line at a time, from any thread.
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(super) fn tell(&self, line: &str) {
        if let Some(tell) = &self.0 {
            tell(line);
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Log(…)" } else { "Log(none)" })
    }
}

/// A number of bytes as people write it: `500GB` (powers of 1000), `64GiB` or `64G` (powers of 1024), `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct ByteSize(u64);

const UNITS: [(&str, u64); 4] = [("T", 4), ("G", 3), ("M", 2), ("K", 1)];

impl ByteSize {
    /// That many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// How many bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: expected a size such as 500GB, 64GiB or 64G");
        let (number, unit) =
            text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
        let unit = unit.to_ascii_uppercase();
        let factor = if unit.is_empty() || unit == "B" {
            1
        } else {
            let (letter, power) =
                UNITS.into_iter().find(|(letter, _)| unit.starts_with(letter)).ok_or_else(wrong)?;
            match &unit[letter.len()..] {
                "B" => 1000_u64.pow(power as u32),
                "" | "IB" => 1024_u64.pow(power as u32),
                _ => return Err(wrong()),
            }
        };
        let number: u64 = number.trim().parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, power) in UNITS {
            for (suffix, base) in [("iB", 1024_u64), ("B", 1000)] {
                let unit = base.pow(power as u32);
                if self.0 >= unit && self.0.is_multiple_of(unit) {
                    return write!(f, "{}{letter}{suffix}", self.0 / unit);
                }
            }
        }
        write!(f, "{}", self.0)
    }
}

/// As configurations have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bytes(u64),
    Text(String),
}

impl TryFrom<Written> for ByteSize {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("0", 0),
            ("1048577", 1_048_577),
            ("500GB", 500_000_000_000),
            ("64GiB", 64 << 30),
            ("64g", 64 << 30),
            ("3 kB", 3000),
            ("2TiB", 2 << 40),
            ("7b", 7),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size, "{size}");
        }
        for text in ["", "G", "1.5G", "-1", "5 bytes", "99999999999T", "1GX"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
