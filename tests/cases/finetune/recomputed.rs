//! What `evaluate` tells of properties, folds and masks, recomputed from the files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use super::{call, evaluate, matbench, train, workshop};
use crate::rows::{batches, rows};

fn column(batch: &RecordBatch, name: &str) -> Vec<f64> {
    batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

fn ids(batch: &RecordBatch) -> Vec<String> {
    let names = batch.column_by_name("id").unwrap().as_string::<i32>();
    (0..batch.num_rows()).map(|i| names.value(i).to_owned()).collect()
}

/// Label and prediction by id.
fn predictions(file: &Path, label: &str) -> BTreeMap<String, (f64, f64)> {
    let mut found = BTreeMap::new();
    for batch in batches(file) {
        let pairs = column(&batch, label).into_iter().zip(column(&batch, &format!("predicted_{label}")));
        found.extend(ids(&batch).into_iter().zip(pairs));
    }
    found
}

/// The stored values of a target by id.
fn stored(data: &Path, target: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for part in fs::read_dir(data.join("data")).unwrap() {
        for batch in batches(&part.unwrap().path()) {
            found.extend(ids(&batch).into_iter().zip(column(&batch, target)));
        }
    }
    found
}

#[track_caller]
fn close(got: &Value, want: f64) {
    let got = got.as_f64().unwrap();
    assert!((got - want).abs() < 1e-5 * want.abs().max(1e-3), "told {got}, recomputed {want}");
}

/// A run of a MatBench task on one fold; `{fold}` in the directory's name.
fn matbench_run(task: &str, fold: &str) -> PathBuf {
    let run = workshop().join(format!("folds-{task}-{fold}"));
    let arguments = ["--scratch", "--task", task, "--fold", fold];
    train(&call("finetune", "matbench.toml", &matbench(task), &run, &arguments)).ok();
    run
}

#[test]
fn errors_of_a_property_are_those_of_the_predictions_file() {
    let run = matbench_run("mp_e_form", "3");
    let told = evaluate("mp_e_form", &run, &["--fold", "3"]).ok();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["split"], "fold3_test");
    let errors = &told["tasks"]["mp_e_form"]["scalar"];
    assert_eq!(errors["unit"], "meV/atom");
    let predicted = predictions(&run.join("predictions-fold3_test.parquet"), "e_form");
    let labels = stored(&matbench("mp_e_form"), "e_form");
    assert!(predicted.len() >= 6);
    let (mut absolute, mut square) = (0.0, 0.0);
    let mut by_element: BTreeMap<u8, (f64, f64)> = BTreeMap::new();
    let structures = rows(&matbench("mp_e_form"));
    for (id, (label, prediction)) in &predicted {
        // Labels pass through the model's own precision.
        assert!((label - labels[id]).abs() < 1e-3, "{id}: {label} {}", labels[id]);
        let error = 1e3 * (prediction - label);
        absolute += error.abs();
        square += error * error;
        let mut elements = structures.iter().find(|row| row.id == *id).unwrap().numbers.clone();
        elements.sort_unstable();
        elements.dedup();
        for z in elements {
            let sums = by_element.entry(z).or_default();
            *sums = (sums.0 + error.abs(), sums.1 + 1.0);
        }
    }
    let n = predicted.len() as f64;
    close(&errors["mae"], absolute / n);
    close(&errors["rmse"], (square / n).sqrt());
    let told = &told["breakdown"]["mp_e_form"]["by_element"];
    assert_eq!(told.as_object().unwrap().len(), by_element.len());
    let mut recomputed: Vec<f64> = by_element.values().map(|(sum, n)| sum / n).collect();
    let mut told: Vec<f64> =
        told.as_object().unwrap().values().map(|group| group["mae"].as_f64().unwrap()).collect();
    recomputed.sort_by(f64::total_cmp);
    told.sort_by(f64::total_cmp);
    for (got, want) in told.iter().zip(&recomputed) {
        assert!((got - want).abs() < 1e-5 * want.max(1e-3), "{told:?} {recomputed:?}");
    }
}

#[test]
fn classes_are_judged_by_the_predictions_file() {
    let run = matbench_run("mp_is_metal", "0");
    let told = evaluate("mp_is_metal", &run, &["--split", "fold0_train_val"]).ok();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let errors = &told["tasks"]["mp_is_metal"]["scalar"];
    let predicted = predictions(&run.join("predictions-fold0_train_val.parquet"), "is_metal");
    let labels = stored(&matbench("mp_is_metal"), "is_metal");
    let (mut right, mut area, mut pairs) = (0.0, 0.0, 0.0);
    for (id, (label, p)) in &predicted {
        assert_eq!(*label, labels[id]);
        assert!((0.0..=1.0).contains(p));
        right += f64::from(u8::from((*p > 0.5) == (*label == 1.0)));
        for (other, q) in predicted.values().filter(|_| *label == 1.0) {
            if *other == 0.0 {
                pairs += 1.0;
                area += if p > q { 1.0 } else { 0.5 * f64::from(u8::from(p == q)) };
            }
        }
    }
    assert!(pairs > 0.0);
    close(&errors["accuracy"], right / predicted.len() as f64);
    close(&errors["roc_auc"], area / pairs);
}

#[test]
fn folds_have_a_mean() {
    let runs = ["0", "1"].map(|fold| matbench_run("jdft2d", fold));
    let pattern = workshop().join("folds-jdft2d-{fold}");
    let told = evaluate("jdft2d", &pattern, &["--folds", "0,1"]).ok();
    let lines: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let each: Vec<f64> =
        lines[..2].iter().map(|line| line["tasks"]["jdft2d"]["scalar"]["mae"].as_f64().unwrap()).collect();
    assert_ne!(each[0], each[1]);
    assert_eq!([&lines[0]["split"], &lines[1]["split"]], ["fold0_test", "fold1_test"]);
    let mean = &lines[2]["tasks"]["jdft2d"]["mae"];
    close(&mean["mean"], f64::midpoint(each[0], each[1]));
    close(&mean["std"], (each[0] - each[1]).abs() / 2.0_f64.sqrt());
    assert!(runs.iter().all(|run| run.join("predictions-fold0_test.parquet").exists()
        || run.join("predictions-fold1_test.parquet").exists()));
    evaluate("jdft2d", &runs[0], &["--folds", "0,1"]).refused(&["{fold} in --checkpoint"]);
}

#[test]
fn overlapping_structures_are_judged_apart() {
    let run = matbench_run("perovskites", "0");
    let all: Vec<String> = rows(&matbench("perovskites")).into_iter().map(|row| row.id).collect();
    let mask = |name: &str, ids: &[String]| {
        let path = workshop().join(name);
        let overlaps: Vec<bool> = (0..ids.len()).map(|i| i % 3 == 0).collect();
        let columns: [(&str, ArrayRef); 2] = [
            ("id", Arc::new(StringArray::from(ids.to_vec()))),
            ("overlapping", Arc::new(BooleanArray::from(overlaps.clone()))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        (path.display().to_string(), ids.iter().cloned().zip(overlaps).collect::<BTreeMap<_, _>>())
    };
    let (file, overlaps) = mask("mask.parquet", &all);
    let told = evaluate("perovskites", &run, &["--mask", &file]).ok();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let predicted = predictions(&run.join("predictions-fold0_test.parquet"), "e_form");
    let by_overlap = &told["breakdown"]["perovskites"]["by_overlap"];
    for (name, wanted) in [("overlapping", true), ("non_overlapping", false)] {
        let errors: Vec<f64> = predicted
            .iter()
            .filter(|(id, _)| overlaps[*id] == wanted)
            .map(|(_, (label, prediction))| (label - prediction).abs())
            .collect();
        assert_eq!(by_overlap[name]["structures"], errors.len());
        close(&by_overlap[name]["mae"], errors.iter().sum::<f64>() / errors.len() as f64);
    }
    close(&by_overlap["combined"]["mae"], told["tasks"]["perovskites"]["scalar"]["mae"].as_f64().unwrap());
    let (short, _) = mask("short.parquet", &all[..3]);
    evaluate("perovskites", &run, &["--mask", &short]).refused(&["does not tell of structure `mb-"]);
    let wrong = run.join("predictions-fold0_test.parquet").display().to_string();
    evaluate("perovskites", &run, &["--mask", &wrong]).refused(&["no column overlapping"]);
}
