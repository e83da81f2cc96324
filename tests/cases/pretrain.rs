//! What pre-training does beside learning: signals, guards, watching, ablations.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::train::{pretrained, run_dir, steps, tensors, train, workshop};
use crate::programs::Running;

/// A pre-training run of thirty steps that has begun.
fn begun(name: &str, more: &[&str]) -> (PathBuf, Running) {
    let (dir, setting) = run_dir(name);
    let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"pretrain", &"pretrain.toml", &"--set", &setting];
    for word in more {
        words.push(&"--set");
        words.push(word);
    }
    let mut running = Running::start_in(workshop(), "jmp-train", &words);
    let (started, first) = (Instant::now(), dir.join("checkpoints/step-00000000/state.json"));
    while !first.exists() {
        assert!(running.runs(), "it ended before its first checkpoint");
        assert!(started.elapsed() < Duration::from_mins(10), "no checkpoint after ten minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    (dir, running)
}

#[test]
fn a_signal_in_the_middle_of_a_step_stops_the_run_and_nothing_is_lost() {
    // One step is all of the epoch: a signal can only come before it or in the middle of it.
    let whole = ["sampling.accumulate=1000", "checkpoint.every_steps=1"];
    let (dir, running) = begun("terminated", &whole);
    running.signal("TERM");
    let ended = running.wait().stopped(1, &[]);
    assert!(ended.stdout.contains("stopped by a signal") && ended.stdout.contains("--resume"), "{ended:#?}");
    assert!(!dir.join("checkpoints/step-00000001").exists(), "it was stopped too late to show anything");
    train(&[&"pretrain", &"--resume", &dir]).ok();
    let (again, setting) = run_dir("not-terminated");
    let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"pretrain", &"pretrain.toml", &"--set", &setting];
    for word in &whole {
        words.push(&"--set");
        words.push(word);
    }
    train(&words).ok();
    assert!(tensors(&dir, "step-00000001") == tensors(&again, "step-00000001"), "the tensors differ");
    assert_eq!(steps(&dir), steps(&again));
}

#[test]
fn a_run_that_is_asked_to_save_goes_on_to_the_same_bits() {
    let (dir, running) = begun("asked-to-save", &["checkpoint.every_steps=1000"]);
    let saved = || {
        let names = fs::read_dir(dir.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("step-")).count()
    };
    running.signal("USR1");
    running.wait().ok();
    // Step 0, the one asked for, the last one; the request may have come before the first step.
    assert!(saved() >= 2, "{} checkpoints", saved());
    let log = fs::read_to_string(dir.join("train.log")).unwrap();
    assert!(log.matches("checkpoint ").count() >= 3, "{log}");
    assert!(tensors(&dir, "step-00000030") == tensors(pretrained(), "step-00000030"), "the tensors differ");
}

/// Rates that throw the weights out of any range with the first step.
const TOO_FAST: [&str; 2] = ["optimizer.lr=1e30", "schedule.warmup_steps=0"];

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_is_reproduced() {
    let (dir, setting) = run_dir("diverged");
    let [rate, schedule] = TOO_FAST;
    let ended =
        train(&[&"pretrain", &"pretrain.toml", &"--set", &setting, &"--set", &rate, &"--set", &schedule]);
    let ended = ended.stopped(1, &["the run stopped", "step 1: the", "structures of the batch: ", "replay"]);
    let kept = dir.join("failures/step-00000001");
    assert!(ended.stderr.contains(&kept.display().to_string()), "{ended:#?}");
    let told: Value = serde_json::from_str(&train(&[&"replay", &kept, &"--json"]).ok().stdout).unwrap();
    assert_eq!(told["reproduced"], true, "{told}");
    assert_eq!(told["step"], 1);
    let text = train(&[&"replay", &kept]).ok().stdout;
    assert!(text.contains("not finite") && text.ends_with("reproduced\n"), "{text}");
    // The batch is protected as the weights are.
    let file = kept.join("batch.json");
    let content = fs::read_to_string(&file).unwrap();
    fs::write(&file, content.replacen('1', "2", 1)).unwrap();
    train(&[&"replay", &kept]).refused(&["batch.json", "was changed or cut"]);
    train(&[&"replay", &dir]).refused(&["no batch.json here", "failures/step-N"]);
}

#[test]
fn steps_that_are_not_finite_are_skipped_as_often_as_allowed() {
    let (dir, setting) = run_dir("skipping");
    let [rate, schedule] = TOO_FAST;
    train(&[
        &"pretrain",
        &"pretrain.toml",
        &"--set",
        &setting,
        &"--set",
        &rate,
        &"--set",
        &schedule,
        &"--set",
        &"guard.non_finite=skip",
        &"--set",
        &"guard.max_skips=3",
    ])
    .stopped(1, &["guard.max_skips = 3 are used up", "step 4: the"]);
    let log = fs::read_to_string(dir.join("train.log")).unwrap();
    assert_eq!(log.matches(" skipped: ").count(), 3, "{log}");
    assert_eq!(steps(&dir).len(), 1);
    assert!(dir.join("failures/step-00000003/batch.json").is_file());
}

/// The scalars of a run's event files by hand: (step, tag, value).
fn event_bytes(run: &Path) -> usize {
    let files = fs::read_dir(run.join("tensorboard")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len() as usize).sum()
}

#[test]
fn event_files_are_written_unless_they_are_not_wanted() {
    // Thirty steps of at least ten values each; tests/python reads them with TensorBoard.
    assert!(event_bytes(pretrained()) > 30 * 10 * 8);
    let (dir, setting) = run_dir("unwatched");
    let settings = ["schedule.max_steps=1", "run.tensorboard=false"];
    train(&[
        &"pretrain",
        &"pretrain.toml",
        &"--set",
        &setting,
        &"--set",
        &settings[0],
        &"--set",
        &settings[1],
    ])
    .ok();
    assert!(!dir.join("tensorboard").exists());
    train(&[&"pretrain", &"pretrain.toml", &"--set", &"run.prometheus=0.0.0.0:9464"])
        .refused(&["`run.prometheus`: expected an address of this machine alone"]);
}

/// Two rows and one task at a size that takes seconds.
fn ablation() -> PathBuf {
    let dir = workshop().join("ablation");
    fs::create_dir_all(dir.join("scales")).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("base.toml", "extends = \"../pretrain.toml\"\nwithout = [\"optimizer.ema\"]\n");
    write("better.toml", "extends = \"base.toml\"\n[optimizer]\nema = 0.9\n");
    write("task.toml", "extends = \"../finetune.toml\"\n");
    write(
        "ablation.toml",
        "kind = \"ablation\"\n[[row]]\nconfig = \"base.toml\"\nlabel = \"B\"\ntable_6 = 0.0\n\
         [[row]]\nconfig = \"better.toml\"\nlabel = \"EMA\"\n\
         [[task]]\nconfig = \"task.toml\"\nlabel = \"ethanol\"\nmetric = \"force_mae\"\nsplit = \"val\"\n",
    );
    write(
        "scales/small.toml",
        "kind = \"scale\"\n[pretrain.schedule]\nmax_steps = 4\n[finetune.dataset]\ntrain = \"val\"\n\
         [[pretrain.dataset]]\nname = \"absent\"\npath = \"nowhere\"\n",
    );
    dir
}

#[test]
fn an_ablation_is_run_compared_and_continued() {
    let (folder, output) = (ablation(), workshop().join("ablated"));
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"ablate", &folder, &"--scale", &"small", &"--output", &output, &"--json"];
    let told: Value = serde_json::from_str(&train(&words).ok().stdout).unwrap();
    let error = |row: &str| {
        let file = output.join(row).join("task/evaluation-val.json");
        let report: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        report["tasks"]["ethanol"]["force_mae"].as_f64().unwrap()
    };
    let (base, better) = (error("base"), error("better"));
    assert!(base != better, "rows of different methods give one error");
    let rows = &told["rows"];
    assert_eq!(rows[0]["mean_relative_improvement"], 0.0);
    let want = 100.0 * (base - better) / base;
    assert!((rows[1]["mean_relative_improvement"].as_f64().unwrap() - want).abs() < 1e-9);
    // Nothing is run again; a row cut short goes on.
    let weights = output.join("better/task/checkpoints");
    let before = fs::metadata(&weights).unwrap().modified().unwrap();
    fs::remove_file(output.join("better/task/evaluation-val.json")).unwrap();
    let again: Value = serde_json::from_str(&train(&words).ok().stdout).unwrap();
    assert_eq!(again, told);
    assert_eq!(fs::metadata(&weights).unwrap().modified().unwrap(), before);
    assert!(fs::read_to_string(output.join("table.md")).unwrap().contains("| EMA |"));
    // Another scale needs another folder.
    train(&[&"ablate", &folder, &"--scale", &"paper", &"--output", &output])
        .refused(&["a run that was begun with others"]);
    train(&[&"ablate", &folder, &"--scale", &"tiny", &"--output", &output]).refused(&["scales/tiny.toml"]);
    train(&[&"ablate", &folder, &"--scale", &"small", &"--output", &output, &"--only", &"worse"]).refused(&[
        "--only",
        "base, better",
        "worse",
    ]);
}
