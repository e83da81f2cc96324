//! Mean relative improvements, ours beside the paper's: Figure 2 with App. C.1, and Figure 3.
//!
//! As the paper's tables give its own numbers: by task (baseline − model) / baseline, then the plain mean
//! over a dataset's tasks; of MatBench fold 0 where scratch models are compared, in (b) the mean over the
//! five folds.

use std::collections::BTreeSet;

use serde::Serialize;

use super::groups::{Contest, Group, Start};
use super::rows::{FOLDS, Part};
use super::variant::{Model, Size};
use crate::paper::improvement::{self, Mean, compared, relative};
use crate::paper::{Comparison, Paper, Printed, Task};

/// The targets of Figure 3.
const LUMO: &str = "qm9/eps_LUMO";
const HOMO: &str = "qm9/eps_HOMO";

/// Methods whose network stands in Table 2 with pre-training and without: ET-OREO's is that of TorchMD-Net.
const METHODS: [(&str, &str); 3] =
    [("JMP-S", "GN-OC-S"), ("JMP-L", "GN-OC-L"), ("Pretrained ET-OREO", "TorchMD-Net")];

/// Mean relative improvements over training from scratch, of a dataset's tasks (Figure 2c).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetMean {
    /// The dataset, as Figure 2 names it; `all`: over all tasks.
    pub dataset: String,
    /// Ours over ours from scratch, for each model that has both.
    pub ours: Vec<ModelMean>,
    /// JMP-L over GN-OC-L as printed (Figure 2c, App. C.1), per cent.
    pub printed: Option<Printed>,
    /// JMP-L over GN-OC-L from the tables.
    pub large: Option<Mean>,
    /// JMP-S over GN-OC-S from the tables; the paper does not print it.
    pub small: Option<Mean>,
}

/// The mean of one of our models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelMean {
    /// The model.
    pub model: Model,
    /// Its mean.
    #[serde(flatten)]
    pub mean: Mean,
}

/// What the large model gains over the small one on a dataset's tasks (Figure 2a and 2b).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaling {
    /// The dataset, as Figure 2 names it; `all`: over all tasks.
    pub dataset: String,
    /// (a): trained from scratch.
    pub scratch: Beside,
    /// (b): fine-tuned.
    pub tuned: Beside,
}

/// A mean of ours beside the paper's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beside {
    /// Ours; absent where no task has both models.
    pub ours: Option<Mean>,
    /// The paper's as printed, per cent.
    pub printed: Option<Printed>,
    /// The paper's from its tables.
    pub tables: Option<Mean>,
}

/// What pre-training gains on two targets of QM9 (Figure 3).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transfer {
    /// The method; of ours the model.
    pub method: String,
    /// What it is compared with.
    pub baseline: String,
    /// Relative improvement on ε LUMO.
    pub lumo: Option<f64>,
    /// Relative improvement on ε HOMO.
    pub homo: Option<f64>,
}

/// The means of all datasets, and over all tasks, over training from scratch.
pub(super) fn means(paper: &Paper, contests: &[Contest]) -> Vec<DatasetMean> {
    let Some(told) = comparison(paper, "c") else { return vec![] };
    let ours: Vec<(&Model, Vec<(&Task, f64)>)> =
        models(contests).into_iter().map(|model| (model, over_scratch(paper, contests, model))).collect();
    let small = Comparison { baseline: "GN-OC-S".into(), model: "JMP-S".into(), ..told.clone() };
    let one = |dataset: Option<&str>| DatasetMean {
        dataset: dataset.unwrap_or("all").into(),
        ours: ours
            .iter()
            .filter_map(|(model, shares)| {
                Some(ModelMean { model: (*model).clone(), mean: over(shares, dataset)? })
            })
            .collect(),
        printed: printed(told, dataset),
        large: from_tables(paper, told, dataset),
        small: from_tables(paper, &small, dataset),
    };
    datasets(paper).into_iter().map(one).collect()
}

/// What our large models gain over our small ones; nothing where no task has both.
pub(super) fn scaling(paper: &Paper, contests: &[Contest]) -> Vec<Scaling> {
    let (Some(a), Some(b)) = (comparison(paper, "a"), comparison(paper, "b")) else { return vec![] };
    let scratch = large_over_small(paper, contests, Start::Scratch, a.matbench_mean);
    let tuned = large_over_small(paper, contests, Start::Tuned, b.matbench_mean);
    if scratch.is_empty() && tuned.is_empty() {
        return vec![];
    }
    let one = |dataset: Option<&str>| Scaling {
        dataset: dataset.unwrap_or("all").into(),
        scratch: beside(paper, a, &scratch, dataset),
        tuned: beside(paper, b, &tuned, dataset),
    };
    datasets(paper).into_iter().map(one).collect()
}

fn beside(paper: &Paper, told: &Comparison, ours: &[(&Task, f64)], dataset: Option<&str>) -> Beside {
    Beside {
        ours: over(ours, dataset),
        printed: printed(told, dataset),
        tables: from_tables(paper, told, dataset),
    }
}

/// Figure 3: the methods whose baseline the paper lists, then our models.
pub(super) fn figure_3(paper: &Paper, contests: &[Contest]) -> Vec<Transfer> {
    let of_paper = METHODS.map(|(method, baseline)| {
        let share = |task: &str| {
            let value = |name: &str| Some(paper.error(task, name)?.first?.value);
            relative(value(baseline)?, value(method)?)
        };
        Transfer { method: method.into(), baseline: baseline.into(), lumo: share(LUMO), homo: share(HOMO) }
    });
    let all = models(contests);
    let ours = all.iter().filter_map(|model| {
        let shares = over_scratch(paper, contests, model);
        let share = |id: &str| shares.iter().find(|(task, _)| task.id == id).map(|(_, share)| *share);
        let (lumo, homo) = (share(LUMO), share(HOMO));
        let method = format!("ours, {}", model.label(&all));
        let told = lumo.is_some() || homo.is_some();
        told.then(|| Transfer { method, baseline: "ours from scratch".into(), lumo, homo })
    });
    of_paper.into_iter().chain(ours).collect()
}

/// The mean that the paper's tables give for one of its comparisons. That over all tasks is with fold 0, in
/// (b) too.
pub(super) fn from_tables(paper: &Paper, told: &Comparison, dataset: Option<&str>) -> Option<Mean> {
    let told = Comparison { matbench_mean: told.matbench_mean && dataset.is_some(), ..told.clone() };
    let pairs = compared(paper, &told).into_iter();
    let chosen = pairs.filter(|(own, ..)| dataset.is_none_or(|wanted| *own == wanted));
    improvement::mean(chosen.filter_map(|(_, baseline, model)| relative(baseline.value, model.value)))
}

fn comparison<'a>(paper: &'a Paper, id: &str) -> Option<&'a Comparison> {
    paper.comparisons.iter().find(|c| c.id == id)
}

fn printed(told: &Comparison, dataset: Option<&str>) -> Option<Printed> {
    dataset.map_or(Some(told.average), |name| told.means.get(name).copied())
}

/// The datasets in the order of the tables, then `None` for all tasks.
fn datasets(paper: &Paper) -> Vec<Option<&str>> {
    let mut datasets: Vec<&str> = paper.tasks.iter().map(|t| t.dataset.as_str()).collect();
    datasets.dedup();
    datasets.into_iter().map(Some).chain([None]).collect()
}

fn models<'a>(contests: &[Contest<'a>]) -> BTreeSet<&'a Model> {
    contests.iter().flat_map(Contest::models).collect()
}

/// The mean share of a dataset's tasks, or of all.
fn over(shares: &[(&Task, f64)], dataset: Option<&str>) -> Option<Mean> {
    let chosen = shares.iter().filter(|(task, _)| dataset.is_none_or(|wanted| task.dataset == wanted));
    improvement::mean(chosen.map(|(_, share)| *share))
}

/// The improvement of a model over itself from scratch, by task.
fn over_scratch<'a>(paper: &'a Paper, contests: &[Contest], model: &Model) -> Vec<(&'a Task, f64)> {
    by_task(paper, contests, |contest| {
        let [tuned, scratch] =
            [Start::Tuned, Start::Scratch].map(|start| contest.groups(start, |own| own == model));
        shares(&scratch, &tuned, false)
    })
}

/// The improvement of the large model over the small one, by task.
fn large_over_small<'a>(
    paper: &'a Paper,
    contests: &[Contest],
    start: Start,
    matbench_mean: bool,
) -> Vec<(&'a Task, f64)> {
    by_task(paper, contests, |contest| {
        let [small, large] =
            [Size::Small, Size::Large].map(|size| contest.groups(start, |own| own.size == size));
        shares(&small, &large, matbench_mean)
    })
}

/// One improvement a task: the mean over its contests and the settings in them. Models of 50 structures are
/// left out.
fn by_task<'a>(
    paper: &'a Paper,
    contests: &[Contest],
    shares: impl Fn(&Contest) -> Vec<f64>,
) -> Vec<(&'a Task, f64)> {
    let of_task = |task: &Task| {
        let own = contests.iter().filter(|c| c.task.id == task.id && !c.few_shot);
        improvement::mean(own.flat_map(&shares)).map(|mean| mean.share)
    };
    paper.tasks.iter().filter_map(|task| Some((task, of_task(task)?))).collect()
}

/// The improvement of each group that has a baseline.
fn shares(baselines: &[Group], groups: &[Group], matbench_mean: bool) -> Vec<f64> {
    let share = |own: &Group| share(own.partner(baselines)?, own, matbench_mean);
    groups.iter().filter_map(share).collect()
}

/// The improvement on the whole task; of one with folds on fold 0, or on the mean over all five if that is
/// wanted; where these are not there, on the mean over the folds that are.
fn share(baseline: &Group, own: &Group, matbench_mean: bool) -> Option<f64> {
    let on = |part| own.over(baseline, part);
    let wanted = if matbench_mean && own.folds().len() == FOLDS { on(Part::Mean) } else { None };
    on(Part::Whole).or(wanted).or_else(|| on(Part::Fold(0))).or_else(|| on(Part::Mean))
}

#[cfg(test)]
mod tests {
    use super::super::groups::contests;
    use super::super::made_up::{ours, preset, with};
    use super::super::ours::Ours;
    use super::*;

    fn paper() -> Paper {
        Paper::read().unwrap()
    }

    fn scaling_of(tuned: &[Ours], scratch: &[Ours], dataset: &str) -> Scaling {
        let paper = paper();
        let all = scaling(&paper, &contests(&paper, tuned, scratch));
        all.into_iter().find(|s| s.dataset == dataset).unwrap()
    }

    #[track_caller]
    fn near(told: Option<f64>, expected: f64) {
        assert!((told.unwrap() - expected).abs() < 1e-6, "{told:?} {expected}");
    }

    #[test]
    fn means_are_over_the_tasks_that_both_have() {
        let tuned =
            [ours("rmd17/aspirin", None, 1.0), ours("rmd17/benzene", None, 1.0), ours("qm9/mu", None, 1.0)];
        let scratch = [ours("rmd17/aspirin", None, 2.0), ours("rmd17/benzene", None, 4.0)];
        let paper = paper();
        let means = means(&paper, &contests(&paper, &tuned, &scratch));
        let md17 = means.iter().find(|m| m.dataset == "MD17").unwrap();
        assert_eq!(md17.ours.iter().map(|m| m.mean).collect::<Vec<_>>(), [Mean { share: 0.625, tasks: 2 }]);
        assert_eq!((md17.printed.unwrap().value, md17.large.unwrap().tasks), (77.9, 10));
        let all = means.last().unwrap();
        assert_eq!(
            (all.dataset.as_str(), all.ours[0].mean.tasks, all.printed.unwrap().value),
            ("all", 2, 59.0)
        );
        assert!(means.iter().find(|m| m.dataset == "QM9").unwrap().ours.is_empty());
    }

    #[test]
    fn each_model_has_means_of_its_own() {
        let of = |name: &str, error| preset(name, "rmd17/aspirin", None, error);
        let paper = paper();
        let tuned = [of("jmp-s", 5.0), of("jmp-l", 2.0)];
        let scratch = [of("jmp-s", 10.0), of("jmp-l", 8.0)];
        let means = means(&paper, &contests(&paper, &tuned, &scratch));
        let md17 = means.iter().find(|m| m.dataset == "MD17").unwrap();
        let told: Vec<_> = md17.ours.iter().map(|m| (m.model.name.as_str(), m.mean.share)).collect();
        assert_eq!(told, [("jmp-s", 0.5), ("jmp-l", 0.75)]);
    }

    #[test]
    fn large_models_are_compared_with_small_ones() {
        let of = |name: &str, task: &str, error| preset(name, &format!("rmd17/{task}"), None, error);
        let scratch = [
            of("jmp-s", "aspirin", 10.0),
            of("jmp-l", "aspirin", 12.0),
            of("jmp-s", "benzene", 4.0),
            of("jmp-l", "benzene", 3.0),
            of("tiny", "benzene", 1.0),
        ];
        let tuned = [of("jmp-s", "aspirin", 8.0), of("jmp-l", "aspirin", 6.0), of("jmp-l", "uracil", 1.0)];
        let md17 = scaling_of(&tuned, &scratch, "MD17");
        // (a): (10 − 12)/10 = −0.2 and (4 − 3)/4 = 0.25; (b): (8 − 6)/8.
        near(md17.scratch.ours.map(|m| m.share), 0.025);
        assert_eq!(md17.scratch.ours.unwrap().tasks, 2);
        assert_eq!(md17.tuned.ours, Some(Mean { share: 0.25, tasks: 1 }));
        // App. C.1 and Sec. 5.
        let printed = |s: &Scaling| (s.scratch.printed.unwrap().value, s.tuned.printed.unwrap().value);
        assert_eq!(printed(&md17), (-5.4, 31.6));
        let all = scaling_of(&tuned, &scratch, "all");
        assert_eq!((printed(&all), all.tuned.ours.unwrap().tasks), ((-8.0, 21.0), 1));
        // Table 4 (QMOF): 0.18 to 0.16.
        near(scaling_of(&tuned, &scratch, "QMOF").tuned.tables.map(|m| m.share), 1.0 / 9.0);
        let paper = paper();
        assert!(scaling(&paper, &contests(&paper, &tuned[..1], &scratch[..1])).is_empty());
    }

    #[test]
    fn matbench_counts_by_fold_0_and_fine_tuned_by_the_mean_over_five() {
        let folds = |name: &str, errors: &[f64]| -> Vec<Ours> {
            let of = |(fold, error): (u8, &f64)| preset(name, "matbench/phonons", Some(fold), *error);
            (0..).zip(errors).map(of).collect()
        };
        // Fold 0: 10 to 9; means over five folds: 30 to 15.
        let (small, large) = ([10.0, 20.0, 30.0, 40.0, 50.0], [9.0, 15.0, 15.0, 15.0, 21.0]);
        let five = [folds("jmp-s", &small), folds("jmp-l", &large)].concat();
        let told = scaling_of(&five, &five, "MatBench");
        near(told.scratch.ours.map(|m| m.share), 0.1);
        near(told.tuned.ours.map(|m| m.share), 0.5);
        let two = [folds("jmp-s", &small[..2]), folds("jmp-l", &large[..2])].concat();
        near(scaling_of(&two, &[], "MatBench").tuned.ours.map(|m| m.share), 0.1);
    }

    #[test]
    fn a_model_of_several_settings_is_no_baseline() {
        let of = |name: &str, lr: &str, error| {
            let text = format!("model.preset = \"{name}\"\noptimizer.lr = {lr}\n");
            with(&text, ours("rmd17/aspirin", None, error))
        };
        let paper = paper();
        let beside = |large| [of("jmp-s", "1e-3", 8.0), of("jmp-s", "2e-3", 16.0), large];
        let other = beside(of("jmp-l", "5e-4", 4.0));
        assert!(scaling(&paper, &contests(&paper, &other, &[])).is_empty());
        let same = beside(of("jmp-l", "2e-3", 4.0));
        near(scaling_of(&same, &[], "MD17").tuned.ours.map(|m| m.share), 0.75);
    }

    #[test]
    fn figure_3_follows_from_table_2() {
        let tuned = [preset("jmp-s", "qm9/eps_LUMO", None, 5.0), preset("jmp-s", "qm9/mu", None, 1.0)];
        let scratch = [preset("jmp-s", "qm9/eps_LUMO", None, 20.0), preset("jmp-s", "qm9/mu", None, 2.0)];
        let paper = paper();
        let told = figure_3(&paper, &contests(&paper, &tuned, &scratch));
        // Table 2, ε LUMO and ε HOMO in meV: GN-OC-S 17.3 and 21.8, JMP-S 10.8 and 11.1; GN-OC-L 18.6 and
        // 22.7, JMP-L 8.6 and 8.8; TorchMD-Net 18.6 and 20.3, ET-OREO 14.5 and 16.8.
        let by_hand = [
            ("JMP-S", 6.5 / 17.3, 10.7 / 21.8),
            ("JMP-L", 10.0 / 18.6, 13.9 / 22.7),
            ("Pretrained ET-OREO", 4.1 / 18.6, 3.5 / 20.3),
        ];
        for (row, (method, lumo, homo)) in told.iter().zip(by_hand) {
            assert_eq!(row.method, method);
            near(row.lumo, lumo);
            near(row.homo, homo);
        }
        let own = &told[3];
        assert_eq!((own.method.as_str(), own.lumo, own.homo), ("ours, jmp-s", Some(0.75), None));
        assert_eq!((told.len(), figure_3(&paper, &[]).len()), (4, 3));
    }
}
