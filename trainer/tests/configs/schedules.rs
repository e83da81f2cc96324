//! Schedules that configurations ask for, against numbers worked out by hand, and settings that cannot be kept.

use std::path::{Path, PathBuf};

use trainer::config::ablation::{AblationConfig, ScaleConfig};
use trainer::config::{Config, RunKind, ScheduleConfig, Source};
use trainer::schedule::Schedule;

use super::rates::{at, close, plan};
use super::{choices, files_below, read_with, refused, root};

/// The paper's 32 epochs of cosine: from the start, as the released code counts them, or after the warm-up's five.
#[test]
fn the_cosine_ends_at_epoch_32_or_37() {
    // cos 5π/32. From epoch 5 to epoch 37 there are 320 steps, and 270 of them, 27/32, are done at epoch 32.
    const COSINE: f64 = 0.881_921_264_348_355;
    let with = |set: &[&str]| {
        plan().schedule(&read_with("finetune/qm9.toml", &[&["task=U_0", "size=small"][..], set].concat()))
    };
    let (from_start, after_warm_up) = (with(&[]), with(&["schedule.cosine_epochs=37"]));
    for (layer, factor) in [0.3, 0.35, 0.4, 0.55, 0.625, 1.0].into_iter().enumerate() {
        let peak = 8e-5 * factor;
        let what = |case: &str| format!("layer {layer}, {case}");
        close(at(&from_start, 320)[layer], 8e-6, &what("32 from the start, epoch 32"));
        close(at(&from_start, 370)[layer], 8e-6, &what("32 from the start, epoch 37"));
        let on_its_way = 8e-6 + (peak - 8e-6) * (1.0 - COSINE) / 2.0;
        close(at(&after_warm_up, 320)[layer], on_its_way, &what("32 after the warm-up, epoch 32"));
        close(at(&after_warm_up, 370)[layer], 8e-6, &what("32 after the warm-up, epoch 37"));
    }
}

/// The rate after the cosine is what `final_factor` says, for every layer of every configuration.
#[test]
fn every_layer_falls_to_the_floor_that_is_set() {
    let mut files = Vec::new();
    files_below(&root().join("finetune"), &mut files);
    let mut seen = 0;
    for file in files {
        for choice in choices(&file) {
            let config = Config::read(&file, &choice).unwrap_or_else(|e| panic!("{choice:?}: {e:#}"));
            let ScheduleConfig::Finetune(schedule, _) = &config.schedule else { panic!("not fine-tuning") };
            if schedule.cosine_epochs == 0 {
                continue;
            }
            let floor = config.optimizer.lr.get() * schedule.final_factor.get();
            for lr in at(&plan().schedule(&config), 10 * schedule.cosine_epochs) {
                close(lr, floor, &format!("{} {choice:?}", file.display()));
                seen += 1;
            }
        }
    }
    assert!(seen > 500, "{seen}");
}

#[test]
fn floors_that_would_be_moved_are_refused() {
    let qm9 = |setting: &str, words: &str| refused(words, "finetune/qm9.toml", &["task=mu", setting]);
    let range = "qm9.toml: `schedule.final_factor`: expected a number from 0.01 to 0.99, found";
    qm9("schedule.final_factor=0.001", &format!("{range} 0.001"));
    qm9("schedule.final_factor=1.0", &format!("{range} 1"));
    // A tenth of the rate is the floor of all: 0.1 / 0.99 = 0.10101…
    let layer = |key: &str| format!("qm9.toml: `schedule.layers.{key}`: expected 0.1011 or more");
    qm9("schedule.layers.embedding=0.1", &layer("embedding"));
    qm9("schedule.layers.blocks=[0.5, 0.05]", &layer("blocks"));
    // Without a cosine nothing falls.
    read_with("finetune/qm9.toml", &["task=mu", "schedule.cosine_epochs=0", "schedule.final_factor=0.001"]);
}

#[test]
fn settings_of_reduce_on_plateau_out_of_range_are_refused() {
    let qm9 = |setting: &str, words: &str| {
        refused("qm9.toml", "finetune/qm9.toml", &["task=mu", setting]);
        refused(words, "finetune/qm9.toml", &["task=mu", setting]);
    };
    qm9("schedule.plateau.factor=1.5", "expected a number above 0 and below 1, found 1.5");
    qm9("schedule.plateau.factor=nan", "expected a number above 0 and below 1, found NaN");
    qm9("schedule.plateau.threshold=-0.1", "expected a number from 0 to below 1, found -0.1");
    qm9("schedule.plateau.min_lr=-1e-9", "expected a finite number, 0 or more, found -0.000000001");
    qm9("schedule.plateau.eps=inf", "expected a finite number, 0 or more, found inf");
}

/// PyTorch's rule leaves out reductions by 1e-8 or less: a fifth of 5e-8, nine tenths of 1.1e-8.
#[test]
fn whether_the_smallest_rate_is_reached_depends_on_the_factor() {
    let after = |set: &[&str], validations: u64| {
        let config = read_with("finetune/rmd17.toml", &[&["task=aspirin"][..], set].concat());
        let ScheduleConfig::Finetune(_, stop) = &config.schedule else { panic!("not fine-tuning") };
        let mut schedule = plan().schedule(&config);
        // The first one is the best so far, the others are no better.
        for validation in 0..=validations {
            schedule.validated(320 + validation, 1.0);
        }
        let step = 320 + validations;
        let Schedule::Finetune(rule) = &schedule else { panic!("not fine-tuning") };
        (at(&schedule, step), rule.below(step, stop.min_lr.unwrap().get()))
    };
    let (held, below) = after(&[], 10_000);
    assert!(!below && held.iter().all(|lr| (4e-8..=5e-8).contains(lr)), "{held:?}");
    let table_18 = "variant=[\"table-18\"]";
    assert!(!after(&[table_18], 17).1);
    assert!(after(&[table_18], 18).1);
}

/// `validation.every_epochs` has no say where `every_steps` is set, be it by a base.
#[test]
fn a_rule_of_validation_that_is_set_is_in_force() {
    let followed = |config: &Config, what: &str| {
        let rule = &config.validation;
        assert!(rule.every_steps.is_none() || rule.every_epochs.get() == 1, "{what}: {rule:?}");
    };
    let mut files: Vec<PathBuf> = Vec::new();
    ["demo", "finetune", "pretrain", "results"].iter().for_each(|f| files_below(&root().join(f), &mut files));
    for file in files {
        followed(&Config::read(&file, &choices(&file)[0]).unwrap(), &file.display().to_string());
    }
    let folder = root().join("ablation");
    let ablation = AblationConfig::read(&folder.join("ablation.toml")).unwrap();
    let mut scales = Vec::new();
    files_below(&folder.join("scales"), &mut scales);
    for file in scales {
        let scale = ScaleConfig::read(&file).unwrap();
        let rows = ablation.rows.iter().map(|row| (&row.config, RunKind::Pretrain));
        let tasks = ablation.tasks.iter().map(|task| (&task.config, RunKind::Finetune));
        for (config, kind) in rows.chain(tasks) {
            let text = scale.applied(&folder.join(config), kind, Path::new("here")).unwrap();
            let source = Source::from_text(&file, text, &[]).unwrap();
            followed(&Config::from_source(&source).unwrap(), &config.display().to_string());
        }
    }
}
