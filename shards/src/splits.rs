//! Named row sets: how they are made, stored and measured. Rows themselves are stored once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{ShardError, io_error};
use crate::legacy_shuffle::LegacyRng;
use crate::linear_reference::{GivenReference, LinearReference};
use crate::reader::{Columns, Dataset};
use crate::remote::Location;
use crate::row_set::RowSet;
use crate::statistics::{self, SplitStatistics};
use crate::writer::DirLock;

/// A split to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitDefinition {
    /// Its name, also its file's: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// How its rows were chosen, in words that suffice to repeat it.
    pub algorithm: String,
    /// The seed, where the choice was random.
    pub seed: Option<u64>,
    /// Its rows.
    pub rows: RowSet,
}

/// A split in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRecord {
    /// Rows.
    pub rows: u64,
    /// The file of its row ranges, relative to the dataset.
    pub file: String,
    /// BLAKE3 of that file.
    pub blake3: String,
    /// How its rows were chosen.
    pub algorithm: String,
    /// The seed, where the choice was random.
    pub seed: Option<u64>,
    /// What was measured about its rows.
    pub statistics: SplitStatistics,
}

impl SplitDefinition {
    /// A split with a checked name.
    pub fn new(name: &str, algorithm: &str, seed: Option<u64>, rows: RowSet) -> Result<Self, ShardError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let problem =
                "a name has letters, digits, `-`, `_` and `.`, and does not begin with a dot".to_string();
            return Err(ShardError::BadSplit { name: name.to_string(), problem });
        }
        Ok(Self { name: name.to_string(), algorithm: algorithm.to_string(), seed, rows })
    }
}

/// Checks splits and names them with their rows.
pub(crate) fn named_rows(
    dataset: &Dataset,
    definitions: &[SplitDefinition],
) -> Result<Vec<(String, RowSet)>, ShardError> {
    for definition in definitions {
        if definition.rows.end() > dataset.rows() {
            let problem =
                format!("row {} is beyond the dataset's {} rows", definition.rows.end() - 1, dataset.rows());
            return Err(ShardError::BadSplit { name: definition.name.clone(), problem });
        }
    }
    Ok(definitions.iter().map(|d| (d.name.clone(), d.rows.clone())).collect())
}

/// Writes the files of measured splits and returns their records.
pub(crate) fn write(
    dataset: &Dataset,
    definitions: Vec<SplitDefinition>,
    measured: Vec<SplitStatistics>,
) -> Result<BTreeMap<String, SplitRecord>, ShardError> {
    let mut records = BTreeMap::new();
    for (definition, statistics) in definitions.into_iter().zip(measured) {
        let file = format!("splits/{}.parquet", definition.name);
        let path = dataset.dir().join(&file);
        definition.rows.write(&path)?;
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        let record = SplitRecord {
            rows: definition.rows.len(),
            file,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            algorithm: definition.algorithm,
            seed: definition.seed,
            statistics,
        };
        records.insert(definition.name, record);
    }
    Ok(records)
}

/// Adds splits to a finished dataset. The manifest is replaced by rename, last; an existing split is never overwritten.
pub fn add(dir: &Path, definitions: Vec<SplitDefinition>) -> Result<(), ShardError> {
    let dir = &Location::parse(dir)?.directory()?.to_path_buf();
    let _lock = DirLock::take(dir)?;
    let dataset = Dataset::open(dir)?;
    for (k, definition) in definitions.iter().enumerate() {
        if definitions[..k].iter().any(|d| d.name == definition.name) {
            let problem = "is asked for twice".to_string();
            return Err(ShardError::BadSplit { name: definition.name.clone(), problem });
        }
        if dataset.manifest().splits.contains_key(&definition.name) {
            let problem = "the dataset has a split of that name; choose another name".to_string();
            return Err(ShardError::BadSplit { name: definition.name.clone(), problem });
        }
    }
    let given = given_reference(&dataset);
    let measured = statistics::measure(&dataset, &named_rows(&dataset, &definitions)?, given.as_ref())?;
    let records = write(&dataset, definitions, measured)?;
    let mut manifest = dataset.into_manifest();
    manifest.splits.extend(records);
    manifest.write(dir)
}

/// The reference that the dataset was converted with, if one was given, for splits that come later.
fn given_reference(dataset: &Dataset) -> Option<GivenReference> {
    let labels =
        dataset.manifest().splits.values().filter_map(|s| s.statistics.labels.get(statistics::ENERGY));
    let mut given = labels.filter_map(|label| {
        let LinearReference { given, coefficients, .. } = &label.reference;
        let file = given.clone()?;
        Some(GivenReference { file, blake3: String::new(), coefficients: coefficients.clone() })
    });
    given.next()
}

/// Shuffles the rows of a set as `numpy.random.RandomState(seed).shuffle` does and cuts runs of the given lengths off its front.
///
/// With the set `0..n` these are JMP's own splits of the fine-tuning sets.
pub fn random(rows: &RowSet, seed: u32, lengths: &[u64]) -> Result<Vec<RowSet>, String> {
    let mut order: Vec<u64> = rows.iter().collect();
    LegacyRng::new(seed).shuffle(&mut order);
    cut(&order, lengths)
}

/// As [`random`], but whole groups are kept together: groups are shuffled, and a run ends with the group that fills it.
pub fn random_groups(
    dataset: &Dataset,
    rows: &RowSet,
    seed: u32,
    lengths: &[u64],
) -> Result<Vec<RowSet>, ShardError> {
    let groups = rows_by_group(dataset, rows)?;
    let mut members: Vec<Vec<u64>> = groups.into_values().collect();
    LegacyRng::new(seed).shuffle(&mut members);
    let mut members = members.into_iter();
    let mut taken = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let mut run: Vec<u64> = Vec::new();
        while (run.len() as u64) < length {
            let Some(group) = members.next() else { break };
            run.extend(group);
        }
        if run.is_empty() && length > 0 {
            let problem = format!(
                "no group is left for the run of {length} rows after {} runs; groups are too large for these sizes",
                taken.len()
            );
            return Err(ShardError::BadSplit { name: "grouped".into(), problem });
        }
        taken.push(RowSet::from_rows(run));
    }
    Ok(taken)
}

/// Rows whose id, or with `groups` whose group, is among `names`; and the names that no row has.
pub fn listed(
    dataset: &Dataset,
    names: &BTreeSet<String>,
    groups: bool,
) -> Result<(RowSet, BTreeSet<String>), ShardError> {
    let (mut rows, mut missing) = (Vec::new(), names.clone());
    for row_group in dataset.row_groups() {
        let block = dataset.read(row_group, Columns::identity())?;
        for (index, row) in row_group.rows.clone().enumerate() {
            let view = block.row(index);
            let name = if groups { view.group } else { view.id };
            if names.contains(name) {
                rows.push(row);
                missing.remove(name);
            }
        }
    }
    Ok((RowSet::from_rows(rows), missing))
}

/// Rows of a set by their group, groups in bytewise order.
pub fn rows_by_group(dataset: &Dataset, rows: &RowSet) -> Result<BTreeMap<String, Vec<u64>>, ShardError> {
    let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row_group in dataset.row_groups() {
        let mut wanted = rows.within(row_group.rows.clone()).peekable();
        if wanted.peek().is_none() {
            continue;
        }
        let block = dataset.read(row_group, Columns::identity())?;
        for row in wanted {
            let view = block.row((row - row_group.rows.start) as usize);
            match groups.get_mut(view.group) {
                Some(members) => members.push(row),
                None => drop(groups.insert(view.group.to_string(), vec![row])),
            }
        }
    }
    Ok(groups)
}

fn cut(order: &[u64], lengths: &[u64]) -> Result<Vec<RowSet>, String> {
    let total: u64 = lengths.iter().sum();
    if total > order.len() as u64 {
        return Err(format!("asks for {total} rows of {}", order.len()));
    }
    let mut rest = order;
    let mut sets = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let (head, tail) = rest.split_at(length as usize);
        sets.push(RowSet::from_rows(head.to_vec()));
        rest = tail;
    }
    Ok(sets)
}
