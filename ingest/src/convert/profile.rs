use std::time::Duration;

use serde::Serialize;
use shards::writer::Times;

/// Where the time of a conversion went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Profile {
    /// From start to end.
    pub wall: f64,
    /// Summed over the threads: source decoded.
    pub parse: f64,
    /// Rules of the format and physics checks.
    pub check: f64,
    /// Neighbour lists and graph counts.
    pub neighbors: f64,
    /// Columns encoded and compressed.
    pub compress: f64,
    /// Files written, hashed and synced.
    pub write: f64,
    /// Source files hashed.
    pub hash_sources: f64,
    /// After the units, from start to end: splits, statistics, references, duplicates, outliers, manifest.
    pub measure: f64,
}

impl Profile {
    pub(super) fn new(times: Times, parse: Duration, hash_sources: Duration) -> Self {
        Self {
            parse: parse.as_secs_f64(),
            check: times.check.as_secs_f64(),
            neighbors: times.neighbors.as_secs_f64(),
            compress: times.compress.as_secs_f64(),
            write: times.write.as_secs_f64(),
            hash_sources: hash_sources.as_secs_f64(),
            ..Self::default()
        }
    }

    /// The steps that threads share, by name.
    pub fn steps(&self) -> [(&'static str, f64); 6] {
        [
            ("parse", self.parse),
            ("check", self.check),
            ("neighbours", self.neighbors),
            ("compress", self.compress),
            ("write", self.write),
            ("hash sources", self.hash_sources),
        ]
    }
}
