//! Every file of configs/ is a configuration that this program understands, and some that must be refused are.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::{Path, PathBuf};

use trainer::clip::Clip;
use trainer::config::ablation::{AblationConfig, ScaleConfig};
use trainer::config::model::ScaleFactors;
use trainer::config::number::Positive;
use trainer::config::sections::{Precision, Reduction, SurgeryTasks};
use trainer::config::{Config, RunKind, ScheduleConfig, Source, StepConfig};

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs"))
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|e| e == "toml") {
            found.push(path);
        }
    }
}

fn read(name: &str) -> Config {
    read_with(name, &[])
}

fn read_with(name: &str, set: &[&str]) -> Config {
    let set: Vec<String> = set.iter().map(|&set| set.to_owned()).collect();
    Config::read(&root().join(name), &set).unwrap_or_else(|e| panic!("{name} {set:?}: {e:#}"))
}

/// The names in a table of alternatives of a template.
fn alternatives(file: &Path, table: &str) -> Vec<String> {
    let text: toml::Table = toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    text.get(table).and_then(toml::Value::as_table).map_or(Vec::new(), |t| t.keys().cloned().collect())
}

/// Every choice that a file offers: one without any in a plain file.
fn choices(file: &Path) -> Vec<Vec<String>> {
    let tasks = alternatives(file, "tasks");
    if tasks.is_empty() {
        return vec![Vec::new()];
    }
    let named = |key: &str, names: Vec<String>| -> Vec<Vec<String>> {
        let mut all: Vec<Vec<String>> = names.iter().map(|name| vec![format!("{key}={name:?}")]).collect();
        all.extend(names.is_empty().then(Vec::new));
        all
    };
    let mut variants: Vec<Vec<String>> =
        alternatives(file, "variants").iter().map(|name| vec![format!("variant=[{name:?}]")]).collect();
    variants.push(Vec::new());
    let mut found = Vec::new();
    for task in named("task", tasks) {
        for size in named("size", alternatives(file, "sizes")) {
            for variant in &variants {
                found.push([task.clone(), size.clone(), variant.clone()].concat());
            }
        }
    }
    found
}

#[test]
fn every_configuration_is_understood_and_comes_back_from_its_resolved_form() {
    let mut files = Vec::new();
    files_below(&root(), &mut files);
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        // A template means nothing before one of its tasks is chosen.
        let source = Source::read(&file, &choices(&file)[0]).unwrap_or_else(|e| panic!("{e:#}"));
        if StepConfig::is_meant(&source) {
            let config = StepConfig::from_source(&source).unwrap_or_else(|e| panic!("{e:#}"));
            let batch = config.batch(&file).unwrap_or_else(|e| panic!("{e:#}"));
            assert!(batch.atoms() > 0 && config.model.gemnet(true).problem().is_none());
            continue;
        }
        let kind: toml::Table = source.parse().unwrap();
        // These two are applied to all configurations that they name, below.
        if ["ablation", "scale"].contains(&kind["kind"].as_str().unwrap()) {
            continue;
        }
        for choice in choices(&file) {
            let config = Config::read(&file, &choice).unwrap_or_else(|e| panic!("{choice:?}: {e:#}"));
            let problem = config.model.gemnet(true).problem();
            assert!(problem.is_none(), "{}: {problem:?}", file.display());
            // What a run directory keeps means the same as what the user wrote.
            let resolved = Source::from_text(&file, config.text.clone(), &[]).unwrap();
            assert_eq!(Config::from_source(&resolved).unwrap(), config, "{} {choice:?}", file.display());
            assert!(!config.text.contains("{task}") && !config.text.contains("{fold}"), "{}", config.text);
        }
    }
}

/// The 40 tasks of the paper, each in two sizes, and the folds of MatBench.
#[test]
fn there_is_a_configuration_for_each_of_the_forty_tasks() {
    let files = [("qm9", 12), ("rmd17", 10), ("md22", 7), ("spice", 2), ("matbench", 8), ("qmof", 1)];
    let (mut count, mut dirs) = (0, std::collections::BTreeSet::new());
    for (name, expected) in files {
        let name = format!("finetune/{name}.toml");
        let tasks = alternatives(&root().join(&name), "tasks");
        // The classification task is beyond the forty.
        let tasks: Vec<&String> = tasks.iter().filter(|task| *task != "mp_is_metal").collect();
        assert_eq!(tasks.len(), expected, "{name}");
        for task in tasks {
            count += 1;
            for size in ["small", "large"] {
                let config = read_with(&name, &[&format!("task={task:?}"), &format!("size={size}")]);
                published_optimisation(&config, size == "large", name.contains("rmd17"));
                assert!(dirs.insert(config.run.dir), "{name} {task} {size}: a directory twice");
            }
        }
    }
    assert_eq!(count, 40);
    for fold in 0..5 {
        let config = read_with("finetune/matbench.toml", &["task=phonons", &format!("fold={fold}")]);
        let data = &config.tasks[0].data;
        assert_eq!(data.train, format!("fold{fold}_train"));
        assert_eq!(data.val, Some(format!("fold{fold}_val")));
        assert_eq!(data.test, Some(format!("fold{fold}_test")));
        assert!(dirs.contains(&config.run.dir) == (fold == 0));
    }
}

/// Table 18 and App. D.2.
fn published_optimisation(config: &Config, large: bool, rmd17: bool) {
    let ScheduleConfig::Finetune(schedule, stop) = &config.schedule else { panic!("not fine-tuning") };
    let optimizer = &config.optimizer;
    assert_eq!((optimizer.lr.get(), optimizer.weight_decay.get()), (8e-5, 0.1));
    assert_eq!((optimizer.betas.0.get(), optimizer.betas.1.get()), (0.9, 0.95));
    assert_eq!((optimizer.clip, optimizer.ema.unwrap().get()), (Clip::Value(1.0), 0.99));
    assert_eq!((schedule.warmup_epochs, schedule.warmup_factor.get(), schedule.cosine_epochs), (5, 0.1, 32));
    assert_eq!(schedule.final_factor.get(), if large && rmd17 { 0.01 } else { 0.1 });
    let plateau = schedule.plateau.rule().unwrap();
    assert_eq!((plateau.patience, plateau.factor), if rmd17 { (25, 0.8) } else { (5, 0.1) });
    let blocks: Vec<f64> = schedule.layers.blocks.iter().map(|b| b.get()).collect();
    assert_eq!(schedule.layers.embedding.get(), 0.3);
    if large {
        assert_eq!(blocks, [0.55, 0.4, 0.3, 0.4, 0.55, 0.625]);
    } else {
        assert_eq!(blocks, [0.35, 0.4, 0.55, 0.625]);
    }
    let (epochs, patience) = if rmd17 { (100_000, 1000) } else { (500, 50) };
    assert_eq!((stop.epochs.get(), stop.patience.unwrap().get()), (epochs, patience));
    assert_eq!((stop.min_lr.unwrap().get(), stop.minutes.unwrap().get()), (1e-8, 7.0 * 24.0 * 60.0));
}

/// Table 13: each phase can be left out.
#[test]
fn phases_can_be_left_out() {
    let rates = |set: &[&str]| {
        let config = read_with("finetune/rmd17.toml", &[&["task=aspirin"], set].concat());
        let ScheduleConfig::Finetune(schedule, _) = config.schedule else { panic!("not fine-tuning") };
        schedule
    };
    assert!(rates(&["variant=[\"no-layers\"]"]).layers.blocks.is_empty());
    assert!(rates(&["variant=[\"no-plateau\"]"]).plateau.is_none());
    let printed = rates(&["variant=[\"table-18\"]"]).plateau.rule().cloned().unwrap();
    assert_eq!((printed.patience, printed.factor), (5, 0.1));
    let ScheduleConfig::Finetune(alone, _) = read("finetune/rmd17-ethanol.toml").schedule else {
        panic!("not fine-tuning")
    };
    assert_eq!(alone.plateau, rates(&[]).plateau, "two files of one task");
    let scratch = read_with("finetune/qm9.toml", &["task=mu", "variant=[\"scratch\"]"]);
    assert_eq!(scratch.optimizer.weight_decay.get(), 0.01);
    assert_eq!(scratch.model.scale_factors, ScaleFactors::Fit(16));
    let ScheduleConfig::Finetune(schedule, _) = &scratch.schedule else { panic!("not fine-tuning") };
    assert_eq!((schedule.warmup_epochs, schedule.cosine_epochs), (0, 0));
    let plateau = schedule.plateau.rule().unwrap();
    assert_eq!((plateau.patience, plateau.factor), (3, 0.8));
}

/// The released code's classification has dropout before its head; no other task has.
#[test]
fn classes_have_dropout_before_their_head() {
    for (task, dropout) in [("mp_is_metal", 0.5), ("mp_gap", 0.0)] {
        let config = read_with("finetune/matbench.toml", &[&format!("task={task}"), "fold=0"]);
        assert_eq!(config.tasks[0].scalar.as_ref().unwrap().dropout, dropout, "{task}");
    }
    refused("heads.dropout", "finetune/rmd17.toml", &["task=aspirin", "heads.dropout=0.5"]);
    refused("below 1", "finetune/qm9.toml", &["task=mu", "heads.dropout=1.0"]);
}

#[test]
fn a_phase_is_a_table_or_none() {
    refused("or \"none\"", "finetune/qm9.toml", &["task=mu", "schedule.plateau=\"off\""]);
    refused("or \"none\"", "finetune/qm9.toml", &["task=mu", "schedule.plateau=5"]);
    refused("patience", "finetune/qm9.toml", &["task=mu", "schedule.plateau={ patiense = 5 }"]);
}

#[track_caller]
fn refused(word: &str, name: &str, set: &[&str]) {
    let set: Vec<String> = set.iter().map(|&set| set.to_owned()).collect();
    let error = format!("{:#}", anyhow::Error::from(Config::read(&root().join(name), &set).unwrap_err()));
    assert!(error.contains(word), "no `{word}` in {error}");
}

/// App. D.1, Table 18 and the released settings.
#[test]
fn the_published_runs_have_the_published_settings() {
    for (name, batch) in [("pretrain/jmp-s.toml", 1024), ("pretrain/jmp-l.toml", 768)] {
        let config = read(name);
        assert_eq!(config.kind, RunKind::Pretrain);
        assert_eq!(config.sampling.batch_size.get() * config.sampling.accumulate.get(), batch);
        assert_eq!((config.run.precision, config.loss.reduction), (Precision::F16, Reduction::Structure));
        assert_eq!(methods(&config), (2.0, Reduction::Structure, 0.1, 0.0, 0.1, true), "{name}");
        assert!(config.loss.pcgrad.is_none() && !config.loss.free_atoms_only);
        let optimizer = &config.optimizer;
        assert_eq!((optimizer.lr.get(), optimizer.clip), (3e-4, Clip::Norm(1.0)));
        assert_eq!((optimizer.betas.0.get(), optimizer.betas.1.get()), (0.9, 0.95));
        assert_eq!(optimizer.ema.unwrap().get(), 0.99);
        let ScheduleConfig::Pretrain(schedule) = &config.schedule else { panic!("{name}") };
        assert_eq!((schedule.warmup_steps, schedule.epochs.get()), (2000, 2.0));
        assert_eq!((schedule.warmup_factor.get(), schedule.final_factor.get()), (0.2, 0.1));
        assert_eq!(schedule.max_steps, None);
        let graphs = config.tasks.iter().map(|task| {
            let graph = (task.data.cutoff.unwrap().get(), task.data.neighbors.unwrap().get());
            (task.data.name.as_str(), graph, task.data.energy_within.map(Positive::get))
        });
        let (surfaces, molecules) = ((12.0, 30), (8.0, 30));
        let want = [
            ("oc20", surfaces, Some(0.02)),
            ("oc22", surfaces, Some(0.02)),
            ("ani1x", molecules, None),
            ("transition1x", molecules, None),
        ];
        assert_eq!(graphs.collect::<Vec<_>>(), want);
        // λ_E = 1, λ_F = ⟨N⟩ of the manifest.
        assert!(config.tasks.iter().all(|task| (task.energy_weight, task.force_weight) == (1.0, None)));
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_by_name() {
    let refused = |set: &str| {
        let set = ["task=ethanol".to_owned(), set.to_owned()];
        Config::read(&root().join("finetune/rmd17.toml"), &set).unwrap_err().to_string()
    };
    assert!(
        refused("schedule.cosine_epochs=3")
            .contains("`schedule.cosine_epochs`: expected an epoch after the warm-up")
    );
    assert!(
        refused("model.recompute=true")
            .contains("`model.recompute`: expected false with gradient forces, found true")
    );
    assert!(refused("dataset.force_weight=0").contains("`dataset.energy_weight`: expected a weight above 0"));
    assert!(
        refused("run.device=gpu").contains("`run.device`: expected auto, cpu, cuda or cuda:N, found \"gpu\"")
    );
    assert!(
        refused("model.preset=jmp-m")
            .contains("unknown variant `jmp-m`, expected one of `jmp-s`, `jmp-l`, `tiny`")
    );
    let file = root().join("finetune/rmd17.toml");
    let message =
        Config::read_kind(&file, &["task=ethanol".to_owned()], RunKind::Pretrain).unwrap_err().to_string();
    assert!(message.contains("needs kind = \"pretrain\""), "{message}");
}

/// What a row of an ablation table says of the methods.
fn methods(config: &Config) -> (f64, Reduction, f64, f64, f64, bool) {
    (
        config.sampling.temperature,
        config.loss.reduction,
        config.optimizer.weight_decay.get(),
        config.model.dropout.map_or(0.0, trainer::config::number::Fraction::get),
        config.model.edge_dropout.map_or(0.0, trainer::config::number::Fraction::get),
        config.optimizer.ema.is_some(),
    )
}

#[test]
fn each_row_of_the_ablation_tables_has_its_methods() {
    use Reduction::{Atom, Structure};
    let want = [
        ("base", (1.0, Atom, 0.01, 0.0, 0.0, false)),
        ("fully-balanced", (f64::INFINITY, Atom, 0.01, 0.0, 0.0, false)),
        ("temperature-2", (2.0, Atom, 0.01, 0.0, 0.0, false)),
        ("structure-wise", (2.0, Structure, 0.01, 0.0, 0.0, false)),
        ("threshold", (2.0, Structure, 0.01, 0.0, 0.0, false)),
        ("pcgrad", (2.0, Structure, 0.01, 0.0, 0.0, false)),
        ("weight-decay", (2.0, Structure, 0.1, 0.0, 0.0, false)),
        ("dropout", (2.0, Structure, 0.01, 0.1, 0.0, false)),
        ("edge-dropout", (2.0, Structure, 0.1, 0.0, 0.1, false)),
        ("edge-dropout-swl", (2.0, Structure, 0.01, 0.0, 0.1, false)),
        ("ema", (2.0, Structure, 0.1, 0.0, 0.1, true)),
        ("ema-wd", (2.0, Structure, 0.1, 0.0, 0.0, true)),
        ("oc20-only", (2.0, Structure, 0.1, 0.0, 0.1, true)),
    ];
    let ablation = AblationConfig::read(&root().join("ablation/ablation.toml")).unwrap();
    assert_eq!(ablation.rows.len(), want.len());
    for (row, (name, methods_wanted)) in ablation.rows.iter().zip(want) {
        assert_eq!(row.config, Path::new(&format!("{name}.toml")));
        let config = read(&format!("ablation/{name}.toml"));
        assert_eq!(methods(&config), methods_wanted, "{name}");
        let margins = config.tasks.iter().map(|t| t.data.energy_margin.zip(t.data.force_margin));
        let margins: Vec<_> = margins.map(|m| m.map(|(e, f)| (e.get(), f.get()))).collect();
        if name == "threshold" {
            let (surfaces, molecules) = (Some((0.1, 0.03)), Some((0.043, 0.01)));
            assert_eq!(margins, [surfaces, surfaces, molecules, molecules]);
        } else {
            assert!(margins.iter().all(Option::is_none), "{name}");
        }
        assert_eq!(config.loss.pcgrad, (name == "pcgrad").then_some(SurgeryTasks::Labels), "{name}");
        assert_eq!(config.tasks.len(), if name == "oc20-only" { 1 } else { 4 });
        let ScheduleConfig::Pretrain(schedule) = &config.schedule else { panic!("{name}") };
        assert_eq!(schedule.epochs.get(), 10.0);
    }
}

#[test]
fn every_scale_fits_every_row_and_task() {
    let folder = root().join("ablation");
    let ablation = AblationConfig::read(&folder.join("ablation.toml")).unwrap();
    let mut files = Vec::new();
    files_below(&folder.join("scales"), &mut files);
    assert!(!files.is_empty());
    for file in files {
        let scale = ScaleConfig::read(&file).unwrap_or_else(|e| panic!("{e:#}"));
        let fits = |config: &Path, kind| {
            scale.applied(&folder.join(config), kind, Path::new("here")).unwrap_or_else(|e| panic!("{e:#}"));
        };
        ablation.rows.iter().for_each(|row| fits(&row.config, RunKind::Pretrain));
        for task in scale.tasks(&ablation.tasks, &file).unwrap() {
            fits(&task.config, RunKind::Finetune);
        }
    }
}

#[path = "configs/data_pages.rs"]
mod data_pages;
#[path = "configs/layers.rs"]
mod layers;
#[path = "configs/rates.rs"]
mod rates;
#[path = "configs/schedules.rs"]
mod schedules;
