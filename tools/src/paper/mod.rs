//! The paper's numbers as data: Tables 2–10, 12–14 and 16, Figure 2 with App. C.1 (`data/paper.toml`).

pub mod improvement;
mod printed;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use printed::{Entry, Printed};

use crate::error::ReportError;

const TEXT: &str = include_str!("../../data/paper.toml");

/// Tables with the results of Sec. 5: each task stands in one of them.
const MAIN: [&str; 5] = ["2", "3", "4", "4 (QMOF)", "5"];

/// All that was transcribed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// The 40 tasks.
    pub tasks: Vec<Task>,
    /// Tables of errors.
    pub tables: Vec<Table>,
    /// Tables 6 and 12.
    pub ablations: Vec<Ablation>,
    /// Table 13.
    pub schedules: Vec<Schedule>,
    /// Figure 2 with App. C.1.
    pub comparisons: Vec<Comparison>,
    /// App. E with Table 14, Sec. 5.2.
    pub cost: Cost,
}

/// A fine-tuning task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// `qm9/mu`: the dataset, and the target, molecule or task as our shards name it.
    pub id: String,
    /// The set's name in Figure 2.
    pub dataset: String,
    /// The task's name for people.
    pub label: String,
    /// `forces`, or the scalar target's name in our shards.
    pub quantity: String,
    /// The paper's unit.
    pub unit: String,
    /// The shards' unit.
    pub ours: String,
    /// From the shards' unit to the paper's.
    pub factor: f64,
    /// Structures trained on, where the paper says.
    #[serde(default)]
    pub train: Option<u64>,
}

impl Task {
    /// From a unit of an error to the paper's: the shards' unit, or that with m (milli) before it.
    pub fn factor_of(&self, unit: &str) -> Option<f64> {
        if unit == self.ours {
            return Some(self.factor);
        }
        (unit.strip_prefix('m') == Some(self.ours.as_str())).then_some(self.factor / 1000.0)
    }
}

/// A table of errors.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its number.
    pub id: String,
    /// What is measured.
    pub what: String,
    /// Whether the models were trained on 50 structures.
    #[serde(default)]
    pub few_shot: bool,
    /// The columns.
    pub models: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// The errors of several models on one task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// A task's id.
    pub task: String,
    /// One entry a model.
    #[serde(deserialize_with = "printed::row")]
    pub values: Vec<Entry>,
}

/// A table of mean relative improvements.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// Its number.
    pub id: String,
    /// The rows; the first is the base.
    pub rows: Vec<AblationRow>,
}

/// One way to pre-train.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AblationRow {
    /// What was changed.
    pub label: String,
    /// Mean relative improvement over the base, per cent.
    pub percent: Printed,
}

/// A learning-rate schedule and its force MAE, meV/Å.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its phases.
    pub label: String,
    /// Force MAE on aspirin's validation split, meV/Å.
    pub force_mae: f64,
}

/// One of Figure 2's three comparisons.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// `a`, `b` or `c`.
    pub id: String,
    /// In words.
    pub what: String,
    /// The model that is improved on.
    pub baseline: String,
    /// The model that improves.
    pub model: String,
    /// Whether MatBench's means over folds are compared, rather than fold 0.
    pub matbench_mean: bool,
    /// Mean over the 40 tasks as Sec. 5 tells it, per cent.
    pub average: Printed,
    /// Means by dataset (App. C.1), per cent.
    pub means: BTreeMap<String, Printed>,
}

/// Hours and emissions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The device.
    pub hardware: String,
    /// Its power, W.
    pub power_watts: f64,
    /// Carbon intensity of the electricity, kg CO₂eq/kWh.
    pub intensity_kg_per_kwh: f64,
    /// All hours.
    pub total_hours: f64,
    /// All emissions, kg CO₂eq.
    pub total_kg: f64,
    /// GPU hours until the fine-tuned large model matches the scratch one, all tasks together (Sec. 5.2).
    pub match_hours: f64,
    /// By how much that is faster, as told.
    pub match_factor: f64,
    /// Table 14.
    pub rows: Vec<CostRow>,
}

/// A row of Table 14.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostRow {
    /// What was trained.
    pub label: String,
    /// GPU hours.
    pub hours: f64,
    /// Emissions, kg CO₂eq.
    pub kg: f64,
}

impl Paper {
    /// Parses what is built in.
    pub fn read() -> Result<Self, ReportError> {
        toml::from_str(TEXT)
            .map_err(|e| ReportError::BuiltIn { what: "data/paper.toml", problem: e.to_string() })
    }

    /// A task by its id.
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|t| t.id == id)
    }

    /// A table by its number.
    pub fn table(&self, id: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.id == id)
    }

    /// The table of Sec. 5 that a task stands in.
    pub fn main_table(&self, task: &str) -> Option<&Table> {
        self.tables.iter().find(|t| MAIN.contains(&t.id.as_str()) && t.row(task).is_some())
    }

    /// A model's error in the tables of Sec. 5.
    pub fn error(&self, task: &str, model: &str) -> Option<Entry> {
        self.main_table(task)?.entry(task, model)
    }
}

impl Table {
    /// A task's row.
    pub fn row(&self, task: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.task == task)
    }

    /// A model's entry in a task's row.
    pub fn entry(&self, task: &str, model: &str) -> Option<Entry> {
        let column = self.models.iter().position(|m| m == model)?;
        self.row(task)?.values.get(column).copied()
    }
}
