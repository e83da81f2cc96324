//! Every file of configs/ is a configuration that this program understands, and some that must be refused are.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::{Path, PathBuf};

use trainer::config::ablation::{AblationConfig, ScaleConfig};
use trainer::config::sections::{Reduction, SurgeryTasks};
use trainer::config::{Config, RunKind, ScheduleConfig, Source, StepConfig};
use trainer::plan::group_of;

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
    Config::read(&root().join(name), &[]).unwrap_or_else(|e| panic!("{e:#}"))
}

#[test]
fn every_configuration_is_understood_and_comes_back_from_its_resolved_form() {
    let mut files = Vec::new();
    files_below(&root(), &mut files);
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let source = Source::read(&file, &[]).unwrap();
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
        let config = Config::read(&file, &[]).unwrap_or_else(|e| panic!("{e:#}"));
        let problem = config.model.gemnet(true).problem();
        assert!(problem.is_none(), "{}: {problem:?}", file.display());
        // What a run directory keeps means the same as what the user wrote.
        let resolved = Source::from_text(&file, config.text.clone(), &[]).unwrap();
        assert_eq!(Config::from_source(&resolved).unwrap(), config, "{}", file.display());
    }
}

#[test]
fn the_published_runs_have_the_published_settings() {
    for (name, batch) in [("pretrain/jmp-s.toml", 1024), ("pretrain/jmp-l.toml", 768)] {
        let config = read(name);
        assert_eq!(config.kind, RunKind::Pretrain);
        assert_eq!(config.sampling.batch_size.get() * config.sampling.accumulate.get(), batch);
        assert_eq!(config.sampling.temperature, 2.0);
        let names: Vec<&str> = config.tasks.iter().map(|t| t.data.name.as_str()).collect();
        assert_eq!(names, ["oc20", "oc22", "ani1x", "transition1x"]);
        let ScheduleConfig::Pretrain(schedule) = &config.schedule else { panic!("{name}") };
        assert_eq!((schedule.warmup_steps, schedule.epochs.get()), (2000, 2.0));
    }
}

#[test]
fn layers_have_their_own_learning_rates() {
    let config = read("finetune/rmd17-ethanol.toml");
    let groups = [
        ("embedding.weight", 0),
        ("backbone.int_blocks.0.dense_ca.linear.weight", 1),
        ("backbone.out_blocks.1.dense_rbf.linear.weight", 1),
        ("backbone.int_blocks.3.dense_ca.linear.weight", 4),
        ("backbone.out_blocks.4.dense_rbf.linear.weight", 4),
        ("backbone.out_mlp_E.out_mlp.0.linear.weight", 5),
        ("out_energy.0.weight", 5),
    ];
    for (name, group) in groups {
        assert_eq!(group_of(&config, name), group, "{name}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_by_name() {
    let refused = |set: &str| {
        let set = set.to_owned();
        Config::read(&root().join("finetune/rmd17-ethanol.toml"), &[set]).unwrap_err().to_string()
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
    let file = root().join("finetune/rmd17-ethanol.toml");
    let message = Config::read_kind(&file, &[], RunKind::Pretrain).unwrap_err().to_string();
    assert!(message.contains("needs kind = \"pretrain\""), "{message}");
}

/// What a row of an ablation table says of the methods.
fn methods(config: &Config) -> (f64, Reduction, f64, f64, f64, bool) {
    (
        config.sampling.temperature,
        config.loss.reduction,
        config.optimizer.weight_decay.get(),
        config.model.dropout.map_or(0.0, |d| d.get()),
        config.model.edge_dropout.map_or(0.0, |d| d.get()),
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
