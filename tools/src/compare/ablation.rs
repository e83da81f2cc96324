//! Mean relative improvements of ways to pre-train over the first of them (paper Sec. 5.1, Tables 6 and 12).

use serde::Serialize;

use super::measure::{Key, Measures};
use crate::paper::Paper;
use crate::paper::improvement::{self, Mean};

/// A way to pre-train and the errors of the runs that were fine-tuned from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// Its name, best the paper's abbreviation: `B`, `T2`, `SWL`, ….
    pub name: String,
    /// Errors of its runs.
    pub measures: Vec<Measures>,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AblationRow {
    /// The method.
    pub method: String,
    /// Mean relative improvement over the base; absent if they share no task.
    pub improvement: Option<Mean>,
    /// Tasks of the base that the method has no run for: the mean leaves them out.
    pub missing: Vec<String>,
    /// The paper's Table 6, per cent.
    pub table_6: Option<f64>,
    /// The paper's Table 12, per cent.
    pub table_12: Option<f64>,
}

/// The table of some methods; the first is the base.
pub fn table(methods: &[Method], paper: &Paper) -> Vec<AblationRow> {
    let Some(base) = methods.first().map(errors) else { return vec![] };
    methods.iter().map(|method| row(method, &base, paper)).collect()
}

fn row(method: &Method, base: &[(Key, f64)], paper: &Paper) -> AblationRow {
    let own = errors(method);
    let of = |key: &Key| own.iter().find(|(k, _)| k == key).map(|(_, value)| *value);
    let shares = base.iter().filter_map(|(key, value)| improvement::relative(*value, of(key)?));
    let missing = base.iter().filter(|(key, _)| of(key).is_none());
    let told = |table: &str| {
        let rows = &paper.ablations.iter().find(|a| a.id == table)?.rows;
        let short = |label: &str| label.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let row = rows.iter().find(|r| short(&r.label) == method.name.to_ascii_lowercase())?;
        Some(row.percent.value)
    };
    AblationRow {
        method: method.name.clone(),
        improvement: improvement::mean(shares),
        missing: missing.map(|(key, _)| format!("{} ({})", key.task, key.quantity)).collect(),
        table_6: told("6"),
        table_12: told("12"),
    }
}

/// The errors that count: of a task with forces, theirs (as the paper's tables), else all it has.
fn errors(method: &Method) -> Vec<(Key, f64)> {
    let all: Vec<(Key, f64)> =
        method.measures.iter().flat_map(|m| &m.errors).map(|(key, value)| (key.clone(), *value)).collect();
    let has_forces = |task: &str| all.iter().any(|(key, _)| key.task == task && key.quantity == "forces");
    let counts = |key: &Key| key.quantity == "forces" || !has_forces(&key.task);
    all.iter().filter(|(key, _)| counts(key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str, errors: &[(&str, &str, f64)]) -> Method {
        let key = |task: &str, quantity: &str| Key {
            task: task.into(),
            quantity: quantity.into(),
            unit: String::new(),
        };
        let measures = errors.iter().map(|(task, quantity, value)| Measures {
            split: "test".into(),
            errors: [(key(task, quantity), *value)].into(),
        });
        Method { name: name.into(), measures: measures.collect() }
    }

    #[test]
    fn improvements_are_averaged_over_the_tasks_of_the_base() {
        let base =
            method("B", &[("aspirin", "forces", 0.4), ("aspirin", "energy", 9.0), ("gap", "energy", 2.0)]);
        let better =
            method("swl", &[("aspirin", "forces", 0.3), ("aspirin", "energy", 1.0), ("gap", "energy", 1.5)]);
        let other = method("mine", &[("gap", "energy", 3.0), ("new", "energy", 1.0)]);
        let rows = table(&[base, better, other], &Paper::read().unwrap());
        assert_eq!(rows[0].improvement, Some(Mean { share: 0.0, tasks: 2 }));
        // (0.25 + 0.25) / 2: the energy of a task with forces does not count.
        let mean = rows[1].improvement.unwrap();
        assert!((mean.share - 0.25).abs() < 1e-12 && mean.tasks == 2);
        assert_eq!((rows[1].table_6, rows[1].table_12), (Some(7.7), Some(7.68)));
        assert_eq!(rows[2].improvement, Some(Mean { share: -0.5, tasks: 1 }));
        assert_eq!(rows[2].missing, ["aspirin (forces)"]);
        assert_eq!(rows[2].table_6, None);
    }
}
