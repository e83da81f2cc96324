//! A grid over settings: one fine-tuning run a point, each in a directory of its own, which is all the bookkeeping there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shards::manifest::write_durably;
use thiserror::Error;
use toml::Value;

use crate::checkpoint::{self, Best};
use crate::config::differences;

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
    /// Two points would be one run.
    #[error("two points of the sweep are `{name}`; expected different values of each setting")]
    Twice {
        /// Their directory's name.
        name: String,
    },
    /// The directory belongs to another sweep.
    #[error("{} holds another sweep ({difference}); choose another --dir, or remove it", dir.display())]
    Other {
        /// The directory.
        dir: PathBuf,
        /// In what it differs.
        difference: String,
    },
    /// What the directory says of its sweep cannot be read.
    #[error("{}: not what a sweep writes: {problem}; choose another --dir, or remove the file if the runs are of this sweep", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
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
    /// Ended by an error, in its words.
    Failed(String),
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

/// What two calls on one directory must agree in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The pre-trained model; `None`: random weights.
    pub checkpoint: Option<PathBuf>,
    /// What is taken from it, as words of the command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<String>,
    /// The whole configuration of each point, by the point's name.
    pub configs: BTreeMap<String, String>,
}

impl Plan {
    /// In what a plan is another than this one.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.checkpoint != other.checkpoint {
            let told =
                |plan: &Self| plan.checkpoint.as_ref().map_or("none".to_owned(), |c| c.display().to_string());
            return Some(format!("its --checkpoint is {}, now {}", told(self), told(other)));
        }
        if self.taken != other.taken {
            let told =
                |plan: &Self| if plan.taken.is_empty() { "none".to_owned() } else { plan.taken.join(" ") };
            return Some(format!("its options of the checkpoint are {}, now {}", told(self), told(other)));
        }
        if !self.configs.keys().eq(other.configs.keys()) {
            let told = |plan: &Self| plan.configs.keys().cloned().collect::<Vec<_>>().join("; ");
            return Some(format!("its points are {}, now {}", told(self), told(other)));
        }
        let mut pairs = self.configs.iter().zip(other.configs.values());
        let ((name, then), now) = pairs.find(|((_, then), now)| then != now)?;
        let changed = differences(then, now);
        let what = if changed.is_empty() { "other settings".to_owned() } else { changed.join("; ") };
        Some(format!("point {name}: {what}"))
    }
}

/// All points of a grid, the last key's values changing fastest.
///
/// # Errors
/// Two points that are the same.
pub fn points(grid: &Grid) -> Result<Vec<Point>, SweepError> {
    let mut points = vec![Vec::new()];
    for (key, values) in grid {
        let with = |point: &Vec<(String, Value)>, value: &Value| {
            let mut point = point.clone();
            point.push((key.clone(), value.clone()));
            point
        };
        points = points.iter().flat_map(|point| values.iter().map(|v| with(point, v))).collect();
    }
    let points: Vec<Point> = points.into_iter().map(|settings| Point::new(&settings)).collect();
    let mut names = BTreeSet::new();
    match points.iter().find(|point| !names.insert(&point.name)) {
        Some(Point { name, .. }) => Err(SweepError::Twice { name: name.clone() }),
        None => Ok(points),
    }
}

impl Point {
    fn new(settings: &[(String, Value)]) -> Self {
        let part = |(key, value): &(String, Value)| {
            let text = format!("{key}={}", value.to_string().trim_matches('"'));
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "=._+-".contains(c);
            let mut name: String = text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
            if name != text {
                // What is no name of a file is told apart by its hash.
                name.push('~');
                name.push_str(&blake3::hash(text.as_bytes()).to_hex()[..8]);
            }
            name
        };
        Self {
            name: settings.iter().map(part).collect::<Vec<String>>().join(","),
            settings: settings.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        }
    }
}

/// Claims a directory for a sweep, or finds that it is the same sweep's.
pub fn claim(dir: &Path, plan: &Plan) -> Result<(), SweepError> {
    let io = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| SweepError::Io { action, path, source }
    };
    fs::create_dir_all(dir).map_err(io("create", dir))?;
    let file = dir.join(PLAN_FILE);
    match fs::read_to_string(&file) {
        Ok(found) => {
            let content = |e: serde_json::Error| SweepError::Content { file, problem: e.to_string() };
            let found: Plan = serde_json::from_str(&found).map_err(content)?;
            found
                .difference(plan)
                .map_or(Ok(()), |difference| Err(SweepError::Other { dir: dir.to_path_buf(), difference }))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text =
                serde_json::to_string_pretty(plan).map_err(|e| io("write", &file)(io::Error::other(e)))?;
            write_durably(&file, (text + "\n").as_bytes())
                .map_err(|e| io("write", &file)(io::Error::other(e)))
        }
        Err(e) => Err(io("read", &file)(e)),
    }
}

/// A file in the directory of a run that has failed.
const FAILURE_FILE: &str = "failed.txt";

/// Notes that the run in `dir` has failed, and why.
pub fn keep_failure(dir: &Path, why: &str) -> Result<(), SweepError> {
    let file = dir.join(FAILURE_FILE);
    let io = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| SweepError::Io { action, path, source }
    };
    fs::create_dir_all(dir).map_err(io("create", dir))?;
    fs::write(&file, format!("{why}\n")).map_err(io("write", &file))
}

/// Undoes [`keep_failure`] before a run goes on.
pub fn forget_failure(dir: &Path) -> Result<(), SweepError> {
    let file = dir.join(FAILURE_FILE);
    match fs::remove_file(&file) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SweepError::Io { action: "remove", path: file, source })
        }
        _ => Ok(()),
    }
}

/// Whether the run in `dir` has a checkpoint to go on from.
pub fn is_begun(dir: &Path) -> bool {
    checkpoint::locate(dir, false).is_ok()
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
        None => match fs::read_to_string(dir.join(FAILURE_FILE)) {
            Ok(why) => Standing::Failed(why.trim_end().to_owned()),
            Err(_) if is_begun(dir) => Standing::Begun,
            Err(_) => Standing::Open,
        },
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
        let points = points(&grid).unwrap();
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
    fn points_have_directories_of_their_own() {
        let of = |text: &str| {
            let mut grid = Grid::new();
            add_to_grid(&mut grid, text).unwrap();
            points(&grid)
        };
        let points = of(r#"dataset.path=["shards/a_b", "shards/a/b", "shards a/b"]"#).unwrap();
        let names: BTreeSet<&String> = points.iter().map(|p| &p.name).collect();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| name.starts_with("dataset.path=shards_a_b~")), "{names:?}");
        assert!(of("optimizer.lr=[1e-4, 0.0001]").unwrap_err().to_string().contains("two points"));
        assert!(of(r#"run.seed=[1, "1"]"#).is_err());
    }

    #[test]
    fn a_directory_belongs_to_one_sweep_and_tells_where_its_runs_stand() {
        let home = tempfile::tempdir().unwrap();
        let plan = |lr: &str, checkpoint: Option<&str>| Plan {
            checkpoint: checkpoint.map(PathBuf::from),
            taken: Vec::new(),
            configs: BTreeMap::from([("seed=1".to_owned(), format!("[optimizer]\nlr = {lr}\n"))]),
        };
        claim(home.path(), &plan("1e-4", None)).unwrap();
        claim(home.path(), &plan("1e-4", None)).unwrap();
        let refused = |plan: Plan| claim(home.path(), &plan).unwrap_err().to_string();
        let message = refused(plan("2e-4", None));
        assert!(
            message.contains("holds another sweep (point seed=1: `optimizer.lr` was 0.0001, is 0.0002)"),
            "{message}"
        );
        assert!(refused(plan("1e-4", Some("jmp-s"))).contains("its --checkpoint is none, now jmp-s"));
        fs::write(home.path().join(PLAN_FILE), "{\"config\":").unwrap();
        assert!(refused(plan("1e-4", None)).contains("sweep.json: not what a sweep writes"));
        let run = home.path().join("run");
        assert_eq!(standing(&run), Standing::Open);
        fs::create_dir_all(run.join("checkpoints/step-00000003")).unwrap();
        fs::write(run.join("checkpoints/step-00000003/state.json"), "{}").unwrap();
        let stopped = r#"{"kind":"finished","ending":"signal","step":3,"minutes":0.1,"best":null}"#;
        fs::write(run.join("metrics.jsonl"), format!("{stopped}\n")).unwrap();
        assert_eq!(standing(&run), Standing::Begun);
        keep_failure(&run, "step 3: the loss is NaN").unwrap();
        assert_eq!(standing(&run), Standing::Failed("step 3: the loss is NaN".to_owned()));
        forget_failure(&run).unwrap();
        forget_failure(&run).unwrap();
        assert_eq!(standing(&run), Standing::Begun);
        let done = stopped.replace("signal", "patience").replace("null", r#"{"step":2,"metric":0.5}"#);
        fs::write(run.join("metrics.jsonl"), format!("{stopped}\n{done}\n")).unwrap();
        let Standing::Done(outcome) = standing(&run) else { panic!("not done") };
        assert_eq!(outcome.best, Some(Best { step: 2, metric: 0.5 }));
    }
}
