//! Import of files in the published checkpoints' layout (made with PyTorch by tests/fixtures/make/make_checkpoint.py from
//! the goldens' fill rule), export, and files of scale factors.

#![allow(clippy::unwrap_used, reason = "a failed read fails the test")]

#[allow(dead_code, reason = "parts are used by the other golden tests only")]
#[path = "../golden/case.rs"]
mod case;
#[allow(dead_code, reason = "whole networks are filled by the other golden tests")]
#[path = "../golden/fill.rs"]
mod fill;
#[path = "../../../shards/tests/molecules/mod.rs"]
mod molecules;
#[allow(dead_code, reason = "shapes are looked at by the other golden tests")]
#[path = "../golden/npz.rs"]
mod npz;

mod data;
mod program;
mod round_trip;
mod scale_files;
mod shapes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tch::{Kind, Tensor};
use trainer::checkpoint::State;
use trainer::published::{Options, Weights, import};

fn fixture(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint")).join(name);
    assert!(path.exists(), "no fixture {}", path.display());
    path
}

fn goldens() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/gemnet"))
}

/// What the rule gives for a tensor, rounded once to single precision; `prefix` is put before the name in the seed.
fn filled(name: &str, shape: &[i64], prefix: &str) -> Tensor {
    let n = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = if name.ends_with(".scale_factor") {
        let u = fill::uniform(name).next().unwrap();
        vec![(fill::scale_base(name) * (0.75 + 0.5 * u)) as f32]
    } else if name.ends_with("rbf.offset") {
        return Tensor::linspace(0.0, 1.0, shape[0], (Kind::Float, tch::Device::Cpu));
    } else if name.ends_with("rbf.temps") {
        vec![0.5 * (shape[0] - 1).pow(2) as f32; n]
    } else {
        let width = fill::width(name, shape);
        fill::centred(&format!("{prefix}{name}")).take(n).map(|v| (v * width) as f32).collect()
    };
    Tensor::from_slice(&values).view(shape)
}

fn assert_filled(model: &BTreeMap<String, Tensor>, prefix: &str) {
    for (name, tensor) in model {
        assert_eq!(tensor.kind(), Kind::Float, "{name}");
        assert!(tensor.equal(&filled(name, &tensor.size(), prefix)), "{name} is not what the rule gives");
    }
}

/// The fixture's tensors, of the last step or averaged.
fn imported(weights: Weights) -> BTreeMap<String, Tensor> {
    let options = Options { weights: Some(weights), ..Options::default() };
    let State { model, ema, .. } = import(&fixture("published.pt"), &options).unwrap().state;
    assert!(ema.is_empty());
    model
}

#[test]
fn both_sets_of_weights_are_read_to_the_bit() {
    let (last, averaged) = (imported(Weights::Model), imported(Weights::Ema));
    // 268 names, of which 13 are second ones.
    assert_eq!((last.len(), averaged.len()), (255, 255));
    assert_filled(&last, "");
    assert_filled(&averaged, "ema:");
}

#[test]
fn averaged_weights_are_taken_by_default_and_the_report_counts() {
    let report = import(&fixture("published.pt"), &Options::default()).unwrap().report;
    assert_eq!(report.weights, Weights::Ema);
    assert_eq!(report.parameters, 9790);
    assert_eq!(report.step, Some(1234));
    assert_eq!(report.fitted_scale_factors, 28);
    assert_eq!(report.tasks, ["oc20", "oc22", "ani1x", "transition1x"]);
    let [ignored] = report.ignored.as_slice() else { panic!("{:?}", report.ignored) };
    assert_eq!(ignored.names.len(), 13);
    assert!(ignored.names.iter().all(|n| n.contains("seq_energy_pre") || n.contains(".rbf.")));
    let mut table = Vec::new();
    report.write(&mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    for line in ["backbone", "28 of 28 fitted", "averaged over training (EMA)", "9,790 parameters"] {
        assert!(table.contains(line), "{table}");
    }
    let none =
        import(&fixture("ema_short.pt"), &Options { weights: Some(Weights::Model), ..Options::default() });
    assert!(none.unwrap().report.tasks.is_empty(), "a file without heads has no tasks");
}
