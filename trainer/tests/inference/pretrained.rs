//! Weights of other models in fine-tuning: what is taken, kept, refused.

use std::path::PathBuf;

use tch::{Device, Tensor};
use trainer::checkpoint::{State, locate, read_info};
use trainer::config::ForceMode;
use trainer::config::sections::Precision;
use trainer::network::{HeadLayout, Network};
use trainer::pretrained::{Source, take};
use trainer::published::{Options, Weights, import};

use crate::{fresh, refused, succeeds, workshop};

fn published() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/published.pt"))
}

#[test]
fn a_published_backbone_is_taken_straight_from_its_file() {
    for weights in [None, Some(Weights::Model)] {
        let model = import(&published(), &Options { weights, ..Options::default() }).unwrap();
        let layout = HeadLayout::Single(ForceMode::Gradient);
        let network = Network::new(&model.report.model, layout, 0, Precision::F32, Device::Cpu);
        let fresh_head = network.store().variables()["out_energy.0.weight"].copy();
        let notes = take(&network, None, &Source { weights, ..Source::at(&published()) }).unwrap();
        assert!(notes[0].contains("published.pt (step 1234, 4 tasks)"), "{notes:?}");
        let variables = network.store().variables();
        let theirs = &model.state.model;
        assert!(variables["embedding.weight"].equal(&theirs["embedding.atom_embedding.weight"]));
        let backbone = variables.iter().filter(|(name, _)| name.starts_with("backbone."));
        assert!(backbone.clone().count() > 100);
        assert!(backbone.into_iter().all(|(name, tensor)| tensor.equal(&theirs[name])));
        assert!(variables["out_energy.0.weight"].equal(&fresh_head));
    }
}

#[test]
fn another_size_is_refused_tensor_by_tensor() {
    let tiny = trainer::config::model::ModelSection::of(&trainer::gemnet::GemNetConfig::tiny()).unwrap();
    let network =
        || Network::new(&tiny, HeadLayout::Single(ForceMode::Gradient), 0, Precision::F32, Device::Cpu);
    let message = take(&network(), None, &Source::at(&published())).unwrap_err().to_string();
    for words in
        ["published.pt: does not match", "expected shape", "in all", "--allow-mismatch", "blocks, atoms 6"]
    {
        assert!(message.contains(words), "no `{words}` in {message}");
    }
    let source = Source { allow_mismatch: true, ..Source::at(&published()) };
    let notes = take(&network(), None, &source).unwrap();
    assert!(
        notes.iter().any(|n| n.starts_with("left as it is: tensor `embedding.weight`: expected shape")),
        "{notes:?}"
    );
}

/// One step of size zero: the run's first weights, as they were taken.
fn taken(name: &str, words: &[&str]) -> (String, State) {
    let dir = fresh(name);
    let settings =
        [format!("run.dir={dir}"), "optimizer.lr=1e-300".into(), "optimizer.weight_decay=0".into()];
    let mut arguments = vec!["finetune", "finetune.toml"];
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
    let (told, kept) =
        taken("kept", &["--checkpoint", "run", "--keep-heads", "--weights", "model", "--set", &twice]);
    assert!(told.contains("heads of task `set` kept, 5 tensors; outputs times 0.500000"), "{told}");
    for layer in [0, 2, 4, 6] {
        let name = format!("out_energy.{layer}.weight");
        assert!(equal(&kept.model[&name], &theirs.model[&name], 1.0), "{name}");
    }
    assert!(equal(&kept.model["out_energy.8.weight"], &theirs.model["out_energy.8.weight"], 0.5));
    let (told, drawn) = taken("drawn", &["--checkpoint", "run"]);
    assert!(!told.contains("kept"), "{told}");
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
        &["output.out_energy.0.0.bias", "no place in this model", "--allow-mismatch"],
    );
    refused(&with(&["--keep-heads", "third"]), &["no heads of a task `third`; there are set, other"]);
    let (told, kept) = taken(
        "joint-kept",
        &[
            "--checkpoint",
            "joint",
            "--keep-heads",
            "other",
            "--allow-mismatch",
            "--set",
            "run.precision=\"f32\"",
        ],
    );
    assert!(told.contains("heads of task `other` kept, 5 tensors"), "{told}");
    assert!(told.contains("left as it is: tensor `output.out_energy.1.0.bias`"), "{told}");
    let theirs = State::read_weights(&locate(&workshop().join("joint"), true).unwrap()).unwrap();
    assert!(kept.model["out_energy.2.weight"].equal(&theirs.ema["output.out_energy.1.2.weight"]));
    assert!(!workshop().join("never").exists());
}
