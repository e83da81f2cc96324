//! Pre-training, kill, resume, fine-tuning, evaluation: on the demo's miniatures, with a tiny model.

mod queue;
mod resumed;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use serde_json::Value;

use super::convert::convert;
use crate::npz::{self, Array};
use crate::programs::{Ended, Running, copy_tree, fixture, ingest, tree};
use crate::rows::{batches, floats, rows};

/// Folder of this file's datasets and shared runs, made afresh by each run of the tests.
pub(crate) fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("train");
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        convert("ani1x", &fixture("demo/ani1x/ani1x-release.h5"), &dir.join("ani1x"), "2").ok();
        convert("oc22", &fixture("oc22/s2ef-total"), &dir.join("oc22"), "2").ok();
        let ethanol = dir.join("ethanol");
        convert("rmd17", &fixture("demo/rmd17/npz_data/rmd17_ethanol.npz"), &ethanol, "2").ok();
        ingest(&[
            &"split",
            &ethanol,
            &"--from",
            &"train_01",
            &"--random",
            &"42",
            &"--sizes",
            &"train=180,val=20",
        ])
        .ok();
        fs::write(dir.join("pretrain.toml"), PRETRAIN).unwrap();
        fs::write(dir.join("finetune.toml"), FINETUNE).unwrap();
        dir
    })
}

const PRETRAIN: &str = r#"
kind = "pretrain"
run = { dir = "runs/pretrain", seed = 3, device = "cpu", threads = 1 }
model = { preset = "tiny" }
sampling = { batch_size = 4, temperature = 2.0 }
optimizer = { lr = 1e-3, clip = { norm = 1.0 }, ema = 0.9 }
schedule = { epochs = 1, warmup_steps = 5, max_steps = 30 }
checkpoint = { every_steps = 5, keep = 9 }

[[dataset]]
name = "ani1x"
path = "ani1x"
cutoff = 5.0
neighbors = 8

[[dataset]]
name = "oc22"
path = "oc22"
cutoff = 5.0
neighbors = 8
"#;

const FINETUNE: &str = r#"
kind = "finetune"
run = { dir = "runs/finetune", seed = 3, device = "cpu", threads = 1 }
model = { preset = "tiny" }
dataset = { name = "ethanol", path = "ethanol", val = "val", cutoff = 5.0, neighbors = 8, force_weight = 10.0 }
heads = { forces = "gradient" }
sampling = { batch_size = 6 }
optimizer = { lr = 2e-3, clip = { value = 1.0 }, ema = 0.9 }
schedule = { warmup_epochs = 1 }
stop = { epochs = 1 }
"#;

pub(super) fn train(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Ended {
    Running::start_in(workshop(), "jmp-train", arguments).wait()
}

pub(super) fn run_dir(name: &str) -> (PathBuf, String) {
    let dir = workshop().join("runs").join(name);
    let setting = format!("run.dir={}", dir.display());
    (dir, setting)
}

/// A finished pre-training run that several cases start from.
pub(super) fn pretrained() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let (dir, setting) = run_dir("uninterrupted");
        train(&[&"pretrain", &"pretrain.toml", &"--set", &setting]).ok();
        dir
    })
}

/// A model fine-tuned from it in double precision.
fn finetuned() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let (dir, setting) = run_dir("double");
        let precision = "run.precision=\"f64\"";
        let from = pretrained();
        train(&[
            &"finetune",
            &"finetune.toml",
            &"--checkpoint",
            &from,
            &"--set",
            &setting,
            &"--set",
            &precision,
        ])
        .ok();
        dir
    })
}

/// The lines of metrics.jsonl about training, without what the clock decides.
pub(super) fn steps(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut steps: Vec<Value> = lines.filter(|line| line["kind"] == "train").collect();
    for step in &mut steps {
        let fields = step.as_object_mut().unwrap();
        fields.remove("samples_per_second");
        fields.remove("waiting");
        fields.remove("minutes");
    }
    steps
}

/// The tensors of a checkpoint, byte by byte.
pub(super) fn tensors(run: &Path, step: &str) -> Vec<(String, Vec<u8>)> {
    let all = tree(&run.join("checkpoints").join(step)).into_iter();
    let found: Vec<_> = all.filter(|(name, _)| name.ends_with(".safetensors")).collect();
    assert!(
        found.len() >= 3,
        "weights, average and moments: {:?}",
        found.iter().map(|f| &f.0).collect::<Vec<_>>()
    );
    found
}

#[test]
fn the_loss_of_joint_training_falls() {
    let losses: Vec<f64> = steps(pretrained()).iter().map(|s| s["loss"].as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 30);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..8]), mean(&losses[22..]));
    assert!(last < 0.7 * first, "from {first} to {last}");
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let (dir, setting) = run_dir("killed");
    let mut running =
        Running::start_in(workshop(), "jmp-train", &[&"pretrain", &"pretrain.toml", &"--set", &setting]);
    let (started, first) = (Instant::now(), dir.join("checkpoints/step-00000005/state.json"));
    while !first.exists() {
        assert!(running.runs(), "it ended before its first checkpoint: {:#?}", running.wait());
        assert!(started.elapsed() < Duration::from_mins(10), "no checkpoint after ten minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill();
    assert!(!dir.join("checkpoints/step-00000030").exists(), "it was killed too late to show anything");
    train(&[&"pretrain", &"--resume", &dir]).ok();
    assert!(tensors(&dir, "step-00000030") == tensors(pretrained(), "step-00000030"), "the tensors differ");
    assert_eq!(steps(&dir), steps(pretrained()));
}

#[test]
fn a_run_is_repeated_bit_for_bit() {
    let (dir, setting) = run_dir("again");
    train(&[&"pretrain", &"pretrain.toml", &"--set", &setting, &"--set", &"schedule.max_steps=10"]).ok();
    assert!(tensors(&dir, "step-00000010") == tensors(pretrained(), "step-00000010"), "the tensors differ");
}

fn column(batch: &RecordBatch, name: &str) -> Vec<f64> {
    batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

fn lists(batch: &RecordBatch, name: &str) -> Vec<Vec<f64>> {
    let lists = batch.column_by_name(name).unwrap();
    let lists = lists.as_list::<i32>();
    (0..batch.num_rows()).map(|i| floats(&lists.value(i))).collect()
}

fn ids(batch: &RecordBatch) -> Vec<String> {
    let names = batch.column_by_name("id").unwrap().as_string::<i32>();
    (0..batch.num_rows()).map(|i| names.value(i).to_owned()).collect()
}

/// What a model predicts, by the structure's id.
struct Predictions {
    energy: BTreeMap<String, f64>,
    forces: BTreeMap<String, Vec<f64>>,
}

fn predictions(file: &Path, prefix: &str) -> Predictions {
    let (mut energy, mut forces) = (BTreeMap::new(), BTreeMap::new());
    for batch in batches(file) {
        energy.extend(ids(&batch).into_iter().zip(column(&batch, &format!("{prefix}energy"))));
        forces.extend(ids(&batch).into_iter().zip(lists(&batch, &format!("{prefix}forces"))));
    }
    Predictions { energy, forces }
}

#[test]
fn errors_told_are_those_of_the_predictions_file() {
    let (run, file) = (finetuned(), workshop().join("test.parquet"));
    let ended = train(&[
        &"evaluate",
        &"finetune.toml",
        &"--checkpoint",
        &run,
        &"--split",
        &"test_01",
        &"--output",
        &file,
        &"--json",
        &"--set",
        &"run.precision=\"f64\"",
    ])
    .ok();
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    let told = &told["tasks"]["ethanol"];
    let (predicted, labels) = (predictions(&file, "predicted_"), predictions(&file, ""));
    // The labels are the dataset's own, the predictions are of the whole split.
    let rows = rows(&workshop().join("ethanol"));
    let splits = crate::rows::splits(&workshop().join("ethanol"));
    assert_eq!(predicted.energy.len(), splits["test_01"].len());
    let (mut energy_error, mut force_error, mut force_size, mut components) = (0.0, 0.0, 0.0, 0.0);
    for &row in &splits["test_01"] {
        let row = &rows[row as usize];
        assert!((labels.energy[&row.id] - row.energy.unwrap()).abs() < 1e-9);
        energy_error += (predicted.energy[&row.id] - row.energy.unwrap()).abs();
        for ((p, l), stored) in
            predicted.forces[&row.id].iter().zip(&labels.forces[&row.id]).zip(row.forces.as_ref().unwrap())
        {
            assert!((l - stored).abs() < 1e-9);
            force_error += (p - stored).abs();
            force_size += stored.abs();
            components += 1.0;
        }
    }
    let close = |key: &str, want: f64| {
        let got = told[key].as_f64().unwrap();
        assert!((got - want).abs() < 1e-9 * want, "{key}: told {got}, recomputed {want}");
    };
    close("energy_mae", energy_error / splits["test_01"].len() as f64);
    close("force_mae", force_error / components);
    close("force_mae_of_zero", force_size / components);
    assert!(force_error < 0.9 * force_size, "fine-tuning learnt nothing: {told}");
}

#[test]
fn forces_are_minus_the_derivative_of_the_energy() {
    const STEP: f64 = 1e-3;
    let base = &rows(&workshop().join("ethanol"))[0];
    let coordinates = base.positions.len();
    let mut positions = Vec::new();
    for frame in 0..=2 * coordinates {
        let mut moved = base.positions.clone();
        if frame > 0 {
            moved[(frame - 1) / 2] += if frame % 2 == 1 { STEP } else { -STEP };
        }
        positions.extend(moved);
    }
    // Labels are of no consequence here, but must not be all alike.
    let frames = 2 * coordinates + 1;
    let energies: Vec<f64> = (0..frames).map(|i| -400.0 + 0.01 * i as f64).collect();
    let forces: Vec<f64> = (0..frames * coordinates).map(|i| 0.1 * ((i % 7) as f64 - 3.0)).collect();
    let file = workshop().join("rmd17_moved.npz");
    let shape = [frames, coordinates / 3, 3];
    let indices: Vec<i64> = (0..frames as i64).collect();
    npz::write(
        &file,
        &[
            Array::bytes("nuclear_charges", &base.numbers),
            Array::floats("coords", &shape, &positions),
            Array::floats("energies", &[frames], &energies),
            Array::floats("forces", &shape, &forces),
            Array::integers("old_indices", &indices),
        ],
    );
    let (shards, output) = (workshop().join("moved"), workshop().join("moved.parquet"));
    let input = format!("train={}", file.display());
    ingest(&[&"convert", &"--dataset", &"rmd17", &"--input", &input, &"--output", &shards]).ok();
    let path = format!("dataset.path={}", shards.display());
    train(&[
        &"evaluate",
        &"finetune.toml",
        &"--checkpoint",
        &finetuned(),
        &"--split",
        &"train",
        &"--output",
        &output,
        &"--set",
        &path,
        &"--set",
        &"dataset.val=train",
        &"--set",
        &"run.precision=\"f64\"",
    ])
    .ok();
    let predicted = predictions(&output, "predicted_");
    let ids: Vec<String> = rows(&shards).into_iter().map(|row| row.id).collect();
    let forces = &predicted.forces[&ids[0]];
    let largest = forces.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    assert!(largest > 0.05, "forces of nothing show nothing: {forces:?}");
    for (k, force) in forces.iter().enumerate() {
        let [up, down] = [2 * k + 1, 2 * k + 2].map(|frame| predicted.energy[&ids[frame]]);
        let slope = (up - down) / (2.0 * STEP);
        assert!((force + slope).abs() < 1e-4 * largest, "coordinate {k}: force {force}, −dE/dr {}", -slope);
    }
}

#[test]
fn the_report_is_one_file_with_the_numbers_of_data_and_runs() {
    let page = workshop().join("report.html");
    let (ani1x, run) = (workshop().join("ani1x"), pretrained());
    let arguments: [&dyn AsRef<std::ffi::OsStr>; 6] = [&"stats", &ani1x, &"--run", &run, &"--output", &page];
    Running::start_in(workshop(), "jmp-tools", &arguments).wait().ok();
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("<svg") && html.contains("ani1x"));
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!html.contains(outside), "the page loads something from elsewhere: {outside}");
    }
    let numbers: Value = serde_json::from_slice(&fs::read(page.with_extension("json")).unwrap()).unwrap();
    let manifest = crate::rows::manifest(&ani1x);
    assert_eq!(numbers["datasets"].as_array().unwrap().len(), 1);
    assert_eq!(numbers["datasets"][0]["rows"], manifest["rows"], "{}", numbers["datasets"][0]);
    assert_eq!(numbers["runs"].as_array().unwrap().len(), 1);
}

#[test]
fn a_wrong_configuration_is_refused() {
    let check = |setting: &str, words: &[&str]| {
        let (_, dir) = run_dir("refused");
        train(&[&"pretrain", &"pretrain.toml", &"--set", &dir, &"--set", &setting]).refused(words);
        assert!(!workshop().join("runs/refused").exists());
    };
    check("optimizer.learning_rate=1e-3", &["learning_rate"]);
    check("optimizer.lr=-1.0", &["lr", "above 0"]);
    check("dataset.ani1x.path=\"nowhere\"", &["nowhere"]);
    check("dataset.ani1x.train=\"trian\"", &["trian", "train"]);
    let typo = workshop().join("typo.toml");
    fs::write(&typo, PRETRAIN.replace("temperature", "temprature")).unwrap();
    train(&[&"pretrain", &typo]).refused(&["typo.toml", "temprature"]);
    train(&[&"finetune", &"pretrain.toml", &"--checkpoint", &pretrained()]).refused(&["pretrain"]);
    train(&[&"pretrain", &"absent.toml"]).refused(&["absent.toml"]);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let run = pretrained();
    // A model of another kind.
    train(&[&"evaluate", &"finetune.toml", &"--checkpoint", &run, &"--split", &"test_01"])
        .refused(&["pretrain", "finetune"]);
    // Nothing there.
    train(&[&"finetune", &"finetune.toml", &"--checkpoint", &"runs/nothing"]).refused(&["runs/nothing"]);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("run");
    copy_tree(pretrained(), &copy);
    let weights = copy.join("checkpoints/step-00000030/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for damaged in [&whole[..whole.len() / 2], &[]] {
        fs::write(&weights, damaged).unwrap();
        train(&[&"pretrain", &"--resume", &copy]).refused(&["model.safetensors"]);
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&weights, flipped).unwrap();
    train(&[&"pretrain", &"--resume", &copy]).refused(&["model.safetensors"]);
}
