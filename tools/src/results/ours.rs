//! A run's error on one of the paper's tasks, and in what its settings differ from the paper's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use shards::Dataset;

use super::recognise;
use super::variant::{Model, Variant};
use crate::compare::measure::is_test;
use crate::error::ReportError;
use crate::evaluation::{Evaluation, PartErrors, TaskErrors};
use crate::paper::{Paper, Task};
use crate::run_report::RunReport;
use crate::settings::Settings;

/// An error beside the paper's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ours {
    /// The run.
    pub run: String,
    /// The paper's task.
    pub task: String,
    /// MatBench's fold.
    pub fold: Option<u8>,
    /// Whether the model was trained on 50 structures: Table 10 is what it compares with.
    pub few_shot: bool,
    /// Its model.
    pub model: Model,
    /// All other settings that change what is learnt but the seed: runs with others are not averaged with it.
    pub variant: Variant,
    /// The split that it was trained on, without MatBench's fold: runs on others are not averaged with it.
    pub trained: Option<String>,
    /// The split.
    pub split: String,
    /// Structures judged.
    pub structures: Option<u64>,
    /// Mean absolute error in the paper's unit.
    pub error: f64,
    /// The paper's unit.
    pub unit: String,
    /// The same on the parts that a mask tells apart (Table 16): `overlapping`, `non_overlapping`, `combined`.
    pub by_overlap: BTreeMap<String, f64>,
    /// In what the settings differ from the paper's, as far as the run tells.
    pub differs: Vec<String>,
}

impl Ours {
    /// The split that it was judged on, without MatBench's fold.
    pub fn judged(&self) -> String {
        recognise::without_fold(&self.split)
    }
}

/// A run with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The run.
    pub report: RunReport,
    /// Its settings.
    pub settings: Settings,
    /// The task given by the user in place of the one that the names tell.
    pub task: Option<String>,
}

/// The errors of a run on tasks of the paper. A run that has none says why.
pub fn of(paper: &Paper, run: &Judged, split: Option<&str>) -> Result<Vec<Ours>, ReportError> {
    let report = &run.report;
    let wrong = |problem: String| ReportError::Run { path: report.directory.clone().into(), problem };
    let chosen = |e: &&Evaluation| split.map_or(is_test(&e.split), |wanted| e.split == wanted);
    let mut evaluations: Vec<&Evaluation> = vec![];
    for evaluation in report.evaluations.iter().filter(chosen) {
        // A report that was also kept by hand is one evaluation in two files.
        if !evaluations.iter().any(|known| known.split == evaluation.split && known.tasks == evaluation.tasks)
        {
            evaluations.push(evaluation);
        }
    }
    if evaluations.is_empty() {
        let have: BTreeSet<&str> = report.evaluations.iter().map(|e| e.split.as_str()).collect();
        let have: Vec<&str> = have.into_iter().collect();
        return Err(wrong(format!(
            "expected an evaluation of {}, found {}; run `jmp-train evaluate CONFIG --checkpoint {} --split SPLIT`",
            split.map_or("a test split".into(), |s| format!("split {s}")),
            if have.is_empty() { "none".into() } else { format!("only of {}", have.join(", ")) },
            report.directory
        )));
    }
    let mut found = vec![];
    for evaluation in evaluations {
        for (name, errors) in &evaluation.tasks {
            found.extend(one(paper, run, evaluation, (name, errors)));
        }
    }
    if found.is_empty() {
        return Err(wrong(
            "its datasets and targets are none of the paper's 40 tasks by their names; say which with TASK=RUN, \
             such as rmd17/ethanol=runs/mine"
                .into(),
        ));
    }
    Ok(found)
}

fn one(
    paper: &Paper,
    run: &Judged,
    evaluation: &Evaluation,
    (name, errors): (&str, &TaskErrors),
) -> Vec<Ours> {
    let path = dataset_path(&run.settings, name);
    let base = path.and_then(|p| Path::new(p).file_name()).and_then(|n| n.to_str());
    let ours = errors.absolute().into_iter().filter_map(|error| {
        let task = match &run.task {
            Some(id) => paper.task(id).filter(|t| t.quantity == error.quantity),
            // The directory tells rMD17 from MD17; the configuration's name is often the molecule alone.
            None => match base {
                Some(base) if recognise::task(paper, base, &error.quantity).is_some() => {
                    recognise::task(paper, base, &error.quantity)
                }
                Some(base) if base.to_ascii_lowercase().starts_with("md17") => None,
                _ => recognise::task(paper, name, &error.quantity),
            },
        }?;
        let few_shot = training_split(&run.settings).is_some_and(|s| s.contains("few_shot"));
        let factor = task.factor_of(&error.unit)?;
        Some(Ours {
            run: run.report.name.clone(),
            task: task.id.clone(),
            fold: recognise::fold(&evaluation.split),
            few_shot,
            model: Model::of(&run.settings),
            variant: Variant::of(&run.settings),
            trained: training_split(&run.settings).map(recognise::without_fold),
            split: evaluation.split.clone(),
            structures: errors.structures,
            error: error.value * factor,
            unit: task.unit.clone(),
            by_overlap: by_overlap(errors, &error.quantity, factor),
            differs: differs(run, task, evaluation, (path, errors, few_shot)),
        })
    });
    ours.collect()
}

fn by_overlap(errors: &TaskErrors, quantity: &str, factor: f64) -> BTreeMap<String, f64> {
    let of = |part: &PartErrors| if quantity == "forces" { part.force_mae } else { part.mae };
    let parts = errors.by_overlap.iter().filter_map(|(name, part)| Some((name.clone(), of(part)? * factor)));
    parts.collect()
}

/// The dataset that a task of a fine-tuning run is trained on.
fn dataset_path<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.get("dataset.path").or_else(|| settings.get(&format!("dataset.{name}.path")))
}

fn training_split(settings: &Settings) -> Option<&str> {
    settings.get("dataset.train")
}

fn without_diverged(structures: u64) -> String {
    format!("without {structures} structures with predictions that are not finite")
}

/// What differs, as far as it is recorded.
fn differs(
    run: &Judged,
    task: &Task,
    evaluation: &Evaluation,
    (path, errors, few_shot): (Option<&str>, &TaskErrors, bool),
) -> Vec<String> {
    let (settings, report) = (&run.settings, &run.report);
    let mut texts = vec![];
    match settings.get("model.preset") {
        Some("jmp-s" | "jmp-l") => {}
        Some(other) => texts.push(format!("model {other}, not the paper's JMP-S or JMP-L")),
        None => texts.push("the model is not recorded".into()),
    }
    let changed: Vec<String> = settings
        .below("model.")
        .filter(|(key, _)| *key != "model.preset")
        .map(|(key, value)| {
            format!("{} {value}", key.trim_start_matches("model.").trim_start_matches("sizes."))
        })
        .collect();
    if !changed.is_empty() {
        texts.push(format!("of the model: {}", changed.join(", ")));
    }
    if !is_test(&evaluation.split) {
        texts.push(format!("judged on split {}", evaluation.split));
    }
    texts.extend(errors.not_finite.map(without_diverged));
    // Manifests are read where the data still lies; a moved dataset leaves its size untold.
    if let Some(dataset) = path.and_then(|p| Dataset::open(Path::new(p)).ok()) {
        let rows = |split: &str| dataset.manifest().split(Path::new("."), split).ok().map(|s| s.rows);
        if let (Some(all), Some(judged)) = (rows(&evaluation.split), errors.structures)
            && judged < all
        {
            texts.push(format!("judged on {judged} of {all} structures"));
        }
        if let (Some(trained), Some(told)) = (training_split(settings).and_then(rows), task.train)
            && trained != told
            && !few_shot
        {
            texts.push(format!("trained on {trained} structures, the paper on {told}"));
        }
    }
    if let Some(ending @ ("minutes" | "max-steps" | "signal")) = report.ending.as_deref() {
        let hours = report.minutes.map(|m| format!(" after {:.2} h", m / 60.0)).unwrap_or_default();
        texts.push(match ending {
            "minutes" => format!("stopped by its limit of time{hours}"),
            "max-steps" => format!("stopped by its limit of steps{hours}"),
            _ => format!("stopped by someone{hours}"),
        });
    }
    if report.ending.is_none() {
        texts.push("not ended when this was written, or killed".into());
    }
    texts
}
