//! The sets of rows that are compared: splits of datasets.

use std::path::{Path, PathBuf};

use shards::{Dataset, RowSet};

use crate::error::ReportError;

/// A dataset on the command line: `DIR`, or `SPLIT=DIR` for one split of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The split; `None`: as the command decides.
    pub split: Option<String>,
    /// The dataset's directory.
    pub dir: PathBuf,
}

impl std::str::FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (split, dir) = match text.split_once('=') {
            // A path may hold a `=` of its own.
            Some((split, dir)) if !split.contains('/') => (Some(split.to_string()), dir),
            _ => (None, text),
        };
        if dir.is_empty() || split.as_deref() == Some("") {
            return Err(format!("`{text}`: expected DIR or SPLIT=DIR"));
        }
        Ok(Self { split, dir: dir.into() })
    }
}

/// Which splits are taken where none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// The one to train on: `train`, else the first whose name begins so, else all rows.
    Training,
    /// Every split that begins with `train`.
    AllTraining,
    /// Every split that does not begin with `train`, and not `all`.
    Held,
    /// Every split.
    All,
}

/// A set of rows of one of the open datasets.
#[derive(Debug, Clone)]
pub struct Set {
    /// Place of the dataset in the list of open ones.
    pub dataset: usize,
    /// Its name for people: the dataset's and the split's.
    pub name: String,
    /// The name of the dataset's directory: several datasets may be of one kind, as the molecules of rMD17.
    pub dataset_name: String,
    /// The split's name; `all rows` where it is none.
    pub split: String,
    /// Its rows.
    pub rows: RowSet,
}

/// Open datasets, each once.
#[derive(Debug, std::default::Default)]
pub struct Datasets {
    /// In the order in which they were opened.
    pub open: Vec<Dataset>,
}

impl Datasets {
    /// Opens a dataset, or finds it among those that are open.
    fn place(&mut self, given: &Given) -> Result<usize, ReportError> {
        if let Some(place) = self.open.iter().position(|d| d.dir() == given.dir) {
            return Ok(place);
        }
        self.open.push(Dataset::open(&given.dir)?);
        Ok(self.open.len() - 1)
    }

    /// The sets that `given` names.
    pub fn sets(&mut self, given: &[Given], default: Default) -> Result<Vec<Set>, ReportError> {
        let mut sets: Vec<Set> = vec![];
        for given in given {
            let place = self.place(given)?;
            for split in self.splits(place, given, default)? {
                let dataset = &self.open[place];
                let rows = match &split {
                    Some(split) => dataset.split(split)?,
                    None => RowSet::from_range(0..dataset.rows()),
                };
                let split = split.unwrap_or_else(|| "all rows".into());
                let dataset_name = directory_name(dataset.dir());
                let name = format!("{dataset_name} {split}");
                sets.push(Set { dataset: place, name, dataset_name, split, rows });
            }
        }
        Ok(sets)
    }

    fn splits(
        &self,
        place: usize,
        given: &Given,
        default: Default,
    ) -> Result<Vec<Option<String>>, ReportError> {
        let manifest = self.open[place].manifest();
        if let Some(split) = &given.split {
            manifest.split(&given.dir, split)?;
            return Ok(vec![Some(split.clone())]);
        }
        let is_train = |name: &&String| name.starts_with("train");
        let names = || manifest.splits.keys();
        let chosen: Vec<&String> = match default {
            Default::Training => {
                names().find(|n| *n == "train").or_else(|| names().find(is_train)).into_iter().collect()
            }
            Default::AllTraining => names().filter(is_train).collect(),
            Default::Held => names().filter(|n| !is_train(n) && *n != "all").collect(),
            Default::All => names().collect(),
        };
        if chosen.is_empty() && matches!(default, Default::AllTraining | Default::Held) {
            return Err(ReportError::Usage(format!(
                "--within {}: expected a split whose name begins with `train` and another one, found {}; name splits with \
                 --pretrain SPLIT=DIR --finetune SPLIT=DIR",
                given.dir.display(),
                if manifest.splits.is_empty() {
                    "none".to_string()
                } else {
                    names().cloned().collect::<Vec<_>>().join(", ")
                }
            )));
        }
        let named: Vec<Option<String>> = chosen.into_iter().cloned().map(Some).collect();
        Ok(if named.is_empty() { vec![None] } else { named })
    }
}

/// A directory's own name, also of `.` and of links.
pub fn directory_name(dir: &Path) -> String {
    let resolved = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    resolved.file_name().unwrap_or(resolved.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_may_be_named_and_paths_may_hold_equals_signs() {
        let given = |text: &str| text.parse::<Given>();
        let of = |split: Option<&str>, dir: &str| Ok(Given { split: split.map(Into::into), dir: dir.into() });
        assert_eq!(given("shards/qm9"), of(None, "shards/qm9"));
        assert_eq!(given("test=shards/qm9"), of(Some("test"), "shards/qm9"));
        assert_eq!(given("/data/a=b"), of(None, "/data/a=b"));
        assert!(given("test=").is_err() && given("=x").is_err() && given("").is_err());
    }
}
