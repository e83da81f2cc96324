//! Runs side by side.

pub mod ablation;
pub mod measure;
mod page;
pub mod time_to_match;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::ablation::{AblationRow, Method};
use self::measure::{Key, Measures};
use self::time_to_match::TimeToMatch;
use crate::error::ReportError;
use crate::paper::Paper;
use crate::paper::improvement::relative;
use crate::run_report::{self, RunReport};
use crate::settings::{self, Difference, Settings};

pub use page::{document, match_line};

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Runs side by side; improvements are over the first.
    pub runs: Vec<PathBuf>,
    /// Pairs of a run from scratch and a fine-tuned one.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// Ways to pre-train, each with its fine-tuned runs; the first is the base.
    pub methods: Vec<(String, Vec<PathBuf>)>,
    /// The split that final errors are of; absent: a test split, else the best validation.
    pub split: Option<String>,
}

/// A final error in all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FinalRow {
    /// The task and what is predicted.
    #[serde(flatten)]
    pub key: Key,
    /// In the key's unit; absent where a run has none.
    pub errors: Vec<Option<f64>>,
    /// Whether each was judged after fitting a constant: energies of a run that learnt forces alone.
    pub shifted: Vec<bool>,
    /// Relative improvement over the first run; absent where only one of the two is shifted.
    pub improvements: Vec<Option<f64>>,
}

/// All that the report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompareReport {
    /// The runs.
    pub runs: Vec<RunReport>,
    /// What each run's final errors are of.
    pub splits: Vec<Option<String>>,
    /// Final errors.
    pub finals: Vec<FinalRow>,
    /// Settings that are not the same in all runs.
    pub differences: Vec<Difference>,
    /// Time-to-match of each pair.
    pub matches: Vec<TimeToMatch>,
    /// Settings, beside the learning rate's, that differ within a pair.
    pub pair_differences: Vec<Vec<Difference>>,
    /// Mean relative improvements.
    pub ablation: Vec<AblationRow>,
}

/// Reads the runs and compares them. Runs of equal name are called by their directories.
pub fn gather(request: &Request) -> Result<CompareReport, ReportError> {
    let mut runs = gather_all(&request.runs)?;
    distinguish(&mut runs);
    let measures: Vec<Option<Measures>> =
        runs.iter().map(|run| Measures::of(run, request.split.as_deref())).collect();
    check_split(request, &runs, &measures)?;
    let settings: Vec<Settings> =
        request.runs.iter().map(|dir| Settings::read(dir)).collect::<Result<_, _>>()?;
    let (mut matches, mut pair_differences) = (vec![], vec![]);
    for (scratch, tuned) in &request.pairs {
        let mut pair = gather_all(&[scratch.clone(), tuned.clone()])?;
        distinguish(&mut pair);
        matches.push(time_to_match::of(&pair[0], &pair[1]));
        pair_differences.push(settings::differences(&[&Settings::read(scratch)?, &Settings::read(tuned)?]));
    }
    Ok(CompareReport {
        splits: measures.iter().map(|m| m.as_ref().map(|m| m.split.clone())).collect(),
        finals: finals(&measures),
        differences: settings::differences(&settings.iter().collect::<Vec<_>>()),
        runs,
        matches,
        pair_differences,
        ablation: ablation(request)?,
    })
}

/// Refuses a split that none of the runs was judged on.
fn check_split(
    request: &Request,
    runs: &[RunReport],
    measures: &[Option<Measures>],
) -> Result<(), ReportError> {
    let Some(split) =
        request.split.as_deref().filter(|_| !runs.is_empty() && measures.iter().all(Option::is_none))
    else {
        return Ok(());
    };
    let known: BTreeSet<&str> =
        runs.iter().flat_map(|run| &run.evaluations).map(|e| e.split.as_str()).collect();
    let known: Vec<&str> = known.into_iter().collect();
    let known = if known.is_empty() { "no split".into() } else { format!("only {}", known.join(", ")) };
    let text = format!(
        "--split {split}: none of the runs was evaluated on it, {known}; run `jmp-train evaluate CONFIG --checkpoint RUN --split \
         {split}`"
    );
    Err(ReportError::Usage(text))
}

fn gather_all(dirs: &[PathBuf]) -> Result<Vec<RunReport>, ReportError> {
    dirs.iter().map(|dir: &PathBuf| run_report::gather(Path::new(dir))).collect()
}

fn distinguish(runs: &mut [RunReport]) {
    let names: Vec<String> = runs.iter().map(|r| r.name.clone()).collect();
    for run in runs {
        if names.iter().filter(|n| **n == run.name).count() > 1 {
            run.name.clone_from(&run.directory);
        }
    }
}

fn finals(measures: &[Option<Measures>]) -> Vec<FinalRow> {
    let mut rows: BTreeMap<&Key, Vec<Option<f64>>> = BTreeMap::new();
    for (index, errors) in measures.iter().enumerate().filter_map(|(i, m)| Some((i, &m.as_ref()?.errors))) {
        for (key, value) in errors {
            rows.entry(key).or_insert_with(|| vec![None; measures.len()])[index] = Some(*value);
        }
    }
    let is_shifted = |key: &Key| -> Vec<bool> {
        measures.iter().map(|m| m.as_ref().is_some_and(|m| m.shifted.contains(key))).collect()
    };
    rows.into_iter().map(|(key, errors)| final_row(key, errors, is_shifted(key))).collect()
}

fn final_row(key: &Key, errors: Vec<Option<f64>>, shifted: Vec<bool>) -> FinalRow {
    // An error after fitting a constant does not compare with one of energies that were learnt.
    let comparable = |index: usize| shifted.first() == shifted.get(index);
    let improvement = |(index, error): (usize, &Option<f64>)| {
        relative(errors.first().copied()??, error.filter(|_| comparable(index))?)
    };
    let improvements = errors.iter().enumerate().map(improvement).collect();
    FinalRow { key: key.clone(), errors, shifted, improvements }
}

fn ablation(request: &Request) -> Result<Vec<AblationRow>, ReportError> {
    let mut methods = vec![];
    for (name, dirs) in &request.methods {
        let mut measures = vec![];
        for run in gather_all(dirs)? {
            let found = Measures::of(&run, request.split.as_deref());
            let found = found.ok_or_else(|| {
                ReportError::Usage(format!(
                    "{}: neither an evaluation nor a validation; run `jmp-train evaluate` with it, or leave it out",
                    run.directory
                ))
            })?;
            let settings = Settings::read(Path::new(&run.directory))?;
            measures.push(Measures { trained: settings.get("dataset.train").map(str::to_owned), ..found });
        }
        methods.push(Method { name: name.clone(), measures });
    }
    Ok(if methods.is_empty() { vec![] } else { ablation::table(&methods, &Paper::read()?) })
}
