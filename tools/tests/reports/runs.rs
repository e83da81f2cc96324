//! Runs whose numbers can be worked out by hand.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::report;

/// A run with validations (minutes, metric) and one evaluation: the split and the JSON of its task's errors.
pub(crate) fn write(
    dir: &Path,
    settings: &str,
    validations: &[(f64, f64)],
    evaluation: Option<(&str, &str)>,
) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config.toml"), settings).unwrap();
    let mut lines = String::new();
    for (index, (minutes, metric)) in validations.iter().enumerate() {
        let step = 10 * (index + 1);
        write!(
            lines,
            "{{\"kind\":\"train\",\"step\":{step},\"epoch\":{index},\"samples\":{samples},\"minutes\":{minutes},\"loss\":{metric},\"lr\":0.001,\"tasks\":{{}}}}\n\
             {{\"kind\":\"validation\",\"step\":{step},\"minutes\":{minutes},\"metric\":{metric},\"tasks\":{{\"ethanol\":{{\"structures\":5,\"energy_mae\":0.5,\"force_mae\":{metric}}}}}}}\n",
            samples = 80 * (index + 1),
        )
        .unwrap();
    }
    let (step, minutes) = (10 * validations.len(), validations.last().map_or(0.0, |v| v.0));
    writeln!(
        lines,
        "{{\"kind\":\"finished\",\"ending\":\"patience\",\"step\":{step},\"samples\":{},\"minutes\":{minutes},\"samples_per_second\":4.0}}",
        8 * step
    )
    .unwrap();
    fs::write(dir.join("metrics.jsonl"), lines).unwrap();
    if let Some((split, errors)) = evaluation {
        let text = format!(
            "{{\"kind\":\"evaluation\",\"split\":\"{split}\",\"checkpoint\":\"c\",\"tasks\":{errors}}}"
        );
        fs::write(dir.join(format!("evaluation-{split}.json")), text).unwrap();
    }
}

fn settings(preset: &str, path: &str, lr: &str) -> String {
    format!(
        "kind = \"finetune\"\n[model]\npreset = \"{preset}\"\n[dataset]\nname = \"ethanol\"\npath = \"{path}\"\ntrain = \"train\"\n[optimizer]\nlr = {lr}\n"
    )
}

/// A scratch run and a fine-tuned one on rMD17's ethanol: test force MAE 20.8 and 5.2 meV/Å.
fn pair(home: &Path) {
    let errors =
        |mae: &str| format!("{{\"ethanol\":{{\"structures\":100,\"energy_mae\":0.01,\"force_mae\":{mae}}}}}");
    let scratch = [(60.0, 0.05), (120.0, 0.02), (180.0, 0.03)];
    let tuned = [(15.0, 0.03), (30.0, 0.02), (45.0, 0.01)];
    write(
        &home.join("scratch"),
        &settings("tiny", "shards/rmd17-ethanol", "2e-4"),
        &scratch,
        Some(("test_01", &errors("0.0208"))),
    );
    write(
        &home.join("tuned"),
        &settings("jmp-s", "shards/rmd17-ethanol", "8e-5"),
        &tuned,
        Some(("test_01", &errors("0.0052"))),
    );
}

#[test]
fn results_stand_beside_the_papers_numbers() {
    let home = tempfile::tempdir().unwrap();
    pair(home.path());
    let same_model = settings("jmp-s", "shards/rmd17-ethanol", "2e-4");
    fs::write(home.path().join("scratch/config.toml"), same_model).unwrap();
    // The same evaluation kept a second time counts once.
    fs::copy(home.path().join("tuned/evaluation-test_01.json"), home.path().join("tuned/kept.json")).unwrap();
    let (json, page, csv) = report(home.path(), &["results", "tuned", "--scratch", "scratch"]);
    assert_eq!(
        (json["rows"][0]["tuned"]["count"].as_u64(), json["tuned"].as_array().unwrap().len()),
        (Some(1), 1)
    );
    let row = &json["rows"][0];
    assert_eq!((row["task"].as_str(), json["rows"].as_array().unwrap().len()), (Some("rmd17/ethanol"), 1));
    // Table 3: GN-OC-S 13.0, GN-OC-L 13.3, JMP-S 2.8, JMP-L 2.0; MACE and Allegro 2.1.
    assert_eq!(row["paper"], serde_json::json!([13.0, 13.3, 2.8, 2.0]));
    assert_eq!(row["best_other"][1], serde_json::json!(2.1));
    let near = |value: &serde_json::Value, expected: f64| {
        assert!((value.as_f64().unwrap() - expected).abs() < 1e-12, "{value} {expected}");
    };
    near(&row["tuned"]["value"], 5.2);
    near(&row["improvement"], 0.75);
    near(&row["over_paper"][0], (2.8 - 5.2) / 2.8);
    near(&row["scratch_over_paper"][0], (13.0 - 20.8) / 13.0);
    let md17 = json["means"].as_array().unwrap().iter().find(|m| m["dataset"] == "MD17").unwrap();
    near(&md17["ours"][0]["share"], 0.75);
    assert_eq!(md17["ours"][0]["tasks"], 1);
    assert!(!json["tuned"][0]["differs"].to_string().contains("not the paper's"));
    assert!(page.contains("ethanol"));
    assert!(csv.lines().any(|l| l.contains("rMD17") && l.contains("5.2")), "{csv}");
}

#[test]
fn scalar_targets_and_folds_are_compared_in_the_papers_unit() {
    let home = tempfile::tempdir().unwrap();
    for fold in 0..5 {
        let mae = 0.010 + 0.001 * f64::from(fold);
        let errors = format!(
            "{{\"e\":{{\"structures\":7,\"scalar\":{{\"target\":\"e_form\",\"unit\":\"eV/atom\",\"mae\":{mae}}}}}}}"
        );
        let dir = home.path().join(format!("fold{fold}"));
        let settings = "[dataset]\npath = \"shards/matbench-mp-e-form\"\n[model]\npreset = \"jmp-l\"\n";
        write(&dir, settings, &[(1.0, 0.1)], Some((&format!("fold{fold}_test"), &errors)));
    }
    let (json, ..) = report(home.path(), &["results", "fold0", "fold1", "fold2", "fold3", "fold4"]);
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    // meV/atom: 10 on fold 0 (JMP-L 10.3), 12 in the mean (JMP-L 10.1).
    let value = |row: &serde_json::Value| row["tuned"]["value"].as_f64().unwrap();
    assert!((value(&rows[0]) - 10.0).abs() < 1e-9 && (value(&rows[5]) - 12.0).abs() < 1e-9);
    assert!((rows[0]["over_paper"][1].as_f64().unwrap() - 0.3 / 10.3).abs() < 1e-9);
    assert!((rows[5]["over_paper"][1].as_f64().unwrap() + 1.9 / 10.1).abs() < 1e-9);
}

#[test]
fn parts_of_a_mask_stand_beside_table_16() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("lumo");
    write(&dir, "[dataset]\npath = \"shards/qm9\"\n[model]\npreset = \"jmp-l\"\n", &[(1.0, 0.1)], None);
    // As `jmp-train evaluate --mask` leaves it; the errors are in meV, as the configuration asked.
    let evaluation = r#"{"kind":"evaluation","split":"test","checkpoint":"c",
        "tasks":{"qm9":{"structures":3,"scalar":{"target":"eps_LUMO","unit":"meV","mae":9.5}}},
        "breakdown":{"qm9":{"by_overlap":{"overlapping":{"structures":1,"mae":12.5},"non_overlapping":{"structures":2,"mae":8.0},"combined":{"structures":3,"mae":9.5}}}}}"#;
    fs::write(dir.join("evaluation-test.json"), evaluation).unwrap();
    let (json, page, csv) = report(home.path(), &["results", "lumo"]);
    assert_eq!(
        json["tuned"][0]["by_overlap"],
        serde_json::json!({"overlapping": 12.5, "non_overlapping": 8.0, "combined": 9.5})
    );
    assert!(page.contains("as Table 16"));
    // Table 16: ε LUMO 8.5 overlapping, 8.9 not.
    for cell in ["overlapping,12.5,", "JMP-L overlapping,8.5,", "JMP-L non-overlapping,8.9,"] {
        assert!(csv.contains(cell), "{cell}: {csv}");
    }
}

#[test]
fn the_papers_numbers_alone_are_a_report() {
    let home = tempfile::tempdir().unwrap();
    let (json, page, _) = report(home.path(), &["results"]);
    assert_eq!(json["rows"], serde_json::json!([]));
    for expected in ["77.9", "Table 16", "Table 10", "Figure 3"] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn runs_are_compared_and_matched() {
    let home = tempfile::tempdir().unwrap();
    pair(home.path());
    let (json, page, csv) = report(
        home.path(),
        &[
            "compare",
            "scratch",
            "tuned",
            "--pair",
            "scratch",
            "tuned",
            "--method",
            "B=scratch",
            "--method",
            "SWL=tuned",
        ],
    );
    let forces = json["finals"].as_array().unwrap().iter().find(|f| f["quantity"] == "forces").unwrap();
    assert_eq!((forces["errors"][0].as_f64(), forces["errors"][1].as_f64()), (Some(0.0208), Some(0.0052)));
    assert!((forces["improvements"][1].as_f64().unwrap() - 0.75).abs() < 1e-12);
    // The scratch run's best is 0.02, its run 3 h; the tuned run reaches 0.02 after 30 minutes.
    let told = &json["matches"][0];
    assert_eq!((told["matched_hours"].as_f64(), told["factor"].as_f64()), (Some(0.5), Some(6.0)));
    let settings: Vec<&str> =
        json["differences"].as_array().unwrap().iter().map(|d| d["setting"].as_str().unwrap()).collect();
    assert_eq!(settings, ["model.preset", "optimizer.lr"]);
    let ablation = &json["ablation"][1];
    assert!((ablation["improvement"]["share"].as_f64().unwrap() - 0.75).abs() < 1e-12);
    assert_eq!(ablation["table_12"].as_f64(), Some(7.68));
    for expected in
        ["hours since the start / h", "optimiser steps", "Settings that differ", "As the paper's Figure 4"]
    {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(csv.contains("Validation metric by time"));
}

#[test]
fn costs_are_those_of_the_clock_and_the_devices() {
    let home = tempfile::tempdir().unwrap();
    pair(home.path());
    let (json, page, _) = report(
        home.path(),
        &[
            "cost",
            "scratch=4",
            "tuned",
            "--hours",
            "tests=10",
            "--power",
            "250",
            "--intensity",
            "0.4",
            "--pue",
            "1.2",
        ],
    );
    let hours: Vec<f64> =
        json["items"].as_array().unwrap().iter().map(|i| i["hours"].as_f64().unwrap()).collect();
    // 180 minutes on 4 devices, 45 on one.
    assert_eq!(hours, [12.0, 0.75, 10.0]);
    // 12 h × 0.25 kW × 1.2 × 0.4.
    assert!((json["items"][0]["emissions_kg"].as_f64().unwrap() - 1.44).abs() < 1e-12);
    assert!((json["total_kg"].as_f64().unwrap() - 22.75 * 0.12).abs() < 1e-12);
    let printed = |label: &str| {
        let row = json["paper"].as_array().unwrap().iter().find(|i| i["label"] == label).unwrap();
        (row["printed_kg"].as_f64().unwrap() * 100.0).round()
            == (row["computed_kg"].as_f64().unwrap() * 100.0).round()
    };
    assert!(printed("JMP-L pre-training") && printed("JMP-S pre-training"));
    assert!(page.contains("emissions / kg CO₂eq"));
}
