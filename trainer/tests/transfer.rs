//! `[transfer]`: what of a pre-trained model is not taken over.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../../shards/tests/molecules/mod.rs"]
mod molecules;

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use trainer::checkpoint::{State, tensors};
use trainer::config::sections::Precision;
use trainer::config::{Config, Source};
use trainer::network::{HeadLayout, Network};
use trainer::plan::RunPlan;
use trainer::pretrained;
use trainer::setup::{self, Start};
use trainer::task::Task;

fn config(folder: &Path, precision: &str, reset: bool) -> Config {
    let text = format!(
        r#"
kind = "finetune"
run = {{ dir = "unused", seed = 11, device = "cpu", precision = "{precision}" }}
model = {{ preset = "tiny" }}
dataset = {{ name = "set", path = "{}", train = "all", cutoff = 4.0, neighbors = 6 }}
transfer = {{ reset_embedding = {reset} }}
sampling = {{ batch_size = 4 }}
optimizer = {{ lr = 1e-3, clip = {{ value = 1.0 }}, ema = 0.9 }}
schedule = {{ warmup_epochs = 0 }}
stop = {{ epochs = 1 }}
"#,
        folder.join("set").display()
    );
    let source = Source::from_text(&folder.join("config.toml"), text, &[]).unwrap();
    Config::from_source(&source).unwrap()
}

/// A learner's tensors before its first step, and what was told.
fn started(config: &Config, start: Start) -> (State, Vec<String>) {
    let tasks = Task::open_all(config).unwrap();
    let plan = RunPlan::new(config, &tasks).unwrap();
    let (learner, _, notes) = setup::learner(config, &tasks, &plan, start, Device::Cpu).unwrap();
    (learner.state(), notes.0)
}

fn equal(one: &Tensor, other: &Tensor) -> bool {
    one.to_kind(Kind::Double).equal(&other.to_kind(Kind::Double))
}

#[test]
fn an_embedding_that_is_reset_is_the_one_that_the_seed_draws() {
    let folder = tempfile::tempdir().unwrap();
    let structures: Vec<_> = (0..8).map(molecules::molecule).collect();
    molecules::write(&folder.path().join("set"), &molecules::layout(), &[structures], 1);
    let section = config(folder.path(), "f32", false).model;
    let network = Network::new(&section, HeadLayout::Joint(4), 99, Precision::F32, Device::Cpu);
    let theirs: BTreeMap<String, Tensor> = network.store().variables().into_iter().collect();
    let file = folder.path().join("joint.safetensors");
    tensors::write(&file, &theirs).unwrap();
    let source = pretrained::Source::at(&file);

    let (ours, embedding) = ("embedding.weight", &theirs["embedding.atom_embedding.weight"]);
    for precision in ["f32", "f64"] {
        let (whole, anew) = (config(folder.path(), precision, false), config(folder.path(), precision, true));
        let (scratch, _) = started(&anew, Start::Scratch);
        let (taken, told) = started(&whole, Start::Pretrained(&source));
        assert!(equal(&taken.model[ours], embedding) && !told.iter().any(|t| t.contains("anew")), "{told:?}");

        let (reset, told) = started(&anew, Start::Pretrained(&source));
        assert!(told.iter().any(|told| told == "the atom embedding begins anew"), "{told:?}");
        assert!(equal(&reset.model[ours], &scratch.model[ours]), "{precision}: not that of the seed");
        let same = reset.model[ours].eq_tensor(&embedding.to_kind(reset.model[ours].kind()));
        assert!(!bool::try_from(same.any()).unwrap(), "{precision}: numbers of the other model");
        // The average begins at the weights as they are then.
        assert!(equal(&reset.ema[ours], &reset.model[ours]));
        let mut count = 0;
        for (name, tensor) in reset.model.iter().filter(|(name, _)| name.as_str() != ours) {
            let is_head = name.starts_with("out_energy.");
            let origin = if is_head { &scratch.model[name] } else { &theirs[name] };
            assert!(equal(tensor, origin), "{precision}: {name}");
            count += usize::from(!is_head);
        }
        assert!(count > 100, "{count} tensors of the backbone");
    }
}
