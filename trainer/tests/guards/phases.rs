//! The phases of fine-tuning, 16-bit training and projected gradients, across a kill.

use crate::molecules;
use crate::runs::{Run, Workshop, structures, without_times};

#[test]
fn a_killed_run_goes_on_through_plateau_and_early_stopping_to_the_same_bits() {
    let workshop = Workshop::new(&structures(), &[]);
    // No validation is ten times as good as the best before it, so every second one reduces the rates, in the end to nothing:
    // weights stand still, no validation is better than another, and the eighth such ends the run.
    let set = [
        "dataset.val=all",
        "optimizer={ lr = 1e-3, clip = { value = 1.0 } }",
        "schedule={ warmup_epochs = 1, cosine_epochs = 2, plateau = { patience = 1, factor = 1e-9, threshold = 0.9, eps = 0.0 } }",
        "stop={ epochs = 40, patience = 8 }",
    ];
    let whole = workshop.train("finetune", "whole", &set);
    let finished = whole.finished();
    assert_eq!(finished["ending"], "patience", "{finished}");
    let step = finished["step"].as_u64().unwrap();
    let rates: Vec<f64> = whole.records("train").iter().map(|r| r["lr"].as_f64().unwrap()).collect();
    // From the floor of the cosine on, twice.
    assert!(
        rates.iter().any(|lr| (1e-14..1e-12).contains(lr)) && rates.iter().any(|lr| *lr < 1e-20),
        "{rates:?}"
    );
    let epochs = step / 4;
    assert!(epochs >= 9, "{epochs} epochs show little");
    // Between two validations of one reduction, and in the middle of the patience at the end.
    for (dir, epoch) in [("early", 5), ("late", epochs - 2)] {
        let killed = whole.killed_after(4 * epoch, &workshop.path(dir));
        workshop.run(&["finetune", "--resume", dir, "--quiet"]);
        assert_eq!(without_times(killed.records("train")), without_times(whole.records("train")), "{dir}");
        assert_eq!(without_times(killed.records("validation")), without_times(whole.records("validation")));
        assert_eq!(killed.tensors(step), whole.tensors(step), "{dir}");
        assert_eq!(
            (&killed.finished()["ending"], &killed.finished()["step"]),
            (&"patience".into(), &step.into())
        );
    }
}

#[test]
fn sixteen_bits_learn_with_a_loss_scale_that_survives_a_kill() {
    let workshop = Workshop::new(&structures(), &[]);
    let set = |precision: &'static str| {
        [precision, "checkpoint.every_steps=1", "schedule.epochs=4", "schedule.max_steps=24"]
    };
    let half = workshop.train("pretrain", "half", &set("run.precision=\"f16\""));
    let single = workshop.train("pretrain", "single", &set("run.precision=\"f32\""));
    assert!(single.state(24)["loss_scale"].is_null());
    let scale = half.state(24)["loss_scale"]["scale"].as_f64().unwrap();
    assert!((64.0..=65_536.0).contains(&scale), "{scale}");
    let losses = |run: &Run| -> Vec<f64> {
        run.records("train").iter().map(|record| record["loss"].as_f64().unwrap()).collect()
    };
    let (a, b) = (losses(&half), losses(&single));
    assert_eq!((a.len(), b.len()), (24, 24));
    // Of the same weights 16 bits give nearly the same loss, and not the same.
    assert!((a[0] - b[0]).abs() < 0.01 * b[0] && a[0] != b[0], "{} {}", a[0], b[0]);
    // Steps that overflowed moved nothing, so that it may lag behind.
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&a[16..]) < mean(&a[..8]), "{a:?}");
    let killed = half.killed_after(5, &workshop.path("killed"));
    workshop.run(&["pretrain", "--resume", "killed", "--quiet"]);
    assert_eq!(killed.tensors(24), half.tensors(24));
    assert_eq!(killed.state(24)["loss_scale"], half.state(24)["loss_scale"]);
}

/// Two datasets of two labels each are four tasks: with fewer than three the order drawn anew at each step would not matter.
#[test]
fn a_killed_run_with_projected_gradients_goes_on_to_the_same_bits() {
    let workshop = Workshop::new(&structures(), &[]);
    let others: Vec<_> = (100..112).map(molecules::molecule).collect();
    molecules::write(&workshop.path("other"), &molecules::layout(), &[others], 1);
    let file = workshop.path("pretrain.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let other = "{ name = \"other\", path = \"other\", train = \"all\", cutoff = 4.0, neighbors = 6 }";
    std::fs::write(&file, text.replace("dataset = [", &format!("dataset = [{other}, "))).unwrap();
    let set = ["checkpoint.every_steps=1", "schedule.max_steps=9", "loss.pcgrad=\"labels\""];
    let whole = workshop.train("pretrain", "whole", &set);
    let losses = |run: &Run| -> Vec<f64> {
        run.records("train").iter().map(|record| record["loss"].as_f64().unwrap()).collect()
    };
    let (projected, plain) = (losses(&whole), losses(&workshop.train("pretrain", "plain", &set[..2])));
    let apart = projected.iter().zip(&plain).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
    assert!(projected.len() == 9 && apart > 1e-9, "no gradients were in conflict: {apart:e}");
    for (dir, step) in [("early", 1), ("late", 6)] {
        let killed = whole.killed_after(step, &workshop.path(dir));
        workshop.run(&["pretrain", "--resume", dir, "--quiet"]);
        assert_eq!(without_times(killed.records("train")), without_times(whole.records("train")), "{dir}");
        assert_eq!(killed.tensors(9), whole.tensors(9), "{dir}");
    }
}
