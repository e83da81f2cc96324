//! Mean relative improvements of ways to pre-train over the first of them (paper Sec. 5.1, Tables 6 and 12).

use std::collections::{BTreeMap, BTreeSet};

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

fn row(method: &Method, base: &Errors, paper: &Paper) -> AblationRow {
    let own = errors(method);
    let shares = base.iter().filter_map(|(key, value)| improvement::relative(*value, *own.get(key)?));
    let missing = base.keys().filter(|key| !own.contains_key(key));
    let told = |table: &str| {
        let rows = &paper.ablations.iter().find(|a| a.id == table)?.rows;
        let short = |label: &str| label.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let row = rows.iter().find(|r| short(&r.label) == method.name.to_ascii_lowercase())?;
        Some(row.percent.value)
    };
    AblationRow {
        method: method.name.clone(),
        improvement: improvement::mean(shares),
        missing: missing.map(|(key, trained)| named(key, trained.as_deref())).collect(),
        table_6: told("6"),
        table_12: told("12"),
    }
}

/// Errors by what they are about and the split that was trained on.
type Errors = BTreeMap<(Key, Option<String>), f64>;

/// The errors that count: of a task with forces, theirs (as the paper's tables), else all it has. Those of several runs on one
/// task and training split are averaged.
fn errors(method: &Method) -> Errors {
    let mut all: BTreeMap<(Key, Option<String>), Vec<f64>> = BTreeMap::new();
    for measures in &method.measures {
        for (key, value) in &measures.errors {
            all.entry((key.clone(), measures.trained.clone())).or_default().push(*value);
        }
    }
    let forces: BTreeSet<String> =
        all.keys().filter(|(key, _)| key.quantity == "forces").map(|(key, _)| key.task.clone()).collect();
    all.retain(|(key, _), _| key.quantity == "forces" || !forces.contains(&key.task));
    all.into_iter().map(|(key, values)| (key, values.iter().sum::<f64>() / values.len() as f64)).collect()
}

fn named(key: &Key, trained: Option<&str>) -> String {
    let trained = trained.map(|split| format!(", trained on {split}")).unwrap_or_default();
    format!("{} ({}{trained})", key.task, key.quantity)
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
            trained: None,
            errors: [(key(task, quantity), *value)].into(),
            shifted: BTreeSet::new(),
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

    #[test]
    fn runs_on_one_task_are_averaged_and_training_splits_kept_apart() {
        let on = |split: &str, mae: f64| {
            let mut measures = method("", &[("aspirin", "forces", mae)]).measures.remove(0);
            measures.trained = Some(split.into());
            measures
        };
        let of = |name: &str, measures| Method { name: name.into(), measures };
        let base = of("B", vec![on("few", 0.8), on("few", 0.4), on("all", 0.1)]);
        let other = of("mine", vec![on("all", 0.05), on("few", 0.3)]);
        // Few: 0.6 → 0.3; all: 0.1 → 0.05.
        let rows = table(&[base, other, of("less", vec![on("few", 0.6)])], &Paper::read().unwrap());
        let mean = rows[1].improvement.unwrap();
        assert!((mean.share - 0.5).abs() < 1e-12 && mean.tasks == 2);
        assert_eq!(
            (rows[2].improvement.unwrap().tasks, &rows[2].missing[..]),
            (1, &["aspirin (forces, trained on all)".to_string()][..])
        );
    }
}
