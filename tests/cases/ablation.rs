//! The published ablation, configs/ablation, whole: two of its rows and all six tasks, on fixtures of every dataset; and an
//! ablation on several ranks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::train;
use crate::programs::{Running, fixture, ingest, program_dir, root};

/// Dataset, fixture, name of the shards that the configurations have, more arguments.
const DATASETS: [(&str, &str, &str, &[&str]); 10] = [
    ("oc20", "oc20/s2ef_pyg2", "oc20", &[]),
    ("oc22", "oc22/s2ef-total", "oc22", &[]),
    ("ani1x", "ani1x/ani1x-release.h5", "ani1x", &[]),
    ("transition1x", "transition1x/transition1x.h5", "transition1x", &[]),
    ("rmd17", "rmd17/rmd17/npz_data/rmd17_salicylic.npz", "rmd17-aspirin", &["--train-total", "40"]),
    ("md22", "md22/md22_stachyose.npz", "stachyose", &["--train-total", "30"]),
    ("qm9", "qm9/pyg_raw/gdb9.sdf", "qm9", &[]),
    ("matbench", "matbench/matbench_mp_e_form.json.gz", "mp_e_form", &[]),
    ("qmof", "qmof/qmof_database", "qmof", &["--train-size", "15"]),
    ("spice", "spice/SPICE.hdf5", "solvated_amino_acids", &["--subset", "solvated-amino-acids"]),
];

const SCALE: &str = r#"
kind = "scale"

[pretrain]
run = { device = "cpu", threads = 1 }
model = { preset = "tiny" }
sampling = { batch_size = 2, accumulate = 1 }
schedule = { epochs = 1, warmup_steps = 2, max_steps = 2 }
validation = { max_structures = 2 }

[[pretrain.dataset]]
name = "oc20"
train = "all"
val = "all"
cutoff = 5.0
neighbors = 8

[[pretrain.dataset]]
name = "oc22"
train = "train"
cutoff = 5.0
neighbors = 8

[[pretrain.dataset]]
name = "ani1x"
train = "train"
cutoff = 5.0
neighbors = 8

[[pretrain.dataset]]
name = "transition1x"
train = "train"
cutoff = 5.0
neighbors = 8

[finetune]
run = { device = "cpu", threads = 1 }
model = { preset = "tiny" }
dataset = { train = "cpu", cutoff = 5.0, neighbors = 8 }
sampling = { batch_size = 2 }
validation = { max_structures = 2 }
stop = { epochs = 1, max_steps = 2 }
"#;

/// A folder with the shards that the configurations name, each fine-tuning set with a split `cpu`.
fn workshop() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ablation");
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    fs::create_dir_all(&dir).unwrap();
    for (dataset, input, name, more) in DATASETS {
        let (input, output) = (fixture(input), dir.join("shards").join(name));
        let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"convert", &"--dataset", &dataset, &"--input", &input, &"--output", &output];
        words.extend(more.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        ingest(&words).ok();
        if ["oc20", "oc22", "ani1x", "transition1x"].contains(&name) {
            continue;
        }
        let from = if dataset == "matbench" { "fold0_train" } else { "train" };
        ingest(&[&"split", &output, &"--from", &from, &"--random", &"0", &"--sizes", &"cpu=4"]).ok();
    }
    fs::write(dir.join("fixtures.toml"), SCALE).unwrap();
    dir
}

/// The task's configuration, the dataset's name in it, its split, and where its error stands in an evaluation.
const TASKS: [(&str, &str, &str, &str); 6] = [
    ("aspirin", "aspirin", "test", "/force_mae"),
    ("stachyose", "stachyose", "test", "/force_mae"),
    ("delta-epsilon", "qm9", "test", "/scalar/mae"),
    ("mp-e-form", "mp_e_form", "fold0_test", "/scalar/mae"),
    ("band-gap", "qmof", "test", "/scalar/mae"),
    ("solvated-amino-acids", "solvated_amino_acids", "test", "/force_mae"),
];

#[test]
fn rows_of_the_published_ablation_are_judged_on_all_six_tasks() {
    let (dir, configs) = (workshop(), root().join("configs/ablation"));
    let words: [&dyn AsRef<std::ffi::OsStr>; 9] = [
        &"ablate",
        &configs,
        &"--scale",
        &"fixtures.toml",
        &"--only",
        &"dropout",
        &"--output",
        &"ablated",
        &"--json",
    ];
    let told = Running::start_in(&dir, "jmp-train", &words).wait().ok().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    let error = |row: &str, (task, dataset, split, place): (&str, &str, &str, &str)| {
        let file = dir.join(format!("ablated/{row}/{task}/evaluation-{split}.json"));
        let report: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        report["tasks"][dataset].pointer(place).unwrap().as_f64().unwrap()
    };
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["row"].as_str().unwrap()).collect::<Vec<_>>(), ["base", "dropout"]);
    let mut sum = 0.0;
    for (index, task) in TASKS.into_iter().enumerate() {
        let (base, better) = (error("base", task), error("dropout", task));
        let told = &rows[1]["tasks"][index];
        assert_eq!((&told["task"], &told["error"]), (&task.0.into(), &better.into()), "{told}");
        let want = 100.0 * (base - better) / base;
        assert!((told["relative_improvement"].as_f64().unwrap() - want).abs() < 1e-9, "{told}");
        sum += want;
    }
    assert!((rows[1]["mean_relative_improvement"].as_f64().unwrap() - sum / 6.0).abs() < 1e-9);
    assert!(sum != 0.0, "rows of different methods give the same errors");
    let table = fs::read_to_string(dir.join("ablated/table.md")).unwrap();
    for words in ["MD17 aspirin", "QM9 Δε (mae)", "| 11.40 | 11.41 |", "SPICE solvated amino acids"] {
        assert!(table.contains(words), "no `{words}` in\n{table}");
    }
}

/// One row and one task at a size that takes seconds, beside the configurations that they extend.
fn miniature() -> PathBuf {
    let dir = train::workshop().join("ablation-of-ranks");
    fs::create_dir_all(&dir).unwrap();
    for (name, text) in [
        ("base.toml", "extends = \"../pretrain.toml\"\n"),
        ("task.toml", "extends = \"../finetune.toml\"\n"),
        (
            "ablation.toml",
            "kind = \"ablation\"\n[[row]]\nconfig = \"base.toml\"\nlabel = \"B\"\n\
             [[task]]\nconfig = \"task.toml\"\nlabel = \"ethanol\"\nmetric = \"force_mae\"\nsplit = \"val\"\n",
        ),
        (
            "small.toml",
            "kind = \"scale\"\n[pretrain.schedule]\nepochs = 2\nmax_steps = 100\n\
             [finetune.dataset]\ntrain = \"val\"\n",
        ),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    dir
}

#[test]
fn an_ablation_on_two_ranks_passes_signals_on_and_goes_on() {
    let folder = miniature();
    let (scale, output) = (folder.join("small.toml"), train::workshop().join("ablated-by-ranks"));
    let words: [&dyn AsRef<std::ffi::OsStr>; 9] =
        [&"ablate", &folder, &"--scale", &scale, &"--output", &output, &"--ranks", &"2", &"--json"];
    let start = || Running::start_in(train::workshop(), "jmp-train", &words);
    let (pretrained, mut running) = (output.join("base/pretrain"), start());
    let (begin, first) = (Instant::now(), pretrained.join("checkpoints/step-00000000/state.json"));
    while !first.exists() {
        assert!(running.runs(), "it ended before the first checkpoint");
        assert!(begin.elapsed() < Duration::from_mins(10), "no checkpoint after ten minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("TERM");
    let ended = running.wait().stopped(1, &["stopped; the same command with --output", "ablated-by-ranks"]);
    assert!(ended.stdout.is_empty(), "{ended:#?}");
    let records = |run: &Path, kind: &str| -> Vec<Value> {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == kind).collect()
    };
    assert_eq!(records(&pretrained, "finished")[0]["ending"], "signal");
    assert!(!output.join("base/task").exists(), "it did not stop");
    let told: Value = serde_json::from_str(&start().wait().ok().stdout).unwrap();
    for (run, sessions) in [(&pretrained, 2), (&output.join("base/task"), 1)] {
        let ranks: Vec<_> = records(run, "session").iter().map(|session| session["ranks"].as_u64()).collect();
        assert_eq!(ranks, vec![Some(2); sessions], "{}", run.display());
        assert_ne!(records(run, "finished").last().unwrap()["ending"], "signal");
    }
    let report = fs::read_to_string(output.join("base/task/evaluation-val.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let error = &report["tasks"]["ethanol"]["force_mae"];
    assert!(error.as_f64().is_some_and(|error| error > 0.0), "{report}");
    assert_eq!(&told["rows"][0]["tasks"][0]["error"], error, "{told}");
}

#[test]
fn one_rank_of_several_does_not_ablate() {
    let home = tempfile::tempdir().unwrap();
    let torchrun =
        [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500")];
    let srun = [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2"), ("SLURM_JOB_NODELIST", "localhost")];
    for (variables, rank) in [(&torchrun[..], "found rank 0 of 2"), (&srun[..], "found rank 1 of 2")] {
        let mut command = Command::new(program_dir().join("jmp-train"));
        command.current_dir(home.path()).envs(variables.iter().copied()).arg("ablate");
        command.arg(root().join("configs/ablation")).args(["--scale", "cpu", "--output", "ablated"]);
        let done = command.output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{told}");
        for words in [rank, "each of which would write the same files", "--ranks N"] {
            assert!(told.contains(words), "no `{words}` in: {told}");
        }
        assert!(!home.path().join("ablated").exists(), "something was left behind");
    }
}
