//! Steps that were skipped, and steps that failed and are replayed.

use std::path::Path;

use serde_json::Value;
use tch::{Kind, Tensor};
use trainer::checkpoint::tensors;

use crate::runs::{Run, Workshop, structures};

const HALF: &str = "run.precision=\"f16\"";

#[track_caller]
fn replayed(workshop: &Workshop, folder: &str, more: &[&str]) -> Value {
    let words = [&["replay", folder, "--json"][..], more].concat();
    serde_json::from_str(&workshop.run(&words)).unwrap()
}

/// Changes what a failure says of its run; the hashes are those of the other files.
fn edit(folder: &Path, change: impl FnOnce(&mut Value)) {
    let file = folder.join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    change(&mut state);
    std::fs::write(file, state.to_string()).unwrap();
}

/// Largest change of any weight in a step.
fn largest_change(run: &Run, step: u64) -> f64 {
    let read = |step| tensors::read(&run.checkpoint(step).join("model.safetensors")).unwrap();
    let (before, after) = (read(step - 1), read(step));
    let change = |(name, now): (&String, &Tensor)| {
        (now - &before[name]).abs().max().to_kind(Kind::Double).double_value(&[])
    };
    after.iter().map(change).fold(0.0, f64::max)
}

/// AdamW's first update moves a weight by the learning rate, whatever its gradient is: corrected for `t = 1` the moments are
/// `g` and `g²`. For any later `t` it would be another part of the rate.
#[test]
fn steps_that_overflow_are_no_updates_of_the_optimiser() {
    let workshop = Workshop::new(&structures(), &[]);
    // Too heavy a loss for the scale that runs begin with.
    let set = [
        HALF,
        "dataset.set.energy_weight=1e3",
        "optimizer.weight_decay=0",
        "checkpoint.every_steps=1",
        "schedule.epochs=5",
        "schedule.max_steps=16",
    ];
    let run = workshop.train("pretrain", "run", &set);
    let moves: Vec<f64> = run
        .records("train")
        .iter()
        .map(|record| largest_change(&run, record["step"].as_u64().unwrap()) / record["lr"].as_f64().unwrap())
        .collect();
    let first = moves.iter().position(|moved| *moved > 0.0).unwrap();
    assert!(moves.len() == 16 && first >= 2, "{moves:?}");
    assert!((moves[first] - 1.0).abs() < 1e-3, "{moves:?}");
    let updates = moves.iter().filter(|moved| **moved > 0.0).count();
    assert_eq!(run.log().matches("gradient overflowed, weights kept").count(), 16 - updates);
    let stored = tensors::read(&run.checkpoint(16).join("optimizer.safetensors")).unwrap();
    assert_eq!(stored["updates"].int64_value(&[]), updates as i64);
    // Killed after the last step that was skipped before the first that was not.
    let killed = run.killed_after(first as u64, &workshop.path("killed"));
    workshop.run(&["pretrain", "--resume", "killed", "--quiet"]);
    assert_eq!(killed.tensors(16), run.tensors(16));
}

#[test]
fn a_step_is_replayed_with_the_loss_scale_that_it_had() {
    let workshop = Workshop::new(&structures(), &[]);
    // Too heavy for any scale: from 65536 it halves down to 1, and then the run stops.
    let set = [HALF, "dataset.set.energy_weight=1e8", "schedule.epochs=5"];
    let run = workshop.stops("pretrain", "run", &set, 1, &["step 16: the gradient's norm is "]);
    let folder = "run/failures/step-00000016";
    let weigh = |scale: f64| {
        edit(&run.0.join("failures/step-00000016"), |state| {
            state["tasks"][0]["energy_weight"] = 100.0_f64.into();
            state["loss_scale"]["scale"] = scale.into();
        });
    };
    let state: Value =
        serde_json::from_slice(&std::fs::read(workshop.path(folder).join("state.json")).unwrap()).unwrap();
    assert_eq!(state["loss_scale"]["scale"], 1.0);
    // At this weight a scale of 1 is small enough, and that which runs begin with is not.
    weigh(1.0);
    let norm = |told: &Value| told["parts"][0]["gradient_norm"].as_f64().unwrap();
    let half = replayed(&workshop, folder, &[]);
    let single = replayed(&workshop, folder, &["--set", "run.precision=\"f32\""]);
    assert_eq!((&half["reproduced"], &single["reproduced"]), (&false.into(), &false.into()), "{half}");
    let (a, b) = (norm(&half), norm(&single));
    assert!((a - b).abs() < 0.01 * b && a != b, "{a} and {b}");
    weigh(65_536.0);
    let told = replayed(&workshop, folder, &[]);
    assert_eq!((&told["reproduced"], &told["parts"][0]["loss_is_finite"]), (&true.into(), &true.into()));
    assert!(told["parts"][0]["gradient_norm"].is_null(), "{told}");
}

/// One step of three micro-batches whose gradients point the same way: of energies alone, and all far below any prediction.
fn aligned(weight: &str) -> [&str; 5] {
    [
        weight,
        "sampling.accumulate=3",
        "dataset.set.force_weight=0",
        "dataset.set.energy_mean=-1e9",
        "schedule.max_steps=1",
    ]
}

#[test]
fn a_gradient_whose_sum_alone_is_not_finite_is_reproduced_by_the_sum() {
    let workshop = Workshop::new(&structures(), &[]);
    // A norm above this has no square in double precision.
    let limit = f64::MAX.sqrt();
    let weight = |weight: f64| format!("dataset.set.energy_weight={weight:e}");
    let fine = workshop.train("pretrain", "fine", &aligned(&weight(1e140)));
    let norm = fine.records("train")[0]["gradient_norm"].as_f64().unwrap();
    // Weights are factors of the gradient.
    let heavy = weight(1e140 * (1.2 * limit / norm));
    let words = ["the run stopped", "step 0: the gradient's norm is inf", "; structures of the batch: "];
    let run = workshop.stops("pretrain", "run", &aligned(&heavy), 1, &words);
    let folder = "run/failures/step-00000000";
    let told = replayed(&workshop, folder, &[]);
    let of_parts = |key: &str| -> Vec<f64> {
        told["parts"].as_array().unwrap().iter().map(|part| part[key].as_f64().unwrap()).collect()
    };
    let norms = of_parts("gradient_norm");
    assert!(norms.len() == 3 && norms.iter().all(|norm| *norm < limit), "{norms:?}");
    let (loss, sum) = (told["together"]["loss"].as_f64().unwrap(), of_parts("loss").iter().sum::<f64>());
    assert!((loss - sum).abs() < 1e-12 * sum, "{loss} and {sum}");
    assert_eq!(
        (&told["together"]["gradient_is_finite"], &told["reproduced"]),
        (&false.into(), &true.into()),
        "{told}"
    );
    let text = workshop.run(&["replay", folder]);
    assert!(text.contains("\nall 3 together: loss ") && text.ends_with("\nreproduced\n"), "{text}");
    // With the weight of the run that went well it is that run's first step.
    edit(&run.0.join("failures/step-00000000"), |state| {
        state["tasks"][0]["energy_weight"] = 1e140_f64.into();
    });
    let told = replayed(&workshop, folder, &[]);
    let again = told["together"]["gradient_norm"].as_f64().unwrap();
    assert!((again - norm).abs() < 1e-12 * norm, "{again} and {norm}");
    assert_eq!(told["reproduced"], false);
}
