//! Heads of another model in fine-tuning: kept where they predict the same, on the scale of the new data; else refused.

use std::sync::OnceLock;

use shards::Structure;
use shards::layout::{Layout, Target};
use tch::Tensor;
use trainer::checkpoint::{State, locate, read_info};

use crate::{fresh, molecules, refused, structures, succeeds, workshop};

/// Properties of the datasets `ev` and `mev`, whose column `gap` is the same in eV and in meV.
const PROPERTY: &str = r#"
kind = "finetune"
run = { dir = "gap", seed = 4, device = "cpu", threads = 1, precision = "f64" }
model = { preset = "tiny" }
dataset = { name = "ev", path = "ev", train = "all", cutoff = 8.0, neighbors = 30 }
heads = { target = "gap", pooling = "mean" }
sampling = { batch_size = 8 }
optimizer = { lr = 2e-3, clip = { value = 1.0 }, ema = 0.9 }
schedule = { warmup_epochs = 0 }
stop = { epochs = 1 }
"#;

fn with_properties(name: &str, unit: &str, scale: f64) {
    let target = |name: &str, unit: &str| Target {
        name: name.into(),
        unit: unit.into(),
        meaning: "made up".into(),
        referenced: false,
    };
    let layout = Layout {
        targets: vec![target("gap", unit), target("other", "eV"), target("is_metal", "1")],
        ..molecules::layout()
    };
    let labelled = |(i, structure): (usize, Structure)| {
        let gap = 1.0 + 0.1 * (i % 7) as f64;
        Structure { targets: vec![Some(scale * gap), Some(-gap), Some((i % 2) as f64)], ..structure }
    };
    let all: Vec<Structure> = structures().into_iter().enumerate().map(labelled).collect();
    molecules::write(&workshop().join(name), &layout, &[all], 1);
}

/// The run `gap` with its datasets and `gap.toml`, once.
fn property_run() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        with_properties("ev", "eV", 1.0);
        with_properties("mev", "meV", 1e3);
        with_properties("kcal", "kcal/mol", 23.0);
        std::fs::write(workshop().join("gap.toml"), PROPERTY).unwrap();
        succeeds(&["finetune", "gap.toml", "--scratch"]);
    });
}

#[test]
fn heads_of_a_property_are_kept_with_the_scale_and_unit_of_their_outputs() {
    property_run();
    let origin = locate(&workshop().join("gap"), true).unwrap();
    let theirs = State::read_weights(&origin).unwrap();
    let std = read_info(&origin).unwrap().tasks[0].transform.std;
    let keep = ["--checkpoint", "gap", "--keep-heads", "--weights", "model"];
    let kept = |name: &str, more: &[&str], factor: f64, words: &[&str]| {
        let (told, state) = taken("gap.toml", name, &[&keep[..], more].concat());
        for word in words {
            assert!(told.contains(word), "no `{word}` in {told}");
        }
        for layer in [0, 2, 4, 6] {
            for part in ["weight", "bias"] {
                let name = format!("out_scalar.{layer}.{part}");
                assert!(equal(&state.model[&name], &theirs.model[&name], 1.0), "{name}");
            }
        }
        let last = "out_scalar.8.weight";
        assert!(equal(&state.model[last], &theirs.model[last], factor), "{told}");
    };
    let here = "heads of task `ev` kept (gap, pooling mean, in eV), 9 tensors; outputs times 1.000000";
    kept("gap-same", &[], 1.0, &[here]);
    let half = format!("heads.std={}", 2.0 * std);
    let zero = "their zero is this dataset's now: its mean is 0.500000 eV instead of 1.2";
    kept("gap-half", &["--set", &half, "--set", "heads.mean=0.5"], 0.5, &["outputs times 0.500000", zero]);
    // In meV the scale is a thousand times as large, and so is what the heads say: nothing changes but the words.
    let mev = ["--set", "dataset.path=mev", "--set", "dataset.name=mev"];
    kept("gap-mev", &mev, 1.0, &["in meV), 9 tensors; outputs times 1.000000"]);
    // How errors are told is no difference.
    kept("gap-told", &["--set", "heads.unit=\"meV\""], 1.0, &[here]);
}

#[test]
fn heads_of_something_else_are_refused_with_every_difference() {
    property_run();
    let with = |set: &[&'static str], more: &[&'static str]| {
        let mut words = vec!["finetune", "gap.toml", "--checkpoint", "gap", "--keep-heads"];
        set.iter().for_each(|set| words.extend(["--set", set]));
        words.extend(["--set", "run.dir=never-kept"]);
        words.extend(more);
        words
    };
    let refuses = |set: &[&'static str], words: &[&str]| {
        refused(
            &with(set, &[]),
            &["the heads of task `ev` cannot be kept", "--allow-mismatch, new ones are drawn"],
        );
        refused(&with(set, &[]), words);
    };
    refuses(
        &["heads.target=other", "heads.pooling=max"],
        &["label: expected other, found gap", "heads.pooling: expected max, found mean"],
    );
    refuses(
        &["heads.target=is_metal", "heads.loss={ cross-entropy = 1.0 }"],
        &["heads.loss: expected classes (cross-entropy), found a number (l1)", "unit: expected 1, found eV"],
    );
    refuses(&["dataset.path=kcal"], &["unit: expected kcal/mol, found eV"]);
    let energies =
        ["finetune", "finetune.toml", "--checkpoint", "gap", "--keep-heads", "--set", "run.dir=never-kept"];
    refused(&energies, &["label: expected energy, found gap, pooling mean, in eV"]);
    let property = [
        "finetune",
        "gap.toml",
        "--checkpoint",
        "joint",
        "--keep-heads",
        "other",
        "--set",
        "run.dir=never-kept",
    ];
    refused(&property, &["label: expected gap, pooling mean, in eV, found energy"]);
    assert!(!workshop().join("never-kept").exists());
    // Nor is such a model judged by another task's configuration.
    let words = ["cannot be judged with this configuration", "ev (gap, pooling mean)", "finetune on set"];
    refused(&["evaluate", "finetune.toml", "--checkpoint", "gap"], &words);
    // If so wanted, the rest is taken, and the heads are new.
    let more = ["--checkpoint", "gap", "--keep-heads", "--allow-mismatch", "--set", "heads.pooling=sum"];
    let (told, _) = taken("gap.toml", "gap-drawn", &more);
    let words = "cannot be kept: heads.pooling: expected sum, found mean; they are drawn anew";
    assert!(told.contains(words), "{told}");
}

/// One step of size zero: the run's first weights, as they were taken.
fn taken(config: &str, name: &str, words: &[&str]) -> (String, State) {
    let dir = fresh(name);
    let settings =
        [format!("run.dir={dir}"), "optimizer.lr=1e-300".into(), "optimizer.weight_decay=0".into()];
    let mut arguments = vec!["finetune", config];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let told = succeeds(&[&arguments[..], words].concat());
    (told, State::read_weights(&locate(&workshop().join(dir), false).unwrap()).unwrap())
}

fn equal(one: &Tensor, other: &Tensor, factor: f64) -> bool {
    one.allclose(&(other * factor), 1e-12, 1e-300, false)
}

#[test]
fn heads_are_kept_with_the_scale_of_their_outputs() {
    let origin = locate(&workshop().join("run"), true).unwrap();
    let theirs = State::read_weights(&origin).unwrap();
    let std = read_info(&origin).unwrap().tasks[0].transform.std;
    let twice = format!("dataset.force_rms={}", 2.0 * std);
    let (told, kept) = taken(
        "finetune.toml",
        "kept",
        &["--checkpoint", "run", "--keep-heads", "--weights", "model", "--set", &twice],
    );
    assert!(
        told.contains(
            "heads of task `set` kept (energy), 5 tensors; outputs times 0.500000 to this dataset's scale"
        ),
        "{told}"
    );
    for layer in [0, 2, 4, 6] {
        let name = format!("out_energy.{layer}.weight");
        assert!(equal(&kept.model[&name], &theirs.model[&name], 1.0), "{name}");
    }
    assert!(equal(&kept.model["out_energy.8.weight"], &theirs.model["out_energy.8.weight"], 0.5));
    let (told, drawn) = taken("finetune.toml", "drawn", &["--checkpoint", "run"]);
    assert!(told.contains("the heads begin with random numbers") && !told.contains("kept"), "{told}");
    assert!(!equal(&drawn.model["out_energy.0.weight"], &theirs.ema["out_energy.0.weight"], 1.0));
    let name = "backbone.int_blocks.0.dense_ca.linear.weight";
    // Averaged weights are the default.
    assert!(equal(&drawn.model[name], &theirs.ema[name], 1.0));
    assert!(!equal(&theirs.model[name], &theirs.ema[name], 1.0));
}

#[test]
fn joint_heads_are_kept_by_name_and_what_has_no_place_is_told() {
    let finetune = ["finetune", "finetune.toml", "--checkpoint", "joint", "--set", "run.dir=never"];
    let with = |words: &[&'static str]| [&finetune[..], words].concat();
    // A joint energy head has biases; the fine-tuned one, as published, has none.
    refused(
        &with(&["--keep-heads"]),
        &[
            "heads.bias: expected true for the biases of the other model's energy head, found false",
            "--allow-mismatch",
        ],
    );
    refused(&with(&["--keep-heads", "third"]), &["no heads of a task `third`; there are set, other"]);
    let (told, kept) = taken(
        "finetune.toml",
        "joint-kept",
        &[
            "--checkpoint",
            "joint",
            "--keep-heads",
            "other",
            "--set",
            "heads.bias=true",
            "--set",
            "run.precision=\"f32\"",
        ],
    );
    assert!(told.contains("heads of task `other` kept (energy), 9 tensors"), "{told}");
    assert!(
        told.contains("the head of direct forces of task `other` is not kept: this model has none"),
        "{told}"
    );
    let theirs = State::read_weights(&locate(&workshop().join("joint"), true).unwrap()).unwrap();
    for layer in [0, 2, 4, 6] {
        for part in ["weight", "bias"] {
            let (ours, name) =
                (format!("out_energy.{layer}.{part}"), format!("output.out_energy.1.{layer}.{part}"));
            assert!(kept.model[&ours].equal(&theirs.ema[&name]), "{ours}");
        }
    }
    // Such a head keeps its biases wherever the model is used, and refuses one without.
    let (told, again) = taken(
        "finetune.toml",
        "joint-again",
        &["--checkpoint", "joint-kept", "--keep-heads", "--set", "heads.bias=true"],
    );
    assert!(told.contains("kept (energy), 9 tensors"), "{told}");
    assert!(again.model.contains_key("out_energy.0.bias"));
    refused(
        &[
            "finetune",
            "finetune.toml",
            "--checkpoint",
            "joint-kept",
            "--keep-heads",
            "--set",
            "run.dir=never",
        ],
        &["heads.bias: expected true"],
    );
    let drawn = ["--checkpoint", "joint", "--keep-heads", "other", "--allow-mismatch"];
    let (told, drawn) = taken("finetune.toml", "joint-drawn", &drawn);
    assert!(told.contains("they are drawn anew"), "{told}");
    assert!(!drawn.model.contains_key("out_energy.0.bias"));
    assert!(!workshop().join("never").exists());
}
