//! Every fine-tuning configuration on a fixture of its dataset with a tiny model; freezing and sweeps.

mod choices;
mod failed_points;
mod recomputed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use serde_json::Value;

use crate::programs::{Ended, Running, fixture, ingest, root, tree};

/// Folder of this file's datasets and runs, made afresh by each run of the tests.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("finetune");
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        dir
    })
}

/// A fixture converted, once; always with the same options.
fn shards(dataset: &str, input: &str, options: &[&str]) -> PathBuf {
    static CONVERTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let dir = workshop().join(input.replace(['/', '.'], "-"));
    let mut converted = CONVERTED.lock().unwrap();
    if !converted.insert(dir.clone()) {
        return dir;
    }
    let (input, output) = (fixture(input), dir.clone());
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
        vec![&"convert", &"--dataset", &dataset, &"--input", &input, &"--output", &output];
    arguments.extend(options.iter().map(|option| option as &dyn AsRef<std::ffi::OsStr>));
    ingest(&arguments).ok();
    dir
}

fn matbench(task: &str) -> PathBuf {
    shards("matbench", &format!("matbench/matbench_{task}.json.gz"), &[])
}

fn rmd17(molecule: &str) -> PathBuf {
    shards("rmd17", &format!("rmd17/rmd17/npz_data/rmd17_{molecule}.npz"), &["--train-total", "40"])
}

fn md22(molecule: &str) -> PathBuf {
    shards("md22", &format!("md22/md22_{molecule}.npz"), &["--train-total", "30"])
}

fn train(arguments: &[String]) -> Ended {
    let arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
        arguments.iter().map(|argument| argument as &dyn AsRef<std::ffi::OsStr>).collect();
    Running::start_in(workshop(), "jmp-train", &arguments).wait()
}

/// A call for a template: two steps of a tiny model on `data` in the directory `run`.
fn call(command: &str, template: &str, data: &Path, run: &Path, more: &[&str]) -> Vec<String> {
    let config = root().join("configs/finetune").join(template).display().to_string();
    let settings = [
        "model.preset=tiny".to_owned(),
        "run.device=cpu".to_owned(),
        "run.threads=1".to_owned(),
        "sampling.batch_size=2".to_owned(),
        "stop.max_steps=2".to_owned(),
        format!("dataset.path={}", data.display()),
        format!("run.dir={}", run.display()),
    ];
    let mut arguments = vec![command.to_owned(), config];
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    arguments.extend(settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]));
    arguments
}

fn metrics(run: &Path, kind: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).collect()
}

/// Trains for two steps what `more` chooses of a configuration.
fn two_steps(template: &str, data: &Path, run: &Path, more: &[&str]) {
    train(&call("finetune", template, data, run, &[&["--scratch"][..], more].concat())).ok();
    let steps = metrics(run, "train");
    assert_eq!(steps.len(), 2, "{template} {more:?}");
    assert!(steps.iter().all(|step| step["loss"].as_f64().is_some_and(f64::is_finite)));
    assert_eq!(metrics(run, "validation").len(), 1, "{template} {more:?}");
}

/// Trains each task of a template for two steps.
fn runs_every_task(template: &str, tasks: &[&str], data: impl Fn(&str) -> PathBuf) {
    for task in tasks {
        let run = workshop().join(format!("runs-{template}-{task}"));
        two_steps(template, &data(task), &run, &["--task", task]);
    }
}

fn every_task(template: &str, count: usize, data: impl Fn(&str) -> PathBuf) {
    let names = choices::names(template, "task", &[]);
    assert_eq!(names.len(), count, "{names:?}");
    runs_every_task(template, &names.iter().map(String::as_str).collect::<Vec<_>>(), data);
}

fn evaluate(task: &str, run: &Path, more: &[&str]) -> Ended {
    let of = run.display().to_string();
    let mut arguments = vec!["--task", task, "--checkpoint", &of, "--json"];
    arguments.extend(more);
    train(&call("evaluate", "matbench.toml", &matbench(task), run, &arguments))
}

#[test]
fn every_task_of_qm9_runs() {
    let data = shards("qm9", "qm9/pyg_raw/gdb9.sdf", &[]);
    every_task("qm9.toml", 12, |_| data.clone());
    choices::every_choice("qm9.toml", "U_0", &data);
}

#[test]
fn every_task_of_matbench_runs() {
    every_task("matbench.toml", 9, matbench);
    choices::every_choice("matbench.toml", "jdft2d", &matbench("jdft2d"));
}

#[test]
fn qmof_runs() {
    let data = shards("qmof", "qmof/qmof_database", &["--train-size", "15"]);
    every_task("qmof.toml", 1, |_| data.clone());
    choices::every_choice("qmof.toml", "band_gap", &data);
}

#[test]
fn every_molecule_of_rmd17_runs() {
    // Molecules without a fixture of their own have another's frames.
    let data = rmd17("salicylic");
    every_task("rmd17.toml", 10, |task| if task == "ethanol" { rmd17(task) } else { data.clone() });
    let run = workshop().join("runs-few-shot");
    let few = ["--scratch", "--task", "salicylic", "--variant", "few-shot"];
    // The fixture has fewer than fifty structures to train on.
    let mut arguments = call("finetune", "rmd17.toml", &data, &run, &few);
    assert!(!data.join("splits/few_shot_50.parquet").exists());
    train(&arguments).refused(&["few_shot_50"]);
    ingest(&[&"split", &data, &"--from", &"train", &"--random", &"0", &"--sizes", &"few_shot_50=5"]).ok();
    train(&arguments).ok();
    arguments[1] = run.join("config.toml").display().to_string();
    let resolved = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(resolved.contains("train = \"few_shot_50\"") && !resolved.contains("[tasks"), "{resolved}");
    choices::every_choice("rmd17.toml", "salicylic", &data);
}

#[test]
fn the_configurations_of_ethanol_alone_run() {
    for file in ["rmd17-ethanol.toml", "rmd17-ethanol-cpu.toml"] {
        two_steps(file, &rmd17("ethanol"), &workshop().join(format!("runs-{file}")), &[]);
    }
}

#[test]
fn every_molecule_of_md22_runs() {
    let data = md22("AT-AT");
    every_task("md22.toml", 7, |task| if task == "stachyose" { md22(task) } else { data.clone() });
    choices::every_choice("md22.toml", "stachyose", &md22("stachyose"));
    // Forces by a head of their own, and an energy head that was never trained: nothing is told of energies.
    let run = workshop().join("runs-md22.toml-buckyball-catcher");
    let of = run.display().to_string();
    let arguments = ["--task", "buckyball-catcher", "--checkpoint", &of, "--json"];
    let told = train(&call("evaluate", "md22.toml", &data, &run, &arguments)).ok();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let errors = &told["tasks"]["buckyball-catcher"];
    assert!(errors["force_mae"].is_f64() && errors["energy_mae"].is_null(), "{errors}");
    // With gradients the energies are known up to a constant.
    let run = workshop().join("runs-md22.toml-AT-AT");
    let of = run.display().to_string();
    let arguments = ["--task", "AT-AT", "--checkpoint", &of, "--split", "val"];
    let told = train(&call("evaluate", "md22.toml", &data, &run, &arguments)).ok();
    assert!(told.stdout.contains("shifted: only forces were learnt"), "{}", told.stdout);
}

#[test]
fn every_subset_of_spice_runs() {
    let data = |subset: &str| shards("spice", &format!("spice/{subset}.h5"), &[]);
    every_task("spice.toml", 2, data);
    choices::every_choice("spice.toml", "dipeptides", &data("dipeptides"));
}

/// The template for a user's own data, on an extended XYZ file written here.
#[test]
fn own_data_runs_from_extended_xyz() {
    let mut text = String::new();
    for frame in 0..20 {
        let (x, f) = (0.9 + 0.01 * f64::from(frame), 0.1 * f64::from(frame % 5 - 2));
        write!(
            text,
            "3\nProperties=species:S:1:pos:R:3:forces:R:3 energy={} gap={} is_metal={}\n\
             O 0 0 0 {} 0 0\nH {x} 0 0 {f} 0 0\nH -0.2 0.9 0 0 {f} 0\n",
            -14.0 - f,
            1.0 + 0.1 * x,
            frame % 2,
            -f
        )
        .unwrap();
    }
    let (file, data) = (workshop().join("mine.extxyz"), workshop().join("mine"));
    fs::write(&file, text).unwrap();
    let targets = ["gap=eV", "is_metal=1"];
    ingest(&[
        &"convert",
        &"--dataset",
        &"extxyz",
        &"--input",
        &file,
        &"--output",
        &data,
        &"--name",
        &"mine",
        &"--target",
        &targets[0],
        &targets[1],
    ])
    .ok();
    ingest(&[&"split", &data, &"--random", &"42", &"--sizes", &"train=80%,val=10%,test=10%"]).ok();
    every_task("own-data.toml", 4, |_| data.clone());
}

/// The tensors of a safetensors file, byte by byte.
fn tensors(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let table: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let of = |entry: &Value| {
        let offset = |i: usize| 8 + header + entry["data_offsets"][i].as_u64().unwrap() as usize;
        bytes[offset(0)..offset(1)].to_vec()
    };
    let named = table.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    named.map(|(name, entry)| (name.clone(), of(entry))).collect()
}

#[test]
fn frozen_tensors_stay_as_they_are() {
    let (run, data) = (workshop().join("frozen"), matbench("dielectric"));
    let freeze = "transfer.freeze=[\"embedding\", \"backbone.int_blocks.0\"]";
    let more = ["--scratch", "--task", "dielectric", "--set", freeze, "--set", "checkpoint.keep=9"];
    train(&call("finetune", "matbench.toml", &data, &run, &more)).ok();
    let at = |step: u32| tensors(&run.join(format!("checkpoints/step-{step:08}/model.safetensors")));
    let (before, after) = (at(0), at(2));
    let is_frozen = |name: &str| name.starts_with("embedding.") || name.starts_with("backbone.int_blocks.0.");
    let (mut frozen, mut moved) = (0, 0);
    for (name, tensor) in &before {
        if is_frozen(name) {
            frozen += 1;
            assert!(after[name] == *tensor, "{name} moved");
        } else {
            moved += usize::from(after[name] != *tensor);
        }
    }
    assert!(frozen > 10 && moved > 10, "{frozen} {moved}");
    let evaluated = evaluate("dielectric", &run, &[]).ok();
    assert!(evaluated.stdout.contains("\"mae\""));
    let other = workshop().join("frozen-nothing");
    let more = ["--scratch", "--task", "dielectric", "--set", "transfer.freeze=[\"backbone.blocks\"]"];
    train(&call("finetune", "matbench.toml", &data, &other, &more))
        .refused(&["transfer.freeze", "none matches"]);
}

#[test]
fn a_property_that_is_not_there_is_refused_with_those_that_are() {
    let (run, data) = (workshop().join("refused"), matbench("phonons"));
    let refused = |set: &str, words: &[&str]| {
        let more = ["--scratch", "--task", "phonons", "--set", set];
        train(&call("finetune", "matbench.toml", &data, &run, &more)).refused(words);
    };
    refused("heads.target=phdos", &["phdos", "last_phdos_peak"]);
    refused("heads.unit=meV", &["last_phdos_peak", "heads.unit = \"cm⁻¹\" or \"mcm⁻¹\"", "\"meV\""]);
    refused("heads.forces=gradient", &["heads.forces", "none"]);
    refused("heads.loss={ cross-entropy = 1.0 }", &["0 and 1", "last_phdos_peak"]);
    refused("dataset.train=fold7_train", &["fold7_train"]);
}

#[test]
fn a_sweep_goes_on_where_it_was_and_ranks_its_points() {
    let (dir, data) = (workshop().join("sweep"), matbench("log_gvrh"));
    let place = dir.display().to_string();
    let over = "optimizer.lr=[1e-3, 1e-5]";
    let kept = ["--set", "checkpoint.every_steps=1", "--set", "checkpoint.keep=9"];
    let more =
        [&["--scratch", "--task", "log_gvrh", "--dir", &place, "--over", over, "--json"][..], &kept].concat();
    let mut arguments = call("sweep", "matbench.toml", &data, Path::new("unused"), &more);
    // Each point has a directory of its own.
    let unused = arguments.iter().position(|a| a.starts_with("run.dir=")).unwrap();
    arguments.drain(unused - 1..=unused);
    let table = |ended: Ended| -> Vec<Value> {
        ended.ok().stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let first = table(train(&arguments));
    let best = |row: &Value| row["best"]["metric"].as_f64().unwrap();
    assert_eq!(first.len(), 2);
    assert!(best(&first[0]) < best(&first[1]));
    let runs = ["optimizer.lr=0.001", "optimizer.lr=0.00001"].map(|name| dir.join(name));
    assert!(
        runs.iter().all(|run| run.join("metrics.jsonl").exists()),
        "{:?}",
        tree(&dir).iter().map(|f| &f.0).collect::<Vec<_>>()
    );
    // One point is lost, then one was left before its end: both are made again, and alike.
    let log = || fs::read_to_string(runs[0].join("train.log")).unwrap();
    let before = log();
    fs::remove_dir_all(&runs[1]).unwrap();
    let second = table(train(&arguments));
    assert_eq!(log(), before, "a finished point ran again");
    let numbers =
        |rows: &[Value]| rows.iter().map(|r| (r["run"].clone(), r["best"].clone())).collect::<Vec<_>>();
    assert_eq!(numbers(&first), numbers(&second));
    fs::remove_dir_all(runs[0].join("checkpoints/step-00000002")).unwrap();
    let records = fs::read_to_string(runs[0].join("metrics.jsonl")).unwrap();
    let begun: String =
        records.split_inclusive('\n').filter(|line| !line.contains("\"kind\":\"finished\"")).collect();
    assert!(begun.len() < records.len());
    fs::write(runs[0].join("metrics.jsonl"), begun).unwrap();
    let third = table(train(&arguments));
    assert_eq!(numbers(&first), numbers(&third));
    assert!(log().starts_with(&before) && log().contains("resumed at step 1"), "{}", log());
    // Another configuration under the same name is another sweep.
    let changed = [&arguments[..], &["--set".to_owned(), "optimizer.ema=0.5".to_owned()]].concat();
    train(&changed)
        .refused(&["holds another sweep (point optimizer.lr=0.00", "`optimizer.ema` was 0.99, is 0.5"]);
    arguments.extend(["--over".to_owned(), "run.seed=[1, 2]".to_owned()]);
    train(&arguments).refused(&["holds another sweep"]);
}
