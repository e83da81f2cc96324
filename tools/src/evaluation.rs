//! Final errors of a run, as `jmp-train evaluate --json` tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::ReportError;

/// What marks an object as an evaluation.
const KIND: &str = "evaluation";

/// What is said of the energy of a task whose errors are [`TaskErrors::energy_shifted`].
pub const SHIFTED: &str = ", shifted: only forces were learnt";

/// Errors on one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// The file it was read from, relative to the run.
    pub file: String,
    /// The split.
    pub split: String,
    /// The checkpoint judged.
    pub checkpoint: String,
    /// Errors by task.
    pub tasks: BTreeMap<String, TaskErrors>,
}

/// Errors of one task; absent where nothing was labelled.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TaskErrors {
    /// Structures judged.
    pub structures: Option<u64>,
    /// Structures with predictions that are NaN or infinite, which are in no error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_finite: Option<u64>,
    /// Mean absolute error of the total energy, eV.
    pub energy_mae: Option<f64>,
    /// Mean absolute error of the energy divided by the number of atoms, eV.
    pub energy_mae_per_atom: Option<f64>,
    /// Whether energies were judged after a constant was fitted on the training split: only forces were
    /// learnt.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub energy_shifted: bool,
    /// Mean absolute error of force components, eV/Å.
    pub force_mae: Option<f64>,
    /// The same for a model that always predicts zero, eV/Å.
    pub force_mae_of_zero: Option<f64>,
    /// Mean cosine between predicted and true force.
    pub force_cosine: Option<f64>,
    /// Errors of a scalar target, where one is predicted.
    pub scalar: Option<ScalarErrors>,
    /// Errors on the parts that a mask tells apart: `overlapping`, `non_overlapping`, `combined`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_overlap: BTreeMap<String, PartErrors>,
}

/// Errors on a part of a split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PartErrors {
    /// Its structures.
    pub structures: Option<u64>,
    /// Mean absolute error of the energy or the scalar target, in the unit of the whole's.
    pub mae: Option<f64>,
    /// Mean absolute error of force components, eV/Å.
    pub force_mae: Option<f64>,
}

/// Errors of a scalar target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScalarErrors {
    /// The target's name in the shards.
    pub target: String,
    /// Unit of the errors.
    pub unit: String,
    /// Mean absolute error; absent for classes.
    pub mae: Option<f64>,
    /// The same for a model that always predicts the training split's mean.
    pub mae_of_zero: Option<f64>,
}

/// All evaluations among the JSON files of a run directory, files in order of their names.
pub fn read_all(run: &Path) -> Result<Vec<Evaluation>, ReportError> {
    let mut files = vec![];
    for entry in fs::read_dir(run).map_err(ReportError::read(run))? {
        let path = entry.map_err(ReportError::read(run))?.path();
        let is_json = path.extension().is_some_and(|e| e == "json");
        if is_json && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut found = vec![];
    for path in files {
        let text = fs::read_to_string(&path).map_err(ReportError::read(&path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Other JSON files may lie there; a file that names the kind and cannot be read is a fault.
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => found.extend(of(&value, &name)),
            Err(fault) if text.contains(KIND) => {
                let problem = format!(
                    "expected one JSON object as `jmp-train evaluate --json` prints it, found {fault}; write the file anew"
                );
                return Err(ReportError::Run { path, problem });
            }
            Err(_) => {}
        }
    }
    Ok(found)
}

/// The evaluation in a JSON object, if it is one.
pub fn of(value: &Value, file: &str) -> Option<Evaluation> {
    if value.get("kind").and_then(Value::as_str) != Some(KIND) {
        return None;
    }
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let (split, checkpoint) = (text("split"), text("checkpoint"));
    let shifted = value.get("shifted").and_then(Value::as_array).into_iter().flatten();
    let shifted: BTreeSet<&str> = shifted.filter_map(Value::as_str).collect();
    let mut tasks = tasks(value);
    for (name, errors) in &mut tasks {
        errors.energy_shifted = shifted.contains(name.as_str());
        errors.by_overlap = parts(value.get("breakdown").and_then(|b| b.get(name)?.get("by_overlap")));
    }
    Some(Evaluation { file: file.into(), split, checkpoint, tasks })
}

fn parts(value: Option<&Value>) -> BTreeMap<String, PartErrors> {
    let part = |errors: &Value| {
        let number = |key: &str| errors.get(key).and_then(Value::as_f64);
        PartErrors {
            structures: errors.get("structures").and_then(Value::as_u64),
            mae: number("mae"),
            force_mae: number("force_mae"),
        }
    };
    let parts = value.and_then(Value::as_object).into_iter().flatten();
    parts.map(|(name, errors)| (name.clone(), part(errors))).collect()
}

/// Errors by task in a line about a validation or an evaluation.
pub(crate) fn tasks(value: &Value) -> BTreeMap<String, TaskErrors> {
    let tasks = value.get("tasks").and_then(Value::as_object);
    tasks.into_iter().flatten().map(|(name, errors)| (name.clone(), task_errors(errors))).collect()
}

/// A mean absolute error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Absolute {
    /// `energy`, `forces`, or the scalar target's name.
    pub quantity: String,
    /// Its unit.
    pub unit: String,
    /// The error.
    pub value: f64,
    /// Whether it is of energies that were judged after fitting a constant.
    pub shifted: bool,
}

impl TaskErrors {
    /// All mean absolute errors.
    pub fn absolute(&self) -> Vec<Absolute> {
        let named = |quantity: &str, unit: &str, value: Option<f64>| {
            let (quantity, unit) = (quantity.into(), unit.into());
            value.map(|value| Absolute { quantity, unit, value, shifted: false })
        };
        let energy = named("energy", "eV", self.energy_mae);
        let energy = energy.map(|energy| Absolute { shifted: self.energy_shifted, ..energy });
        let forces = named("forces", "eV/Å", self.force_mae);
        let scalar = self.scalar.as_ref().and_then(|s| named(&s.target, &s.unit, s.mae));
        [energy, forces, scalar].into_iter().flatten().collect()
    }

    /// Without those of energies, which mean nothing where none was learnt.
    pub(crate) fn without_energies(self) -> Self {
        Self { energy_mae: None, energy_mae_per_atom: None, ..self }
    }
}

fn task_errors(errors: &Value) -> TaskErrors {
    let number = |key: &str| errors.get(key).and_then(Value::as_f64);
    TaskErrors {
        structures: errors.get("structures").and_then(Value::as_u64),
        not_finite: errors.get("not_finite").and_then(|d| d.get("structures")?.as_u64()).filter(|n| *n > 0),
        energy_mae: number("energy_mae"),
        energy_mae_per_atom: number("energy_mae_per_atom"),
        energy_shifted: false,
        force_mae: number("force_mae"),
        force_mae_of_zero: number("force_mae_of_zero"),
        force_cosine: number("force_cosine"),
        scalar: errors.get("scalar").and_then(scalar_errors),
        by_overlap: BTreeMap::new(),
    }
}

fn scalar_errors(errors: &Value) -> Option<ScalarErrors> {
    let text = |key: &str| errors.get(key).and_then(Value::as_str).map(str::to_string);
    let number = |key: &str| errors.get(key).and_then(Value::as_f64);
    Some(ScalarErrors {
        target: text("target")?,
        unit: text("unit")?,
        mae: number("mae"),
        mae_of_zero: number("mae_of_zero"),
    })
}
