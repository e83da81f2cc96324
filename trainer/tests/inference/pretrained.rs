//! Weights of other models in fine-tuning: what is taken, kept, refused.

use std::path::PathBuf;

use tch::Device;
use trainer::config::ForceMode;
use trainer::config::sections::Precision;
use trainer::network::{Bias, HeadLayout, Network};
use trainer::pretrained::{Source, take};
use trainer::published::{Options, Weights, import};

fn published() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/published.pt"))
}

#[test]
fn a_published_backbone_is_taken_straight_from_its_file() {
    for weights in [None, Some(Weights::Model)] {
        let model = import(&published(), &Options { weights, ..Options::default() }).unwrap();
        let layout = HeadLayout::Single(ForceMode::Gradient, Bias::Without);
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
    let network = || {
        Network::new(
            &tiny,
            HeadLayout::Single(ForceMode::Gradient, Bias::Without),
            0,
            Precision::F32,
            Device::Cpu,
        )
    };
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
