//! A grid over settings: one fine-tuning run a point, each in a directory of its own, which is all the bookkeeping there is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::Value;

use crate::checkpoint::{self, Best};

/// What was asked for, in a sweep's directory.
const PLAN_FILE: &str = "sweep.json";

/// Why a sweep cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SweepError {
    /// There is nothing to vary.
    #[error("nothing to sweep over: expected --over KEY=[…], or a table [sweep] in the configuration")]
    Empty,
    /// `--over` is not understood.
    #[error("--over {text}: expected KEY=[VALUE, VALUE, …], for example optimizer.lr=[5e-5, 1e-4]")]
    Over {
        /// The argument.
        text: String,
    },
    /// The directory belongs to another sweep.
    #[error("{} holds another sweep; choose another --dir, or remove it", dir.display())]
    Other {
        /// The directory.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Settings and the values that each is to have, by key.
pub type Grid = BTreeMap<String, Vec<Value>>;

/// One run of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Name of its directory.
    pub name: String,
    /// Its settings as `key=value`.
    pub settings: Vec<String>,
}

/// Where a run of a sweep stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Not begun, or killed before its first checkpoint.
    Open,
    /// Left before its end.
    Begun,
    /// At its end.
    Done(Outcome),
}

/// What a finished run tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it ended.
    pub ending: String,
    /// Optimiser steps.
    pub step: u64,
    /// Minutes of training.
    pub minutes: f64,
    /// The best validation.
    pub best: Option<Best>,
}

/// Reads `KEY=[…]` into a grid.
pub fn add_to_grid(grid: &mut Grid, text: &str) -> Result<(), SweepError> {
    let refused = || SweepError::Over { text: text.to_owned() };
    let (key, values) = text.split_once('=').ok_or_else(refused)?;
    let table: toml::Table = toml::from_str(&format!("values = {values}")).map_err(|_| refused())?;
    match table.get("values") {
        Some(Value::Array(values)) if !values.is_empty() => {
            grid.insert(key.trim().to_owned(), values.clone());
            Ok(())
        }
        _ => Err(refused()),
    }
}

/// All points of a grid, the last key's values changing fastest.
pub fn points(grid: &Grid) -> Vec<Point> {
    let mut points = vec![Vec::new()];
    for (key, values) in grid {
        let with = |point: &Vec<(String, Value)>, value: &Value| {
            let mut point = point.clone();
            point.push((key.clone(), value.clone()));
            point
        };
        points = points.iter().flat_map(|point| values.iter().map(|v| with(point, v))).collect();
    }
    points.into_iter().map(|settings| Point::new(&settings)).collect()
}

impl Point {
    fn new(settings: &[(String, Value)]) -> Self {
        let part = |(key, value): &(String, Value)| {
            let text = format!("{key}={}", value.to_string().trim_matches('"'));
            text.chars()
                .map(|c| if c.is_ascii_alphanumeric() || "=._+-".contains(c) { c } else { '_' })
                .collect()
        };
        Self {
            name: settings.iter().map(part).collect::<Vec<String>>().join(","),
            settings: settings.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        }
    }
}

/// Claims a directory for a sweep, or finds that it is the same sweep's. `plan` is whatever two runs must agree in.
pub fn claim(dir: &Path, plan: &impl Serialize) -> Result<(), SweepError> {
    let io = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| SweepError::Io { action, path, source }
    };
    fs::create_dir_all(dir).map_err(io("create", dir))?;
    let file = dir.join(PLAN_FILE);
    let text =
        serde_json::to_string_pretty(plan).map_err(|e| io("write", &file)(io::Error::other(e)))? + "\n";
    match fs::read_to_string(&file) {
        Ok(found) if found == text => Ok(()),
        Ok(_) => Err(SweepError::Other { dir: dir.to_path_buf() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::write(&file, text).map_err(io("write", &file)),
        Err(e) => Err(io("read", &file)(e)),
    }
}

/// Where the run in `dir` stands, by its own files.
pub fn standing(dir: &Path) -> Standing {
    #[derive(Deserialize)]
    struct Line {
        kind: String,
        #[serde(flatten)]
        outcome: Outcome,
    }
    let text = fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
    let last = text.lines().rev().find_map(|line| serde_json::from_str::<Line>(line).ok());
    match last.filter(|line| line.kind == "finished" && line.outcome.ending != "signal") {
        Some(line) => Standing::Done(line.outcome),
        None if checkpoint::locate(dir, false).is_ok() => Standing::Begun,
        None => Standing::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_has_all_combinations_by_name() {
        let mut grid = Grid::new();
        add_to_grid(&mut grid, "optimizer.lr=[5e-5, 1e-4]").unwrap();
        add_to_grid(&mut grid, "heads.pooling = [\"sum\", \"max\"]").unwrap();
        let points = points(&grid);
        let names: Vec<&str> = points.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "heads.pooling=sum,optimizer.lr=0.00005",
                "heads.pooling=sum,optimizer.lr=0.0001",
                "heads.pooling=max,optimizer.lr=0.00005",
                "heads.pooling=max,optimizer.lr=0.0001"
            ]
        );
        assert_eq!(points[2].settings[0], "heads.pooling=\"max\"");
        assert!(add_to_grid(&mut grid, "run.seed=3").is_err());
        assert!(add_to_grid(&mut grid, "run.seed=[]").is_err());
    }

    #[test]
    fn a_directory_belongs_to_one_sweep_and_tells_where_its_runs_stand() {
        let home = tempfile::tempdir().unwrap();
        claim(home.path(), &"a").unwrap();
        claim(home.path(), &"a").unwrap();
        assert!(claim(home.path(), &"b").unwrap_err().to_string().contains("holds another sweep"));
        let run = home.path().join("run");
        assert_eq!(standing(&run), Standing::Open);
        fs::create_dir_all(run.join("checkpoints/step-00000003")).unwrap();
        fs::write(run.join("checkpoints/step-00000003/state.json"), "{}").unwrap();
        let stopped = r#"{"kind":"finished","ending":"signal","step":3,"minutes":0.1,"best":null}"#;
        fs::write(run.join("metrics.jsonl"), format!("{stopped}\n")).unwrap();
        assert_eq!(standing(&run), Standing::Begun);
        let done = stopped.replace("signal", "patience").replace("null", r#"{"step":2,"metric":0.5}"#);
        fs::write(run.join("metrics.jsonl"), format!("{stopped}\n{done}\n")).unwrap();
        let Standing::Done(outcome) = standing(&run) else { panic!("not done") };
        assert_eq!(outcome.best, Some(Best { step: 2, metric: 0.5 }));
    }
}
