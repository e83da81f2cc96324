//! Learning-rate sequences and the plateau rule against values of the reference and of PyTorch (tests/goldens/training).
#![allow(clippy::unwrap_used, reason = "a failed read fails the test")]

use std::path::PathBuf;

use serde_json::Value;
use trainer::plateau::{Better, Plateau, PlateauRule};
use trainer::schedule::{FineTuneRates, FineTuneSchedule, GroupRate, Position, WarmupCosine};

#[allow(clippy::disallowed_methods, reason = "where golden files lie is the tests' own setting")]
fn golden(name: &str) -> Value {
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/training"));
    let dir = std::env::var("JMP_TRAINING_GOLDEN_DIR").map_or(default, PathBuf::from);
    let file = dir.join(name);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap()
}

fn goldens() -> Value {
    golden("schedules.json")
}

/// NaN and the infinities are texts there.
fn number(value: &Value) -> f64 {
    let text = value.as_str().and_then(|text| text.parse().ok());
    value.as_f64().or(text).unwrap_or_else(|| panic!("expected a number, found {value}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

#[track_caller]
fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-9 * want.abs(), "{what}: got {got:e}, want {want:e}");
}

#[test]
fn pretraining_follows_the_reference_and_stays_at_the_floor_after_its_end() {
    for (entry, run) in goldens()["pretrain"].as_array().unwrap().iter().enumerate() {
        let batch = 17;
        let end = run["max_steps"].as_u64().unwrap();
        let rule = WarmupCosine {
            lr: number(&run["lr_base"]),
            warmup_steps: run["warmup_steps"].as_u64().unwrap(),
            warmup_factor: number(&run["warmup_start_lr_factor"]),
            final_factor: number(&run["min_lr_factor"]),
            batch,
            total_samples: end * batch,
        };
        let steps = run["step_index"].as_array().unwrap().iter().map(|k| k.as_u64().unwrap());
        let mut inside = 0;
        for (step, want) in steps.zip(numbers(&run["lr_used"])) {
            let got = rule.lr(Position { step, samples: step * batch });
            if step < end {
                close(got, want, &format!("run {entry}, step {step}"));
                inside += 1;
            } else {
                // The reference's cosine rises again here; ours is over.
                close(got, rule.lr * rule.final_factor, &format!("run {entry}, step {step}"));
            }
        }
        assert!(inside >= 45, "only {inside} steps compared");
    }
}

#[test]
fn fine_tuning_follows_the_reference_through_all_three_phases() {
    let golden = &goldens()["finetune"];
    let base = number(&golden["base_lr"]);
    let groups: Vec<GroupRate> = golden["param_groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| {
            let group = GroupRate::new(base, number(&g["lr_scale"]), number(&golden["min_lr_factor_base"]));
            close(group.lr, number(&g["lr"]), "peak");
            close(group.floor, number(&g["eta_min"]), "floor");
            group
        })
        .collect();
    let rule = PlateauRule { patience: 3, factor: 0.8, ..PlateauRule::default() };
    let mut schedule = FineTuneSchedule::new(FineTuneRates {
        groups,
        warmup_steps: golden["warmup_steps"].as_u64().unwrap(),
        warmup_factor: number(&golden["warmup_start_lr_factor"]),
        cosine_steps: golden["max_steps"].as_u64().unwrap(),
        plateau: Some(rule),
    });
    let per_epoch = golden["steps_per_epoch"].as_u64().unwrap();
    let used = golden["lr_used_by_optimizer_step"].as_array().unwrap();
    for (epoch, told) in golden["epochs"].as_array().unwrap().iter().enumerate() {
        for step in epoch as u64 * per_epoch..(epoch as u64 + 1) * per_epoch {
            for (got, want) in schedule.lrs(step).into_iter().zip(numbers(&used[step as usize])) {
                close(got, want, &format!("step {step}"));
            }
        }
        let done = told["global_step"].as_u64().unwrap();
        assert_eq!(schedule.validated(done, number(&told["metric"])), told["rlp_called"].as_bool().unwrap());
        for (got, want) in schedule.lrs(done).into_iter().zip(numbers(&told["lr_after_validation"])) {
            close(got, want, &format!("after epoch {epoch}"));
        }
        let bad = schedule.plateau().unwrap().bad();
        assert_eq!(u64::from(bad), told["num_bad_epochs"].as_u64().unwrap(), "epoch {epoch}");
    }
    // The run must have reached the rates at which `eps` stops reductions, else the last phase was not tested.
    assert!(schedule.below(used.len() as u64, 5e-8));
}

#[test]
fn the_plateau_rule_follows_the_reference() {
    let golden = &goldens()["reduce_on_plateau"];
    let sequences: Vec<Vec<f64>> = golden["sequences"].as_array().unwrap().iter().map(numbers).collect();
    let mut reductions = 0;
    for (index, run) in golden["runs"].as_array().unwrap().iter().enumerate() {
        let cooldown = run["cooldown"].as_u64().unwrap() as u32;
        let mut plateau = Plateau::new(PlateauRule {
            mode: if run["mode"] == "max" { Better::Max } else { Better::Min },
            factor: number(&run["factor"]),
            patience: run["patience"].as_u64().unwrap() as u32,
            cooldown,
            min_lr: run.get("min_lr").map_or(0.0, number),
            ..PlateauRule::default()
        });
        let mut lrs = numbers(&run["lr_initial"]);
        let metrics = &sequences[run["sequence"].as_u64().unwrap() as usize];
        for (i, metric) in metrics.iter().enumerate() {
            let before = lrs.clone();
            plateau.observe(*metric, &mut lrs);
            reductions += usize::from(before != lrs);
            for (got, want) in lrs.iter().zip(numbers(&run["lr_after"][i])) {
                close(*got, want, &format!("run {index}, metric {i}"));
            }
            if let Some(bad) = run["num_bad_after"][i].as_u64() {
                assert_eq!(u64::from(plateau.bad()), bad, "run {index}, metric {i}");
            }
        }
    }
    assert!(reductions > 50, "only {reductions} reductions seen");
}

#[test]
fn the_plateau_rule_follows_pytorch_on_random_sequences_with_random_settings() {
    let golden = golden("plateau.json");
    let runs = golden["runs"].as_array().unwrap();
    let (mut reductions, mut modes) = (0, [0, 0]);
    for (index, run) in runs.iter().enumerate() {
        let rule: PlateauRule = serde_json::from_value(run["rule"].clone()).unwrap();
        modes[usize::from(rule.mode == Better::Max)] += 1;
        let mut plateau = Plateau::new(rule);
        let (mut lrs, mut want) = (numbers(&run["lr_initial"]), numbers(&run["lr_initial"]));
        let changes = run["changes"].as_array().unwrap();
        for (place, metric) in numbers(&run["metrics"]).into_iter().enumerate() {
            plateau.observe(metric, &mut lrs);
            if let Some(change) = changes.iter().find(|change| change[0] == place) {
                want = numbers(&change[1]);
                reductions += 1;
            }
            assert_eq!(lrs, want, "run {index}, metric {place}");
            assert_eq!(run["bad_after"][place], plateau.bad(), "run {index}, metric {place}");
            // What a checkpoint keeps is all there is to know.
            if place == 30 && plateau.best().is_none_or(f64::is_finite) {
                let text = serde_json::to_string(&plateau).unwrap();
                plateau = serde_json::from_str(&text).unwrap();
            }
        }
    }
    assert!(runs.len() >= 100 && reductions > 500 && modes.iter().all(|n| *n > 40), "{reductions} {modes:?}");
}
