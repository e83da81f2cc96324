//! One source, many machines: each converts a share of the units into a partition, and the partitions are merged into the
//! bytes that one machine would have written.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shards::manifest::{PARTITION_FILE, write_durably};
use shards::writer::{DatasetWriter, DuplicateIds, plan_of};

use crate::convert::{Outcome, Profile, Progress, finish};
use crate::error::{IngestError, input_error, io_error};
use crate::source::{SplitPlan, Unit};

/// Version of [`PARTITION_FILE`].
pub(crate) const VERSION: u32 = 1;

/// More than any cluster has use for; bounds what a lying file makes the merge do.
const MOST_SHARES: u32 = 1_000_000;

/// The `index`-th of `count` shares, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Which, from 1.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

impl Share {
    /// Its units: neighbouring ones, so that few machines read the same file, and about as many structures as in the others.
    pub fn units(self, units: &[Unit]) -> Vec<usize> {
        // Some sources cannot say how many structures a unit has.
        let weight = |unit: &Unit| u128::from(unit.structures.max(1));
        let total: u128 = units.iter().map(weight).sum();
        let mut before = 0;
        let mut mine = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            // The share in which the middle of the unit falls.
            let middle = 2 * before + weight(unit);
            if middle * u128::from(self.count) / (2 * total) == u128::from(self.index - 1) {
                mine.push(at);
            }
            before += weight(unit);
        }
        mine
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Share {
    type Err = String;

    /// `i/n` with `1 ≤ i ≤ n`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((index, count)) if index >= 1 && index <= count && count <= MOST_SHARES => {
                Ok(Self { index, count })
            }
            _ => Err("expected i/n with i from 1 to n, such as 3/16".to_owned()),
        }
    }
}

/// What a finished partition says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Version of this file.
    pub version: u32,
    /// Which part of the whole.
    pub share: Share,
    /// Numbers of its units.
    pub units: Vec<u32>,
    /// The splits that the whole will have.
    pub splits: Vec<SplitPlan>,
    /// Unusable structures that may be left out, over all partitions.
    pub max_rejects: u64,
    /// Whether ids may come more than once.
    pub allow_duplicate_ids: bool,
    /// What looked wrong.
    pub warnings: Vec<String>,
}

impl Partition {
    /// Reads what a directory says about itself.
    ///
    /// # Errors
    /// When it holds no finished partition of this version.
    pub fn read(dir: &Path) -> Result<Self, IngestError> {
        let path = dir.join(PARTITION_FILE);
        if !path.exists() {
            let problem =
                "holds no finished partition; finish it with: jmp-ingest convert … --partition i/n --resume";
            return Err(input_error(dir, problem));
        }
        let text = std::fs::read(&path).map_err(io_error("read", &path))?;
        let partition: Self = serde_json::from_slice(&text)
            .map_err(|e| input_error(&path, format!("is not what this version writes: {e}")))?;
        if partition.version != VERSION {
            return Err(input_error(
                &path,
                format!("version: expected {VERSION}, found {}", partition.version),
            ));
        }
        let Share { index, count } = partition.share;
        if index == 0 || index > count || count > MOST_SHARES {
            return Err(input_error(
                &path,
                format!("share: expected 1/1 to n/{MOST_SHARES}, found {index}/{count}"),
            ));
        }
        Ok(partition)
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), IngestError> {
        let path = dir.join(PARTITION_FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|e| io_error("write", &path)(e.into()))?;
        Ok(write_durably(&path, &text)?)
    }
}

/// Puts partitions together, in any order. An interrupted merge is continued by the same call.
///
/// # Errors
/// When some are missing, given twice, or parts of different conversions; when they are damaged; when together they have more
/// unusable structures than allowed.
pub fn merge(output: &Path, inputs: &[PathBuf], progress: &dyn Progress) -> Result<Outcome, IngestError> {
    let start = std::time::Instant::now();
    let partitions = agreeing(inputs)?;
    let (first_dir, first) = &partitions[0];
    let writer = DatasetWriter::create(output, plan_of(first_dir)?, true)?;
    let mut unusable = 0;
    for (dir, partition) in &partitions {
        for &unit in &partition.units {
            writer.adopt(dir, unit)?;
            let record = writer.record(unit)?;
            unusable += record.unusable;
            progress.resumed(record.rows() + record.rejects.len() as u64);
        }
    }
    let limit = partitions.iter().map(|p| p.1.max_rejects).max().unwrap_or(0);
    if unusable > limit {
        let problem = format!(
            "{unusable} structures are unusable in all partitions together, more than the {limit} of --max-rejects; look into \
             them, or convert a partition again with a larger limit"
        );
        return Err(input_error(output, problem));
    }
    progress.measuring();
    let allow = partitions.iter().any(|p| p.1.allow_duplicate_ids);
    let duplicate_ids = if allow { DuplicateIds::Allow } else { DuplicateIds::Refuse };
    let (manifest, mut warnings) = finish(writer, duplicate_ids, &first.splits)?;
    warnings.extend(partitions.iter().flat_map(|p| p.1.warnings.clone()));
    warnings.sort();
    warnings.dedup();
    let wall = start.elapsed().as_secs_f64();
    let profile = Profile { wall, measure: wall, ..Profile::default() };
    Ok(Outcome { manifest, resumed_units: 0, warnings, profile })
}

/// The partitions in their order, if they are all of one conversion.
fn agreeing(inputs: &[PathBuf]) -> Result<Vec<(PathBuf, Partition)>, IngestError> {
    let mut partitions = Vec::with_capacity(inputs.len());
    for dir in inputs {
        partitions.push((dir.clone(), Partition::read(dir)?));
    }
    partitions.sort_by_key(|p| p.1.share);
    let Some((first_dir, first)) = partitions.first() else {
        return Err(input_error(Path::new("merge"), "there are no partitions to merge"));
    };
    let plan = plan_of(first_dir)?;
    for (dir, partition) in &partitions[1..] {
        if partition.share.count != first.share.count
            || plan_of(dir)? != plan
            || partition.splits != first.splits
        {
            let problem = format!(
                "is a partition of another conversion than {}: input, options and program must be the same",
                first_dir.display()
            );
            return Err(input_error(dir, problem));
        }
    }
    if let Some(pair) = partitions.windows(2).find(|p| p[0].1.share == p[1].1.share) {
        let problem = format!("is partition {} again, as {}", pair[1].1.share, pair[0].0.display());
        return Err(input_error(&pair[1].0, problem));
    }
    let missing: Vec<String> = (1..=first.share.count)
        .filter(|i| partitions.iter().all(|p| p.1.share.index != *i))
        .map(|i| format!("{i}/{}", first.share.count))
        .collect();
    if !missing.is_empty() {
        return Err(input_error(first_dir, format!("partitions are missing: {}", missing.join(", "))));
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_belongs_to_one_share() {
        let units: Vec<Unit> = [0, 5, 900, 10, 10, 300, 0, 77]
            .map(|structures| Unit { name: String::new(), files: vec![], structures })
            .into();
        for count in [1, 2, 3, 7, 20] {
            let shares = (1..=count).map(|index| Share { index, count }.units(&units));
            let all: Vec<usize> = shares.flatten().collect();
            assert_eq!(all, (0..8).collect::<Vec<_>>(), "{count}");
        }
        let halves = [1, 2].map(|index| Share { index, count: 2 }.units(&units));
        assert_eq!(halves, [vec![0, 1, 2], vec![3, 4, 5, 6, 7]]);
    }

    #[test]
    fn shares_are_written_as_fractions() {
        assert_eq!("3/16".parse::<Share>().unwrap().to_string(), "3/16");
        for bad in ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }
}
