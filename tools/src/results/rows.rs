//! Rows of the comparison: a task, a fold of it, or the mean over its folds.

use std::collections::BTreeSet;

use serde::Serialize;

use super::ours::Ours;
use crate::paper::improvement::{self, Mean, relative};
use crate::paper::{Paper, Printed, Table, Task};

/// Folds of MatBench.
pub const FOLDS: usize = 5;
/// Models of the paper that are not other people's.
const OWN: [&str; 4] = ["GN-OC-S", "GN-OC-L", "JMP-S", "JMP-L"];

/// What part of a task a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All of it: it has no folds.
    Whole,
    /// A fold.
    Fold(u8),
    /// The mean over folds; the paper's is over five.
    Mean,
}

/// An error of ours, of one or several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Error {
    /// Mean over runs, or over folds.
    pub value: f64,
    /// Over how many.
    pub count: usize,
}

/// A task's errors, in the paper's unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultRow {
    /// The task.
    pub task: String,
    /// Its part.
    pub part: Part,
    /// Whether all models were trained on 50 structures (Table 10).
    pub few_shot: bool,
    /// The split that ours were trained on, if the runs of the task were trained on several.
    pub trained: Option<String>,
    /// The best of other people's models in the paper's table.
    pub best_other: Option<(String, Printed)>,
    /// GN-OC-S, GN-OC-L, JMP-S, JMP-L.
    pub paper: [Option<Printed>; 4],
    /// Our models from scratch.
    pub scratch: Option<Error>,
    /// Our fine-tuned models.
    pub tuned: Option<Error>,
    /// Relative improvement of ours over ours from scratch.
    pub improvement: Option<f64>,
    /// Relative improvement of ours over JMP-S and JMP-L; negative where ours is worse.
    pub over_paper: [Option<f64>; 2],
}

/// A row for each part of each task that ours have an error of.
pub fn all(paper: &Paper, tuned: &[Ours], scratch: &[Ours]) -> Vec<ResultRow> {
    let mut rows = vec![];
    for few_shot in [false, true] {
        for task in &paper.tasks {
            let of = |o: &&Ours| o.task == task.id && o.few_shot == few_shot;
            let trained: BTreeSet<_> = tuned.iter().chain(scratch).filter(of).map(|o| &o.trained).collect();
            for split in &trained {
                let of = |o: &&Ours| of(o) && o.trained == **split;
                let (tuned, scratch): (Vec<&Ours>, Vec<&Ours>) =
                    (tuned.iter().filter(of).collect(), scratch.iter().filter(of).collect());
                for part in parts(tuned.iter().chain(&scratch)) {
                    let told = split.as_ref().filter(|_| trained.len() > 1).cloned();
                    let row = row(paper, (task, part, few_shot), &tuned, &scratch);
                    rows.push(ResultRow { trained: told, ..row });
                }
            }
        }
    }
    rows
}

fn parts<'a>(errors: impl Iterator<Item = &'a &'a Ours>) -> BTreeSet<Part> {
    let mut parts: BTreeSet<Part> = errors.map(|o| o.fold.map_or(Part::Whole, Part::Fold)).collect();
    if parts.iter().any(|p| matches!(p, Part::Fold(_))) {
        parts.insert(Part::Mean);
    }
    parts
}

fn row(
    paper: &Paper,
    (task, part, few_shot): (&Task, Part, bool),
    tuned: &[&Ours],
    scratch: &[&Ours],
) -> ResultRow {
    let (tuned, scratch) = (error(tuned, part), error(scratch, part));
    let table = if few_shot { paper.table("10") } else { paper.main_table(&task.id) };
    let told = OWN.map(|model| table.and_then(|t| entry(t, task, part, model)));
    // A mean over other folds than the paper's does not compare.
    let comparable = |e: &Error| part != Part::Mean || e.count == FOLDS;
    let over = |told: Option<Printed>| relative(told?.value, tuned.filter(comparable)?.value);
    let same_folds = |s: &Error, t: &Error| part != Part::Mean || s.count == t.count;
    let improvement =
        scratch.zip(tuned).filter(|(s, t)| same_folds(s, t)).and_then(|(s, t)| relative(s.value, t.value));
    ResultRow {
        task: task.id.clone(),
        part,
        few_shot,
        trained: None,
        best_other: table.and_then(|t| best_other(t, task, part)),
        paper: told,
        scratch,
        tuned,
        improvement,
        over_paper: [over(told[2]), over(told[3])],
    }
}

/// The paper's error for a part of a task. Folds other than 0 are not in the paper.
fn entry(table: &Table, task: &Task, part: Part, model: &str) -> Option<Printed> {
    let entry = table.entry(&task.id, model)?;
    match part {
        // What has folds but does not say which compares with nothing.
        Part::Whole => entry.first.filter(|_| task.dataset != "MatBench"),
        Part::Fold(0) => entry.first,
        Part::Fold(_) => None,
        Part::Mean => entry.mean,
    }
}

fn best_other(table: &Table, task: &Task, part: Part) -> Option<(String, Printed)> {
    let others = table.models.iter().filter(|m| !OWN.contains(&m.as_str()));
    let errors = others.filter_map(|m| Some((m.clone(), entry(table, task, part, m)?)));
    errors.min_by(|a, b| a.1.value.total_cmp(&b.1.value))
}

/// The mean error on a part: of several runs on one fold their mean, of folds the mean of theirs.
fn error(ours: &[&Ours], part: Part) -> Option<Error> {
    let mean = |values: &[f64]| {
        (!values.is_empty())
            .then(|| Error { value: values.iter().sum::<f64>() / values.len() as f64, count: values.len() })
    };
    let of_fold =
        |fold: Option<u8>| -> Vec<f64> { ours.iter().filter(|o| o.fold == fold).map(|o| o.error).collect() };
    match part {
        Part::Whole => mean(&of_fold(None)),
        Part::Fold(fold) => mean(&of_fold(Some(fold))),
        Part::Mean => {
            let folds: BTreeSet<u8> = ours.iter().filter_map(|o| o.fold).collect();
            let means: Vec<f64> =
                folds.into_iter().filter_map(|f| Some(mean(&of_fold(Some(f)))?.value)).collect();
            mean(&means)
        }
    }
}

/// Mean relative improvements of a dataset's tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetMean {
    /// The dataset, as Figure 2 names it; `all`: over all tasks.
    pub dataset: String,
    /// Ours over ours from scratch. Of MatBench fold 0, else the mean over folds.
    pub ours: Option<Mean>,
    /// JMP-L over GN-OC-L as printed (Figure 2c, App. C.1), per cent.
    pub printed: Option<Printed>,
    /// JMP-L over GN-OC-L from the tables.
    pub large: Option<Mean>,
    /// JMP-S over GN-OC-S from the tables; the paper does not print it.
    pub small: Option<Mean>,
}

/// The means of all datasets, and over all tasks.
pub fn means(paper: &Paper, rows: &[ResultRow]) -> Vec<DatasetMean> {
    let ours = our_shares(paper, rows);
    let told = |baseline: &str, model: &str| -> Vec<(&str, f64)> {
        let share = |task: &'_ Task| {
            let value = |name: &str| Some(paper.error(&task.id, name)?.first?.value);
            relative(value(baseline)?, value(model)?)
        };
        paper.tasks.iter().filter_map(|t| Some((t.dataset.as_str(), share(t)?))).collect()
    };
    let (large, small) = (told("GN-OC-L", "JMP-L"), told("GN-OC-S", "JMP-S"));
    let comparison = paper.comparisons.iter().find(|c| c.id == "c");
    let of = |shares: &[(&str, f64)], dataset: Option<&str>| {
        let chosen = shares.iter().filter(|(d, _)| dataset.is_none_or(|wanted| *d == wanted));
        improvement::mean(chosen.map(|(_, share)| *share))
    };
    let mut datasets: Vec<&str> = paper.tasks.iter().map(|t| t.dataset.as_str()).collect();
    datasets.dedup();
    let one = |dataset: Option<&str>| DatasetMean {
        dataset: dataset.unwrap_or("all").into(),
        ours: of(&ours, dataset),
        printed: comparison.and_then(|c| dataset.map_or(Some(c.average), |d| c.means.get(d).copied())),
        large: of(&large, dataset),
        small: of(&small, dataset),
    };
    datasets.iter().map(|d| Some(*d)).chain([None]).map(one).collect()
}

/// One improvement a task: of MatBench that of fold 0, as the paper's comparisons with scratch models; of runs that were
/// trained on several splits the mean over these.
fn our_shares<'a>(paper: &'a Paper, rows: &[ResultRow]) -> Vec<(&'a str, f64)> {
    let of = |task: &str| {
        let mut own: Vec<&ResultRow> =
            rows.iter().filter(|r| r.task == task && !r.few_shot && r.improvement.is_some()).collect();
        own.sort_by_key(|r| r.part);
        let first = own.first()?.part;
        let shares = own.iter().filter(|r| r.part == first).filter_map(|r| r.improvement);
        improvement::mean(shares).map(|m| m.share)
    };
    paper.tasks.iter().filter_map(|t| Some((t.dataset.as_str(), of(&t.id)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(task: &str, fold: Option<u8>, error: f64) -> Ours {
        Ours {
            run: "r".into(),
            task: task.into(),
            fold,
            few_shot: false,
            trained: None,
            split: "test".into(),
            structures: None,
            error,
            unit: String::new(),
            by_overlap: [].into(),
            differs: vec![],
        }
    }

    #[test]
    fn errors_stand_beside_the_papers() {
        let paper = Paper::read().unwrap();
        let rows = all(&paper, &[ours("rmd17/aspirin", None, 10.2)], &[ours("rmd17/aspirin", None, 40.8)]);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(row.paper.map(|p| p.map(|p| p.value)), [Some(24.3), Some(24.7), Some(6.7), Some(5.1)]);
        assert_eq!(row.best_other, Some(("MACE".into(), Printed { value: 6.6, decimals: 1 })));
        assert_eq!(row.improvement, Some(0.75));
        // 10.2 against 5.1: worse by all of it.
        assert_eq!(row.over_paper[1], Some(-1.0));
    }

    #[test]
    fn only_all_five_folds_compare_with_the_papers_mean() {
        let paper = Paper::read().unwrap();
        let folds = |n: u8| -> Vec<Ours> {
            (0..n).map(|k| ours("matbench/phonons", Some(k), 40.0 + f64::from(k))).collect()
        };
        let rows = all(&paper, &folds(2), &[]);
        assert_eq!(
            rows.iter().map(|r| r.part).collect::<Vec<_>>(),
            [Part::Fold(0), Part::Fold(1), Part::Mean]
        );
        assert_eq!(
            (rows[2].tuned, rows[2].over_paper),
            (Some(Error { value: 40.5, count: 2 }), [None, None])
        );
        assert_eq!((rows[0].paper[3].unwrap().value, rows[1].paper[3]), (21.28, None));
        let rows = all(&paper, &folds(5), &[]);
        // JMP-S's mean is 22.77.
        assert_eq!(rows[5].over_paper[0], Some((22.77 - 42.0) / 22.77));
        assert_eq!(rows[5].best_other.as_ref().unwrap().0, "coGN");
    }

    #[test]
    fn few_shot_runs_stand_beside_table_10() {
        let paper = Paper::read().unwrap();
        let few = Ours { few_shot: true, ..ours("rmd17/aspirin", None, 73.6) };
        let rows = all(&paper, &[few], &[]);
        assert_eq!(rows[0].paper.map(|p| p.map(|p| p.value)), [None, Some(119.7), None, Some(36.8)]);
        assert_eq!(rows[0].over_paper, [None, Some(-1.0)]);
    }

    #[test]
    fn runs_on_other_training_splits_are_not_averaged() {
        let paper = Paper::read().unwrap();
        let on =
            |split: &str, error| Ours { trained: Some(split.into()), ..ours("rmd17/ethanol", None, error) };
        let rows =
            all(&paper, &[on("fit50", 8.0), on("fit950", 2.0), on("fit50", 4.0)], &[on("fit50", 12.0)]);
        let told: Vec<_> =
            rows.iter().map(|r| (r.trained.as_deref(), r.tuned.unwrap().value, r.improvement)).collect();
        assert_eq!(told, [(Some("fit50"), 6.0, Some(0.5)), (Some("fit950"), 2.0, None)]);
        assert_eq!(all(&paper, &[on("fit", 1.0)], &[])[0].trained, None);
    }

    #[test]
    fn means_are_over_the_tasks_that_both_have() {
        let paper = Paper::read().unwrap();
        let tuned =
            [ours("rmd17/aspirin", None, 1.0), ours("rmd17/benzene", None, 1.0), ours("qm9/mu", None, 1.0)];
        let scratch = [ours("rmd17/aspirin", None, 2.0), ours("rmd17/benzene", None, 4.0)];
        let means = means(&paper, &all(&paper, &tuned, &scratch));
        let md17 = means.iter().find(|m| m.dataset == "MD17").unwrap();
        assert_eq!(md17.ours, Some(Mean { share: 0.625, tasks: 2 }));
        assert_eq!((md17.printed.unwrap().value, md17.large.unwrap().tasks), (77.9, 10));
        let all = means.last().unwrap();
        assert_eq!(
            (all.dataset.as_str(), all.ours.unwrap().tasks, all.printed.unwrap().value),
            ("all", 2, 59.0)
        );
        assert_eq!(means.iter().find(|m| m.dataset == "QM9").unwrap().ours, None);
    }
}
