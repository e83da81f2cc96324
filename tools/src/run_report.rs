//! What a run directory tells: curves from `metrics.jsonl`, how it ended, evaluations.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::ReportError;
use crate::evaluation::{self, Evaluation, TaskErrors};
use crate::series::{Point, Series};
use crate::sessions::Session;
use crate::settings::Settings;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// The directory's own name.
    pub name: String,
    /// Where it lies, as given.
    pub directory: String,
    /// Optimiser steps done.
    pub steps: u64,
    /// Structures consumed.
    pub samples: Option<u64>,
    /// Epochs done.
    pub epochs: Option<f64>,
    /// Minutes of training so far, validations included.
    pub minutes: Option<f64>,
    /// On what it ran; empty for a run of an earlier version.
    pub sessions: Vec<Session>,
    /// Why it ended; absent while it runs, and after it was killed.
    pub ending: Option<String>,
    /// Structures a second over the whole session.
    pub samples_per_second: Option<f64>,
    /// Step and value of the best validation.
    pub best: Option<Best>,
    /// All validations, in order.
    pub validations: Vec<Validation>,
    /// Lines of `metrics.jsonl` that are not JSON objects (a crash may cut the last one short).
    pub unreadable_lines: u64,
    /// Curves by quantity.
    pub curves: BTreeMap<Quantity, BTreeMap<String, Vec<Point>>>,
    /// Last values of the curves, by quantity and name.
    pub last: BTreeMap<Quantity, BTreeMap<String, f64>>,
    /// Errors on whole splits.
    pub evaluations: Vec<Evaluation>,
}

/// The validation that checkpoints are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Best {
    /// Optimiser steps done.
    pub step: u64,
    /// The metric; lower is better.
    pub metric: f64,
}

/// A validation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validation {
    /// Optimiser steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: Option<f64>,
    /// Minutes since the run began, if the run recorded them.
    pub minutes: Option<f64>,
    /// The metric; lower is better.
    pub metric: f64,
    /// Errors by task.
    pub tasks: BTreeMap<String, TaskErrors>,
}

/// What a curve shows. The order is that of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Loss of a step.
    Loss,
    /// Energy part of the loss by task.
    EnergyLoss,
    /// Force part of the loss by task.
    ForceLoss,
    /// Mean absolute error of the energy on the validation split, eV.
    EnergyMae,
    /// Mean absolute error of force components on the validation split, eV/Å.
    ForceMae,
    /// The number that checkpoints are chosen by.
    ValidationMetric,
    /// Largest learning rate.
    LearningRate,
    /// Norm of the gradient before clipping.
    GradientNorm,
    /// Structures a second.
    SamplesPerSecond,
    /// Share of the time spent waiting for data.
    Waiting,
}

/// Keys of a step's line and what they become.
const STEP_KEYS: [(&str, Quantity); 5] = [
    ("loss", Quantity::Loss),
    ("lr", Quantity::LearningRate),
    ("gradient_norm", Quantity::GradientNorm),
    ("samples_per_second", Quantity::SamplesPerSecond),
    ("waiting", Quantity::Waiting),
];
const STEP_TASK_KEYS: [(&str, Quantity); 2] =
    [("energy_loss", Quantity::EnergyLoss), ("force_loss", Quantity::ForceLoss)];
const VALIDATION_TASK_KEYS: [(&str, Quantity); 2] =
    [("energy_mae", Quantity::EnergyMae), ("force_mae", Quantity::ForceMae)];

/// Reads a run directory. Keys that are absent leave their curves out.
pub fn gather(dir: &Path) -> Result<RunReport, ReportError> {
    let path = dir.join("metrics.jsonl");
    if !path.is_file() && dir.join("manifest.json").is_file() {
        let text =
            format!("{} is a dataset, not a run of jmp-train (`run.dir` in its config)", dir.display());
        return Err(ReportError::Usage(text));
    }
    if !path.is_file() {
        return Err(ReportError::NotARun { dir: dir.to_path_buf() });
    }
    let file = File::open(&path).map_err(ReportError::read(&path))?;
    let mut reading = Reading { settings: Settings::read(dir)?, ..Reading::default() };
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(ReportError::read(&path))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(value @ Value::Object(_)) => reading.line(&value),
            _ => reading.unreadable += 1,
        }
    }
    if reading.readable == 0 && reading.unreadable > 0 {
        let problem = "no line is a JSON object; is it the metrics file of jmp-train?".into();
        return Err(ReportError::Run { path, problem });
    }
    let mut evaluations = std::mem::take(&mut reading.evaluations);
    evaluations.extend(evaluation::read_all(dir)?);
    Ok(reading.finish(dir, evaluations))
}

#[derive(Debug, Default)]
struct Reading {
    settings: Settings,
    readable: u64,
    unreadable: u64,
    steps: u64,
    samples: Option<u64>,
    epochs: Option<f64>,
    finished: Option<Value>,
    minutes: Option<f64>,
    sessions: Vec<Session>,
    best: Option<Best>,
    validations: Vec<Validation>,
    series: BTreeMap<Quantity, BTreeMap<String, Series>>,
    evaluations: Vec<Evaluation>,
}

impl Reading {
    fn line(&mut self, value: &Value) {
        self.readable += 1;
        let unsigned = |key: &str| value.get(key).and_then(Value::as_u64);
        let step = unsigned("step").unwrap_or(self.steps);
        self.steps = self.steps.max(step);
        self.samples = unsigned("samples").or(self.samples);
        let number = |key: &str| value.get(key).and_then(Value::as_f64);
        self.epochs = number("epoch").or(self.epochs);
        self.minutes = number("minutes").or(self.minutes);
        match value.get("kind").and_then(Value::as_str) {
            Some("validation") => self.validation(step, value),
            Some("session") => self.sessions.extend(Session::of(value)),
            Some("finished") => self.finished = Some(value.clone()),
            Some("evaluation") => self.evaluations.extend(evaluation::of(value, "metrics.jsonl")),
            // Lines without a kind, too, may have a loss.
            _ => self.step(step, value),
        }
    }

    fn step(&mut self, step: u64, value: &Value) {
        for (key, quantity) in STEP_KEYS {
            self.point(quantity, "", step, value.get(key));
        }
        self.tasks(&STEP_TASK_KEYS, step, value);
    }

    fn validation(&mut self, step: u64, value: &Value) {
        self.point(Quantity::ValidationMetric, "", step, value.get("metric"));
        self.tasks(&VALIDATION_TASK_KEYS, step, value);
        let number = |key: &str| value.get(key).and_then(Value::as_f64);
        let Some(metric) = number("metric") else { return };
        self.validations.push(Validation {
            step,
            epoch: number("epoch"),
            minutes: number("minutes"),
            metric,
            tasks: self.meaningful(evaluation::tasks(value)),
        });
        if self.best.is_none_or(|best| metric < best.metric) {
            self.best = Some(Best { step, metric });
        }
    }

    /// A validation's errors without those of energies that were not learnt, which earlier versions told:
    /// they are off by any constant.
    fn meaningful(&self, tasks: BTreeMap<String, TaskErrors>) -> BTreeMap<String, TaskErrors> {
        let known = |(name, errors): (String, TaskErrors)| {
            let learnt = self.settings.learns_energies(&name);
            (name, if learnt { errors } else { errors.without_energies() })
        };
        tasks.into_iter().map(known).collect()
    }

    fn tasks(&mut self, keys: &[(&str, Quantity)], step: u64, value: &Value) {
        let tasks = value.get("tasks").and_then(Value::as_object);
        for (name, task) in tasks.into_iter().flatten() {
            for (key, quantity) in keys {
                if *quantity == Quantity::EnergyMae && !self.settings.learns_energies(name) {
                    continue;
                }
                self.point(*quantity, name, step, task.get(key));
            }
        }
    }

    fn point(&mut self, quantity: Quantity, name: &str, step: u64, value: Option<&Value>) {
        let Some(value) = value.and_then(Value::as_f64) else { return };
        let names = self.series.entry(quantity).or_default();
        match names.get_mut(name) {
            Some(series) => series.push(step as f64, value),
            None => names.entry(name.to_string()).or_default().push(step as f64, value),
        }
    }

    fn finish(self, dir: &Path, evaluations: Vec<Evaluation>) -> RunReport {
        // A run that was resumed has an end from before; only one at the last step is its end.
        let finished = self
            .finished
            .filter(|f| f.get("step").and_then(Value::as_u64).is_none_or(|step| step == self.steps));
        let end = |key: &str| finished.as_ref().and_then(|f| f.get(key));
        let last = |series: &Series| series.last().map(|(_, value)| value);
        let each = |names: &BTreeMap<String, Series>| -> BTreeMap<String, f64> {
            names.iter().filter_map(|(name, series)| Some((name.clone(), last(series)?))).collect()
        };
        let points = |names: &BTreeMap<String, Series>| -> BTreeMap<String, Vec<Point>> {
            names.iter().map(|(name, series)| (name.clone(), series.points())).collect()
        };
        let resolved = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        RunReport {
            name: resolved.file_name().unwrap_or(resolved.as_os_str()).to_string_lossy().into_owned(),
            directory: dir.display().to_string(),
            steps: self.steps,
            samples: self.samples,
            epochs: self.epochs,
            minutes: self.minutes,
            sessions: self.sessions,
            ending: end("ending").and_then(Value::as_str).map(str::to_string),
            samples_per_second: end("samples_per_second").and_then(Value::as_f64),
            best: self.best,
            validations: self.validations,
            unreadable_lines: self.unreadable,
            curves: self.series.iter().map(|(quantity, names)| (*quantity, points(names))).collect(),
            last: self.series.iter().map(|(quantity, names)| (*quantity, each(names))).collect(),
            evaluations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn run(lines: &str, files: &[(&str, &str)]) -> Result<RunReport, ReportError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        gather(dir.path())
    }

    const LINES: &str = r#"{"kind":"session","step":0,"minutes":0.0,"device":"cpu","ranks":2,"machines":1,"threads":3}
{"kind":"train","step":1,"epoch":0.1,"samples":8,"loss":2.5,"lr":0.001,"tasks":{"ani1x":{"energy_loss":1.0,"force_loss":1.5,"structures":8}},"samples_per_second":10.0}
{"kind":"train","step":2,"samples":16,"loss":null,"lr":0.002,"tasks":{"oc20":{"energy_loss":0.5}}}
{"kind":"validation","step":2,"minutes":0.25,"metric":0.7,"tasks":{"ani1x":{"structures":4,"energy_mae":0.25,"atoms":12,"force_mae":0.125}}}
{"kind":"train","step":3,"loss":1.5,"unheard_of":[1]}
{"kind":"finished","ending":"complete","step":3,"samples":24,"minutes":0.5,"samples_per_second":12.5}
{"kind":"train","step":4,"lo"#;

    #[test]
    fn curves_hold_what_the_lines_say() {
        let report = run(LINES, &[]).unwrap();
        let values = |q: Quantity, name: &str| -> Vec<(f64, f64)> {
            report.curves[&q][name].iter().map(|p| (p.x, p.mean)).collect()
        };
        assert_eq!(values(Quantity::Loss, ""), [(1.0, 2.5), (3.0, 1.5)]);
        assert_eq!(values(Quantity::LearningRate, ""), [(1.0, 0.001), (2.0, 0.002)]);
        assert_eq!(values(Quantity::EnergyLoss, "oc20"), [(2.0, 0.5)]);
        assert_eq!(values(Quantity::ForceMae, "ani1x"), [(2.0, 0.125)]);
        assert_eq!(report.last[&Quantity::Loss][""], 1.5);
        assert_eq!((report.steps, report.samples, report.unreadable_lines), (3, Some(24), 1));
        assert_eq!((report.minutes, report.ending.as_deref()), (Some(0.5), Some("complete")));
        assert_eq!((report.sessions.len(), report.sessions[0].devices()), (1, 1));
        assert_eq!(report.best, Some(Best { step: 2, metric: 0.7 }));
        let told: Vec<_> = report.validations.iter().map(|v| (v.step, v.minutes, v.metric)).collect();
        assert_eq!(told, [(2, Some(0.25), 0.7)]);
        assert!(!report.curves.contains_key(&Quantity::GradientNorm));
    }

    #[test]
    fn an_end_before_the_last_step_is_not_the_end() {
        let lines = "{\"kind\":\"finished\",\"ending\":\"signal\",\"step\":3}\n{\"kind\":\"train\",\"step\":4,\"loss\":1.0}\n";
        assert_eq!(run(lines, &[]).unwrap().ending, None);
    }

    #[test]
    fn evaluations_lie_beside_the_metrics() {
        let evaluation = r#"{"kind":"evaluation","split":"test","checkpoint":"c","predictions":"p","tasks":{"aspirin":{"structures":5,"atoms":105,"force_mae":0.0125}}}"#;
        let report =
            run(LINES, &[("evaluation-test.json", evaluation), ("other.json", "{\"a\": 1}")]).unwrap();
        assert_eq!(report.evaluations.len(), 1);
        let found = &report.evaluations[0];
        assert_eq!((found.split.as_str(), found.tasks["aspirin"].force_mae), ("test", Some(0.0125)));
        let error = run(LINES, &[("e.json", "{\"kind\":\"evaluation\"")]).unwrap_err();
        assert!(error.to_string().contains("e.json: expected one JSON object"), "{error}");
    }

    #[test]
    fn energies_that_were_not_learnt_are_not_told_of_validations() {
        let forces_alone = [("config.toml", "[dataset]\nname = \"ani1x\"\nenergy_weight = 0.0\n")];
        let report = run(LINES, &forces_alone).unwrap();
        let errors = &report.validations[0].tasks["ani1x"];
        assert_eq!((errors.energy_mae, errors.force_mae), (None, Some(0.125)));
        assert!(!report.curves.contains_key(&Quantity::EnergyMae));
        assert!(report.curves.contains_key(&Quantity::ForceMae));
        assert_eq!(run(LINES, &[]).unwrap().validations[0].tasks["ani1x"].energy_mae, Some(0.25));
    }

    #[test]
    fn energies_known_up_to_a_constant_are_marked() {
        let evaluation = r#"{"kind":"evaluation","split":"test","checkpoint":"c","shifted":["b"],
            "tasks":{"a":{"energy_mae":0.5},"b":{"energy_mae":0.25,"force_mae":0.125}}}"#;
        let report = run(LINES, &[("e.json", evaluation)]).unwrap();
        let tasks = &report.evaluations[0].tasks;
        assert_eq!((tasks["a"].energy_shifted, tasks["b"].energy_shifted), (false, true));
        let told: Vec<_> = tasks["b"].absolute().into_iter().map(|e| (e.quantity, e.shifted)).collect();
        assert_eq!(told, [("energy".to_string(), true), ("forces".into(), false)]);
    }

    #[test]
    fn other_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = gather(dir.path()).unwrap_err().to_string();
        assert!(error.contains("holds no metrics.jsonl"), "{error}");
        let error = run("not json\n", &[]).unwrap_err().to_string();
        assert!(error.contains("no line is a JSON object"), "{error}");
    }
}
