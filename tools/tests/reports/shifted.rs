//! Energies of runs that learnt forces alone.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::report;
use crate::runs::write;

/// A run whose validations tell an energy MAE of 0.5 eV, as `runs::write` has it, whatever was learnt.
fn run(home: &Path, name: &str, energy_weight: f64) {
    let dataset = "[dataset]\nname = \"ethanol\"\npath = \"shards/rmd17-ethanol\"\n";
    let text = format!("[model]\npreset = \"tiny\"\n{dataset}energy_weight = {energy_weight:?}\n");
    write(&home.join(name), &text, &[(1.0, 0.1)], None);
}

/// As `jmp-train evaluate` leaves it.
fn evaluate(home: &Path, name: &str, energy_mae: f64, shifted: &[&str]) {
    let errors = json!({"structures": 5, "energy_mae": energy_mae, "energy_mae_per_atom": energy_mae / 9.0,
        "force_mae": 0.01});
    let evaluation = json!({"kind": "evaluation", "split": "test", "checkpoint": "c", "shifted": shifted,
        "tasks": {"ethanol": errors}});
    fs::write(home.join(name).join("evaluation-test.json"), evaluation.to_string()).unwrap();
}

fn finals<'a>(json: &'a Value, quantity: &str) -> &'a Value {
    json["finals"].as_array().unwrap().iter().find(|f| f["quantity"] == quantity).unwrap()
}

#[test]
fn an_energy_known_up_to_a_constant_is_marked_wherever_it_is_told() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    run(home, "both", 1.0);
    run(home, "forces", 0.0);
    evaluate(home, "both", 0.04, &[]);
    evaluate(home, "forces", 0.02, &["ethanol"]);
    let (json, page, csv) = report(home, &["stats", "--run", "both", "--run", "forces"]);
    let shifted = |run: usize| &json["runs"][run]["evaluations"][0]["tasks"]["ethanol"]["energy_shifted"];
    assert_eq!((shifted(0), shifted(1)), (&Value::Null, &json!(true)));
    let marked = "energy / meV, shifted: only forces were learnt";
    assert_eq!((page.matches(marked).count(), csv.matches(marked).count()), (1, 1));
    assert!(page.contains("energy per atom / (meV/atom), shifted"));
    // An error of energies that were learnt is no yardstick for one after fitting a constant.
    let (json, page, csv) = report(home, &["compare", "both", "forces"]);
    let energy = finals(&json, "energy");
    assert_eq!(energy["errors"], json!([0.04, 0.02]));
    assert_eq!(energy["shifted"], json!([false, true]));
    assert_eq!(energy["improvements"], json!([0.0, null]));
    assert_eq!(finals(&json, "forces")["improvements"], json!([0.0, 0.0]));
    let marked = "energy MAE / meV, shifted in forces";
    assert!(page.contains(marked) && csv.contains(marked));
    assert!(page.contains("do not compare with those of a run that learnt energies"));
    let (json, page, _) = report(home, &["compare", "forces", "forces"]);
    assert_eq!(finals(&json, "energy")["improvements"], json!([0.0, 0.0]));
    assert!(page.contains("energy MAE / meV, shifted<"));
}

#[test]
fn a_validation_tells_no_energy_that_was_not_learnt() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    run(home, "both", 1.0);
    run(home, "forces", 0.0);
    let (json, ..) = report(home, &["compare", "both", "forces"]);
    assert_eq!(json["splits"], json!(["best validation", "best validation"]));
    assert_eq!(finals(&json, "energy")["errors"], json!([0.5, null]));
    assert_eq!(finals(&json, "forces")["errors"], json!([0.1, 0.1]));
    let (json, page, _) = report(home, &["compare", "forces"]);
    let quantities: Vec<_> = json["finals"].as_array().unwrap().iter().map(|f| &f["quantity"]).collect();
    assert_eq!(quantities, [&json!("forces")]);
    assert!(!page.contains("Energy MAE, validation") && page.contains("Force MAE, validation"));
}
