//! Relative improvements as the paper computes them.
//!
//! The paper does not write the formula down. Its tables with App. C.1 leave one: by task `(baseline − model)/baseline`, then the
//! plain mean over a dataset's tasks; the averages of Sec. 5 are plain means over all 40 tasks.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Comparison, Entry, Paper, Printed};

/// By how much an error is smaller than a baseline's, as a share of the baseline's; negative where it is larger.
pub fn relative(baseline: f64, model: f64) -> Option<f64> {
    Some((baseline - model) / baseline).filter(|share| share.is_finite())
}

/// A mean over tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Mean {
    /// Mean share.
    pub share: f64,
    /// Over how many tasks.
    pub tasks: u64,
}

/// The mean of shares; `None` of none.
pub fn mean(shares: impl IntoIterator<Item = f64>) -> Option<Mean> {
    let (mut sum, mut tasks) = (0.0, 0);
    for share in shares {
        sum += share;
        tasks += 1;
    }
    (tasks > 0).then(|| Mean { share: sum / tasks as f64, tasks })
}

/// Means by dataset of `(dataset, share)`.
pub fn by_dataset<'a>(shares: impl IntoIterator<Item = (&'a str, f64)>) -> BTreeMap<String, Mean> {
    let mut grouped: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (dataset, share) in shares {
        grouped.entry(dataset.to_string()).or_default().push(share);
    }
    grouped.into_iter().filter_map(|(dataset, shares)| Some((dataset, mean(shares)?))).collect()
}

/// The two rounded errors of each task that one of Figure 2's comparisons is about: dataset, baseline, model.
pub fn compared<'a>(paper: &'a Paper, comparison: &Comparison) -> Vec<(&'a str, Printed, Printed)> {
    let chosen = |entry: Entry| {
        if comparison.matbench_mean { entry.mean.or(entry.first) } else { entry.first }
    };
    let of = |task: &str, model: &str| paper.error(task, model).and_then(chosen);
    let pair = |task: &'a super::Task| {
        Some((task.dataset.as_str(), of(&task.id, &comparison.baseline)?, of(&task.id, &comparison.model)?))
    };
    paper.tasks.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn improvements_are_shares_of_the_baseline() {
        assert_eq!(relative(8.0, 2.0), Some(0.75));
        assert_eq!(relative(8.0, 10.0), Some(-0.25));
        assert_eq!(relative(0.0, 1.0), None);
        let means = by_dataset([("a", 0.5), ("b", 0.1), ("a", -0.25)]);
        assert_eq!(means["a"], Mean { share: 0.125, tasks: 2 });
        assert_eq!(means.len(), 2);
        assert_eq!(mean([]), None);
    }
}
