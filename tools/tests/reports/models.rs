//! Runs of several models, seeds and settings beside the paper's numbers.

use std::path::Path;

use serde_json::{Value, json};

use crate::report;
use crate::runs::write;

/// Settings of a run without its dataset.
fn settings(preset: &str, lr: &str, seed: u32) -> String {
    format!(
        "kind = \"finetune\"\n[run]\nseed = {seed}\n[model]\npreset = \"{preset}\"\n[optimizer]\nlr = {lr}\n"
    )
}

/// A run on a molecule of rMD17 with a force MAE in meV/Å.
fn molecule(home: &Path, name: &str, settings: &str, (molecule, mae): (&str, f64)) {
    let dataset = format!("name = \"{molecule}\"\npath = \"shards/rmd17-{molecule}\"\ntrain = \"train\"\n");
    let errors = format!("{{\"{molecule}\":{{\"structures\":100,\"force_mae\":{}}}}}", mae / 1e3);
    let text = format!("{settings}[dataset]\n{dataset}");
    write(&home.join(name), &text, &[(1.0, 0.1)], Some(("test", &errors)));
}

/// A run on a target of QM9 with an error in meV.
fn target(home: &Path, name: &str, settings: &str, (target, mae): (&str, f64)) {
    let errors = json!({"qm9": {"scalar": {"target": target, "unit": "meV", "mae": mae}}}).to_string();
    let text = format!("{settings}[dataset]\nname = \"qm9\"\npath = \"shards/qm9\"\n");
    write(&home.join(name), &text, &[(1.0, 0.1)], Some(("test", &errors)));
}

#[track_caller]
fn near(value: &Value, expected: f64) {
    assert!((value.as_f64().unwrap() - expected).abs() < 1e-9, "{value} {expected}");
}

fn row<'a>(json: &'a Value, task: &str, model: &str) -> &'a Value {
    let mut rows = json["rows"].as_array().unwrap().iter();
    rows.find(|r| r["task"] == task && r["model"]["name"] == model).unwrap()
}

fn of_dataset<'a>(rows: &'a Value, dataset: &str) -> &'a Value {
    rows.as_array().unwrap().iter().find(|r| r["dataset"] == dataset).unwrap()
}

#[test]
fn small_and_large_models_stand_beside_those_of_their_size() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for (model, aspirin, ethanol, scratch) in [("jmp-s", 8.0, 4.0, 16.0), ("jmp-l", 4.0, 3.0, 20.0)] {
        let settings = settings(model, "1e-3", 0);
        molecule(home, &format!("aspirin-{model}"), &settings, ("aspirin", aspirin));
        molecule(home, &format!("ethanol-{model}"), &settings, ("ethanol", ethanol));
        molecule(home, &format!("scratch-{model}"), &settings, ("ethanol", scratch));
    }
    let tuned = ["aspirin-jmp-s", "aspirin-jmp-l", "ethanol-jmp-s", "ethanol-jmp-l"];
    let mut arguments = vec!["results"];
    arguments.extend(tuned);
    arguments.extend(["--scratch", "scratch-jmp-s", "scratch-jmp-l"]);
    let (json, page, csv) = report(home, &arguments);
    assert_eq!(json["rows"].as_array().unwrap().len(), 4);
    // Table 3, ethanol: GN-OC-S 13.0, GN-OC-L 13.3, JMP-S 2.8, JMP-L 2.0.
    let small = row(&json, "rmd17/ethanol", "jmp-s");
    near(&small["improvement"], 0.75);
    near(&small["over_paper"][0], (2.8 - 4.0) / 2.8);
    near(&small["scratch_over_paper"][0], (13.0 - 16.0) / 13.0);
    assert_eq!((&small["over_paper"][1], &small["scratch_over_paper"][1]), (&Value::Null, &Value::Null));
    let large = row(&json, "rmd17/ethanol", "jmp-l");
    near(&large["improvement"], 0.85);
    near(&large["over_paper"][1], (2.0 - 3.0) / 2.0);
    near(&large["scratch_over_paper"][1], (13.3 - 20.0) / 13.3);
    assert_eq!((&large["over_paper"][0], &large["scratch_over_paper"][0]), (&Value::Null, &Value::Null));
    // Figure 2c, each model over itself from scratch.
    let ours = &of_dataset(&json["means"], "MD17")["ours"];
    assert_eq!((&ours[0]["model"]["name"], &ours[1]["model"]["name"]), (&json!("jmp-s"), &json!("jmp-l")));
    near(&ours[0]["share"], 0.75);
    near(&ours[1]["share"], 0.85);
    // Figure 2a: (16 − 20) / 16; Figure 2b: the mean of (4 − 3) / 4 and (8 − 4) / 8.
    let scaling = of_dataset(&json["scaling"], "MD17");
    near(&scaling["scratch"]["ours"]["share"], -0.25);
    near(&scaling["tuned"]["ours"]["share"], 0.375);
    assert_eq!(
        (&scaling["scratch"]["ours"]["tasks"], &scaling["tuned"]["ours"]["tasks"]),
        (&json!(1), &json!(2))
    );
    assert_eq!((&scaling["scratch"]["printed"], &scaling["tuned"]["printed"]), (&json!(-5.4), &json!(31.6)));
    assert!(page.contains("Large over small") && page.contains("As the paper's Figure 2a and 2b"));
    assert!(csv.contains("(b) ours fine-tuned, large over small / %"), "{csv}");
    let (json, page, _) = report(home, &["results", "ethanol-jmp-s", "--scratch", "scratch-jmp-s"]);
    assert_eq!((&json["scaling"], page.contains("Large over small")), (&json!([]), false));
}

#[test]
fn seeds_are_averaged_and_other_settings_have_rows_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for (name, lr, seed, mae) in [("a", "1e-3", 0, 4.0), ("b", "2e-3", 0, 10.0), ("c", "1e-3", 1, 8.0)] {
        molecule(home, name, &settings("jmp-s", lr, seed), ("ethanol", mae));
    }
    molecule(home, "scratch", &settings("jmp-s", "5e-3", 7), ("ethanol", 20.0));
    let (json, page, _) = report(home, &["results", "a", "b", "c", "--scratch", "scratch"]);
    let rows = json["rows"].as_array().unwrap();
    let told: Vec<_> = rows.iter().map(|r| (&r["settings"], &r["tuned"]["count"])).collect();
    let expected = [(json!("optimizer.lr 0.001"), json!(2)), (json!("optimizer.lr 0.002"), json!(1))];
    assert_eq!(told, [(&expected[0].0, &expected[0].1), (&expected[1].0, &expected[1].1)]);
    near(&rows[0]["tuned"]["value"], 6.0);
    near(&rows[0]["improvement"], 0.7);
    near(&rows[1]["improvement"], 0.5);
    assert!(page.contains("ethanol, with optimizer.lr 0.001, mean of 2 runs"));
    assert!(json["tuned"][0]["variant"]["optimizer.lr"] == "0.001", "{}", json["tuned"][0]);
    let ours = &of_dataset(&json["means"], "MD17")["ours"][0];
    near(&ours["share"], 0.6);
    assert_eq!(ours["tasks"], 1);
}

#[test]
fn a_model_of_neither_size_stands_beside_both() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    molecule(home, "tiny", &settings("tiny", "1e-3", 0), ("ethanol", 4.0));
    molecule(home, "small", &settings("jmp-s", "1e-3", 0), ("ethanol", 8.0));
    let (json, page, _) = report(home, &["results", "tiny", "--scratch", "small"]);
    let tiny = row(&json, "rmd17/ethanol", "tiny");
    near(&tiny["over_paper"][0], (2.8 - 4.0) / 2.8);
    near(&tiny["over_paper"][1], (2.0 - 4.0) / 2.0);
    // Another model from scratch is no baseline.
    assert_eq!((&tiny["scratch"], &tiny["improvement"]), (&Value::Null, &Value::Null));
    assert!(json["tuned"][0]["differs"].to_string().contains("model tiny, not the paper's"));
    assert!(page.contains("model tiny, not the paper"));
}

#[test]
fn figure_3_has_the_papers_methods_and_ours() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let settings = settings("jmp-l", "1e-3", 0);
    target(home, "lumo", &settings, ("eps_LUMO", 9.0));
    target(home, "homo", &settings, ("eps_HOMO", 10.0));
    target(home, "lumo-scratch", &settings, ("eps_LUMO", 18.0));
    target(home, "homo-scratch", &settings, ("eps_HOMO", 40.0));
    let (json, page, csv) =
        report(home, &["results", "lumo", "homo", "--scratch", "lumo-scratch", "homo-scratch"]);
    let told = json["figure_3"].as_array().unwrap();
    let methods: Vec<_> = told.iter().map(|r| r["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["JMP-S", "JMP-L", "Pretrained ET-OREO", "ours, jmp-l"]);
    // Table 2: TorchMD-Net 18.6 and 20.3 meV, ET-OREO 14.5 and 16.8.
    near(&told[2]["lumo"], 4.1 / 18.6);
    near(&told[2]["homo"], 3.5 / 20.3);
    near(&told[3]["lumo"], 0.5);
    near(&told[3]["homo"], 0.75);
    for expected in ["TorchMD-Net in Table 2 is taken as its scratch baseline", "GNS+TAT+NN", "ET+NN"] {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(csv.lines().any(|l| l.contains("ours, jmp-l") && l.contains("Figure 3")), "{csv}");
}
