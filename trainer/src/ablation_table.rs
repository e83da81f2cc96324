//! The table of an ablation: relative improvements over the first row, averaged over tasks (Tables 6 and 12).
//!
//! A task's relative improvement is `(e_B − e) / e_B` with the error `e` of a row and `e_B` of the first; the mean is over
//! the tasks of which both errors are known.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::config::ablation::{JudgingTask, Row, stem};

/// An error; lower is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score(pub f64);

/// Errors by row and task.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Row>,
    tasks: Vec<JudgingTask>,
    scores: BTreeMap<(String, String), Score>,
}

impl Table {
    /// An empty table.
    pub fn new(rows: &[Row], tasks: &[JudgingTask]) -> Self {
        Self { rows: rows.to_vec(), tasks: tasks.to_vec(), scores: BTreeMap::new() }
    }

    /// Enters an error.
    pub fn set(&mut self, row: &str, task: &str, score: Score) {
        self.scores.insert((row.to_owned(), task.to_owned()), score);
    }

    fn score(&self, row: &Row, task: &JudgingTask) -> Option<f64> {
        self.scores.get(&(stem(&row.config), stem(&task.config))).map(|score| score.0)
    }

    /// The relative improvement of a row on a task, %.
    pub fn improvement(&self, row: &Row, task: &JudgingTask) -> Option<f64> {
        let (base, error) = (self.score(self.rows.first()?, task)?, self.score(row, task)?);
        Some(100.0 * (base - error) / base)
    }

    /// The mean of a row's relative improvements, %, and over how many tasks.
    pub fn mean_improvement(&self, row: &Row) -> Option<(f64, usize)> {
        let known: Vec<f64> = self.tasks.iter().filter_map(|task| self.improvement(row, task)).collect();
        (!known.is_empty()).then(|| (known.iter().sum::<f64>() / known.len() as f64, known.len()))
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| ablation | mean RI, % |");
        for task in &self.tasks {
            let _ = write!(text, " {} ({}) | RI, % |", task.label, task.metric);
        }
        text += " Table 6 | Table 12 |\n|---|---|";
        text += &"---|".repeat(2 * self.tasks.len() + 2);
        // What rounds to zero has no sign.
        let percent = |value: Option<f64>| {
            let text = value.map_or("–".to_owned(), |v| format!("{v:.2}"));
            if text == "-0.00" { "0.00".to_owned() } else { text }
        };
        for row in &self.rows {
            let mean = self.mean_improvement(row);
            let part = mean.filter(|(_, count)| *count < self.tasks.len());
            let note = part.map_or(String::new(), |(_, n)| format!(" ({n} of {} tasks)", self.tasks.len()));
            let _ = write!(text, "\n| {} | {}{note} |", row.label, percent(mean.map(|m| m.0)));
            for task in &self.tasks {
                let error = self.score(row, task).map_or("–".to_owned(), |e| format!("{e:.5}"));
                let _ = write!(text, " {error} | {} |", percent(self.improvement(row, task)));
            }
            let _ = write!(text, " {} | {} |", percent(row.table_6), percent(row.table_12));
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let tasks: Vec<Value> = self
                .tasks
                .iter()
                .map(|task| {
                    json!({
                        "task": stem(&task.config),
                        "metric": task.metric,
                        "error": self.score(row, task),
                        "relative_improvement": self.improvement(row, task),
                    })
                })
                .collect();
            json!({
                "row": stem(&row.config),
                "label": row.label,
                "mean_relative_improvement": self.mean_improvement(row).map(|m| m.0),
                "tasks": tasks,
                "table_6": row.table_6,
                "table_12": row.table_12,
            })
        };
        json!({ "kind": "ablation", "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |name: &str, published| Row {
            config: format!("{name}.toml").into(),
            label: name.to_owned(),
            table_6: None,
            table_12: published,
        };
        let task = |name: &str| JudgingTask {
            config: format!("x/{name}.toml").into(),
            label: name.to_owned(),
            metric: "force_mae".to_owned(),
            split: "test".to_owned(),
        };
        Table::new(&[row("base", Some(0.0)), row("better", Some(2.5))], &[task("one"), task("two")])
    }

    #[test]
    fn improvements_are_relative_to_each_tasks_first_row_and_then_averaged() {
        let mut table = table();
        for (row, task, error) in
            [("base", "one", 10.0), ("base", "two", 0.2), ("better", "one", 8.0), ("better", "two", 0.21)]
        {
            table.set(row, task, Score(error));
        }
        let better = table.rows[1].clone();
        // (10 − 8)/10 = 20 %, (0.2 − 0.21)/0.2 = −5 %: 7.5 % on average.
        let (mean, count) = table.mean_improvement(&better).unwrap();
        assert!((mean - 7.5).abs() < 1e-12 && count == 2);
        assert_eq!(table.mean_improvement(&table.rows[0]), Some((0.0, 2)));
        assert!(
            table.markdown().contains("| better | 7.50 | 8.00000 | 20.00 | 0.21000 | -5.00 | – | 2.50 |")
        );
        assert_eq!(table.json()["rows"][1]["tasks"][0]["relative_improvement"], 20.0);
    }

    #[test]
    fn an_unfinished_row_says_over_how_many_tasks() {
        let mut table = table();
        table.set("base", "one", Score(10.0));
        table.set("better", "one", Score(9.0));
        assert!(table.markdown().contains("| better | 10.00 (1 of 2 tasks) | 9.00000 | 10.00 | – | – |"));
    }
}
