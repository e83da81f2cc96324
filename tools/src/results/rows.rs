//! Rows of the comparison: a task, a fold of it, or the mean over its folds, of one model with the same
//! settings.

use std::collections::BTreeSet;

use serde::Serialize;

use super::groups::{Contest, Group, Start};
use super::variant::{Model, Size, Variant};
use crate::paper::improvement::relative;
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

/// A task's errors, in the paper's unit. Only runs that differ by seed or fold are averaged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultRow {
    /// The task.
    pub task: String,
    /// Its part.
    pub part: Part,
    /// Whether all models were trained on 50 structures (Table 10).
    pub few_shot: bool,
    /// Our model.
    pub model: Model,
    /// The split that ours were trained on, if the runs of the task were trained on several.
    pub trained: Option<String>,
    /// The split that ours were judged on, if the runs of the task were judged on several.
    pub judged: Option<String>,
    /// The settings that set our fine-tuned runs apart from others of the task and the model.
    pub settings: Option<String>,
    /// The settings that set our runs from scratch apart from others of the task and the model.
    pub scratch_settings: Option<String>,
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
    /// Relative improvement of ours over JMP-S and JMP-L, that of the model's size; both for a model of
    /// another size. Negative where ours is worse.
    pub over_paper: [Option<f64>; 2],
    /// The same of ours from scratch over GN-OC-S and GN-OC-L.
    pub scratch_over_paper: [Option<f64>; 2],
}

/// Our fine-tuned runs and those from scratch that a row is about.
type Pair<'g, 'a> = (Option<&'g Group<'a>>, Option<&'g Group<'a>>);

/// Rows for each part of each task that ours have an error of: the small model's, the large one's, others'.
pub(super) fn all(paper: &Paper, contests: &[Contest]) -> Vec<ResultRow> {
    contests.iter().flat_map(|contest| of_contest(paper, contest, contests)).collect()
}

fn of_contest(paper: &Paper, contest: &Contest, all: &[Contest]) -> Vec<ResultRow> {
    let of_task = || all.iter().filter(|c| c.task.id == contest.task.id && c.few_shot == contest.few_shot);
    let trained = contest.trained.filter(|_| of_task().any(|c| c.trained != contest.trained));
    let judged = of_task().any(|c| c.judged != contest.judged).then_some(&contest.judged);
    let mut rows = vec![];
    for model in contest.models() {
        let tuned = contest.groups(Start::Tuned, |own| own == model);
        let scratch = contest.groups(Start::Scratch, |own| own == model);
        for pair in pairs(&tuned, &scratch) {
            let each = parts(pair).into_iter().map(|part| ResultRow {
                trained: trained.map(str::to_owned),
                judged: judged.cloned(),
                settings: apart(pair.0, &tuned),
                scratch_settings: apart(pair.1, &scratch),
                ..row(paper, contest, model, part, pair)
            });
            rows.extend(each);
        }
    }
    rows
}

/// Each group of fine-tuned runs with its baseline, then the groups from scratch that are nobody's.
fn pairs<'g, 'a>(tuned: &'g [Group<'a>], scratch: &'g [Group<'a>]) -> Vec<Pair<'g, 'a>> {
    let mut pairs: Vec<Pair> = tuned.iter().map(|own| (Some(own), own.partner(scratch))).collect();
    let taken: BTreeSet<&Variant> =
        pairs.iter().filter_map(|(_, baseline)| Some((*baseline)?.variant)).collect();
    let alone = scratch.iter().filter(|group| !taken.contains(group.variant));
    pairs.extend(alone.map(|group| (None, Some(group))));
    pairs
}

fn parts((tuned, scratch): Pair) -> BTreeSet<Part> {
    tuned.into_iter().chain(scratch).flat_map(Group::parts).collect()
}

fn apart(group: Option<&Group>, all: &[Group]) -> Option<String> {
    let all: Vec<&Variant> = all.iter().map(|other| other.variant).collect();
    group?.variant.apart_from(&all)
}

fn row(
    paper: &Paper,
    contest: &Contest,
    model: &Model,
    part: Part,
    (tuned_runs, scratch_runs): (Option<&Group>, Option<&Group>),
) -> ResultRow {
    let &Contest { task, few_shot, .. } = contest;
    let error = |group: Option<&Group>| group?.error(part);
    let (tuned, scratch) = (error(tuned_runs), error(scratch_runs));
    let table = if few_shot { paper.table("10") } else { paper.main_table(&task.id) };
    let told = OWN.map(|name| table.and_then(|t| entry(t, task, part, name)));
    // A mean over other folds than the paper's does not compare.
    let comparable = |e: &Error| part != Part::Mean || e.count == FOLDS;
    let over = |told: Option<Printed>, size: Size, ours: Option<Error>| {
        let told = told.filter(|_| model.stands_beside(size))?;
        relative(told.value, ours.filter(comparable)?.value)
    };
    let [scratch_s, scratch_l, jmp_s, jmp_l] = told;
    ResultRow {
        task: task.id.clone(),
        part,
        few_shot,
        model: model.clone(),
        trained: None,
        judged: None,
        settings: None,
        scratch_settings: None,
        best_other: table.and_then(|t| best_other(t, task, part)),
        paper: told,
        scratch,
        tuned,
        improvement: tuned_runs.zip(scratch_runs).and_then(|(own, baseline)| own.over(baseline, part)),
        over_paper: [over(jmp_s, Size::Small, tuned), over(jmp_l, Size::Large, tuned)],
        scratch_over_paper: [over(scratch_s, Size::Small, scratch), over(scratch_l, Size::Large, scratch)],
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

#[cfg(test)]
mod tests {
    use super::super::groups::contests;
    use super::super::made_up::{ours, preset, with};
    use super::super::ours::Ours;
    use super::*;

    fn all_of(tuned: &[Ours], scratch: &[Ours]) -> Vec<ResultRow> {
        let paper = Paper::read().unwrap();
        all(&paper, &contests(&paper, tuned, scratch))
    }

    #[test]
    fn errors_stand_beside_the_papers() {
        let rows = all_of(&[ours("rmd17/aspirin", None, 10.2)], &[ours("rmd17/aspirin", None, 40.8)]);
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(row.paper.map(|p| p.map(|p| p.value)), [Some(24.3), Some(24.7), Some(6.7), Some(5.1)]);
        assert_eq!(row.best_other, Some(("MACE".into(), Printed { value: 6.6, decimals: 1 })));
        assert_eq!(row.improvement, Some(0.75));
        // 10.2 against 5.1: worse by all of it.
        assert_eq!(row.over_paper[1], Some(-1.0));
    }

    #[test]
    fn small_and_large_models_are_not_averaged_and_stand_beside_their_own() {
        let of = |name: &str, error| preset(name, "rmd17/aspirin", None, error);
        let rows = all_of(&[of("jmp-l", 6.0), of("jmp-s", 8.0)], &[of("jmp-s", 32.0), of("jmp-l", 30.0)]);
        let told: Vec<_> = rows.iter().map(|r| (r.model.name.as_str(), r.tuned.unwrap().count)).collect();
        assert_eq!(told, [("jmp-s", 1), ("jmp-l", 1)]);
        // Table 3: GN-OC-S 24.3, GN-OC-L 24.7, JMP-S 6.7, JMP-L 5.1.
        assert_eq!(rows[0].over_paper, [Some((6.7 - 8.0) / 6.7), None]);
        assert_eq!(rows[0].scratch_over_paper, [Some((24.3 - 32.0) / 24.3), None]);
        assert_eq!(rows[1].over_paper, [None, Some((5.1 - 6.0) / 5.1)]);
        assert_eq!(rows[1].scratch_over_paper, [None, Some((24.7 - 30.0) / 24.7)]);
        assert_eq!((rows[0].improvement, rows[1].improvement), (Some(0.75), Some(0.8)));
    }

    #[test]
    fn seeds_are_averaged_and_other_settings_are_not() {
        let of = |seed: u32, lr: &str, error| {
            let run = format!("[run]\nseed = {seed}\ndir = \"r{seed}\"\n");
            let text = format!("{run}[model]\npreset = \"jmp-s\"\n[optimizer]\nlr = {lr}\n");
            with(&text, ours("rmd17/aspirin", None, error))
        };
        let tuned = [of(0, "1e-3", 4.0), of(0, "2e-3", 9.0), of(1, "1e-3", 8.0)];
        let rows = all_of(&tuned, &[of(0, "5e-4", 24.0)]);
        let told: Vec<_> =
            rows.iter().map(|r| (r.settings.as_deref(), r.tuned.unwrap(), r.improvement)).collect();
        assert_eq!(
            told,
            [
                (Some("optimizer.lr 0.001"), Error { value: 6.0, count: 2 }, Some(0.75)),
                (Some("optimizer.lr 0.002"), Error { value: 9.0, count: 1 }, Some(0.625)),
            ]
        );
        assert_eq!(all_of(&tuned[..1], &[])[0].settings, None);
    }

    #[test]
    fn the_baseline_has_the_same_settings_or_is_the_only_one() {
        let of =
            |lr: &str, error| with(&format!("optimizer.lr = {lr}\n"), ours("rmd17/aspirin", None, error));
        let scratch = [of("1e-3", 20.0), of("2e-3", 40.0)];
        let rows = all_of(&[of("2e-3", 10.0)], &scratch);
        assert_eq!(rows[0].improvement, Some(0.75));
        let alone = (rows[1].tuned, rows[1].scratch.unwrap().value, rows[1].scratch_settings.as_deref());
        assert_eq!((rows.len(), alone), (2, (None, 20.0, Some("optimizer.lr 0.001"))));
        // Neither is more of a baseline than the other.
        let rows = all_of(&[of("3e-3", 10.0)], &scratch);
        assert_eq!((rows.len(), rows[0].scratch, rows[0].improvement), (3, None, None));
    }

    #[test]
    fn only_all_five_folds_compare_with_the_papers_mean() {
        let folds = |n: u8| -> Vec<Ours> {
            (0..n).map(|k| ours("matbench/phonons", Some(k), 40.0 + f64::from(k))).collect()
        };
        let rows = all_of(&folds(2), &[]);
        assert_eq!(
            rows.iter().map(|r| r.part).collect::<Vec<_>>(),
            [Part::Fold(0), Part::Fold(1), Part::Mean]
        );
        assert_eq!(
            (rows[2].tuned, rows[2].over_paper),
            (Some(Error { value: 40.5, count: 2 }), [None, None])
        );
        assert_eq!((rows[0].paper[3].unwrap().value, rows[1].paper[3]), (21.28, None));
        let rows = all_of(&folds(5), &[]);
        // JMP-S's mean is 22.77.
        assert_eq!(rows[5].over_paper[0], Some((22.77 - 42.0) / 22.77));
        assert_eq!(rows[5].best_other.as_ref().unwrap().0, "coGN");
    }

    #[test]
    fn means_over_different_folds_do_not_compare() {
        let on = |folds: [u8; 2]| folds.map(|k| ours("matbench/phonons", Some(k), 40.0));
        let mean = |rows: &[ResultRow]| rows.iter().find(|r| r.part == Part::Mean).unwrap().improvement;
        assert_eq!(mean(&all_of(&on([1, 2]), &on([1, 3]))), None);
        assert_eq!(mean(&all_of(&on([1, 2]), &on([1, 2]))), Some(0.0));
    }

    #[test]
    fn few_shot_runs_stand_beside_table_10() {
        let few = Ours { few_shot: true, ..ours("rmd17/aspirin", None, 73.6) };
        let rows = all_of(&[few], &[]);
        assert_eq!(rows[0].paper.map(|p| p.map(|p| p.value)), [None, Some(119.7), None, Some(36.8)]);
        assert_eq!(rows[0].over_paper, [None, Some(-1.0)]);
    }

    #[test]
    fn runs_on_other_splits_are_not_averaged() {
        let on =
            |split: &str, error| Ours { trained: Some(split.into()), ..ours("rmd17/ethanol", None, error) };
        let rows = all_of(&[on("fit50", 8.0), on("fit950", 2.0), on("fit50", 4.0)], &[on("fit50", 12.0)]);
        let told: Vec<_> =
            rows.iter().map(|r| (r.trained.as_deref(), r.tuned.unwrap().value, r.improvement)).collect();
        assert_eq!(told, [(Some("fit50"), 6.0, Some(0.5)), (Some("fit950"), 2.0, None)]);
        let row = &all_of(&[on("fit", 1.0)], &[])[0];
        assert_eq!((&row.trained, &row.judged), (&None, &None));
        let judged = |split: &str, error| Ours { split: split.into(), ..on("fit", error) };
        let rows = all_of(&[judged("test_01", 1.0), judged("test_02", 3.0)], &[]);
        let told: Vec<_> = rows.iter().map(|r| (r.judged.as_deref(), r.tuned.unwrap().value)).collect();
        assert_eq!(told, [(Some("test_01"), 1.0), (Some("test_02"), 3.0)]);
    }
}
