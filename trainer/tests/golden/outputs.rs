//! Embeddings, energies, forces, loss and gradients of the network.

use std::collections::BTreeMap;

use shards::graph::GraphBatch;
use tch::{Device, Kind, Tensor, nn};
use trainer::batch::{Batch, TaskRows};
use trainer::gemnet::{Backbone, GemNetConfig, Init, Stage};
use trainer::heads::{AtomEmbedding, EnergyHead, PretrainHeads, gradient_forces};

use crate::case::Case;
use crate::fill;

/// Everything that a golden file may name, by that name.
type Values = BTreeMap<String, Vec<f64>>;

pub(crate) fn check(case: &Case, kind: Kind) -> Vec<String> {
    let values = compute(case, kind);
    let mut failures = Vec::new();
    let mut report = Vec::new();
    for (name, want) in &case.arrays {
        let Some(tolerance) = tolerance(case, name, kind) else { continue };
        let Some(got) = values.get(name) else { panic!("{name} was not computed") };
        if want.data.iter().any(|v| v.is_nan()) {
            // The reference's own second derivatives fail at exactly colinear atoms; ours must not.
            if !got.iter().all(|v| v.is_finite()) {
                failures.push(format!("{name}: not finite"));
            }
            continue;
        }
        assert_eq!(got.len(), want.data.len(), "{name}: number of values");
        let largest = want.data.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
        let error = want.data.iter().zip(got).fold(0.0, |max: f64, (w, g)| {
            let e = (w - g).abs();
            if e.is_nan() { f64::INFINITY } else { max.max(e) }
        });
        let vanishing = if kind == Kind::Double { 1e-10 } else { 1e-5 };
        report.push(format!("{name} {:.1e}", error / largest.max(1e-300)));
        if error > tolerance * largest && error > vanishing {
            failures.push(format!(
                "{name}: off by {:.2e} of {largest:.3e}, allowed {tolerance:e}",
                error / largest
            ));
        }
    }
    eprintln!("{} {kind:?}: {}", case.name, report.join(", "));
    failures
}

/// Largest error over largest value; `None` for what is not an output of the network.
fn tolerance(case: &Case, name: &str, kind: Kind) -> Option<f64> {
    let outputs = ["energy", "forces", "loss", "x_E", "x_F", "h.", "m."];
    if !(name.starts_with("grad") || outputs.iter().any(|o| name.starts_with(o))) {
        return None;
    }
    let derivative = name == "grad.pos" || (name == "forces" && !case.pretraining());
    Some(match (kind, case.colinear()) {
        (Kind::Double, false) => 1e-9,
        (Kind::Double, true) if derivative => 1e-6,
        (Kind::Double, true) if name == "energy" => 1e-9,
        (Kind::Double, true) => 1e-8,
        (_, false) if name == "energy" => 1e-5,
        (_, false) => 1e-4,
        (_, true) if name == "energy" => 1e-4,
        (_, true) => 1e-3,
    })
}

fn compute(case: &Case, kind: Kind) -> Values {
    let mut config = match case.size() {
        "tiny" => GemNetConfig::tiny(),
        "small" => GemNetConfig::small(),
        _ => GemNetConfig::large(),
    };
    config.direct_forces = case.pretraining();
    let mut store = nn::VarStore::new(Device::Cpu);
    store.set_kind(kind);
    let root = store.root();
    let embedding = &root / "embedding";
    let embedding = if case.pretraining() { &embedding / "atom_embedding" } else { embedding };
    let embedding = AtomEmbedding::new(&embedding, &config);
    let backbone = Backbone::with_init(&(&root / "backbone"), &config, Init::Zeros);
    let graph = GraphBatch::collate(&case.graphs);
    let task = vec![0; case.graphs.len()];
    let mut batch = Batch::unlabelled(&case.positions, &case.numbers, &task, &graph, (kind, Device::Cpu));
    batch.positions = batch.positions.set_requires_grad(true);

    let mut values = Values::new();
    let columns = case.get("x_E").map_or(0, |x_e| x_e.shape[1] as i64);
    let (energy, forces) = if case.pretraining() {
        let heads = PretrainHeads::new(&(&root / "output"), 4, &config);
        fill::fill(&store);
        let embeddings = watched(&backbone, &embedding, &batch, columns, &mut values);
        let mut columns = (Vec::new(), Vec::new());
        for task in 0..4 {
            batch.tasks = vec![TaskRows { task, atoms: None, edges: None }];
            let prediction = heads.forward(&embeddings, &batch);
            columns.0.push(prediction.energy);
            columns.1.push(prediction.forces);
        }
        (Tensor::stack(&columns.0, -1), Tensor::stack(&columns.1, -1))
    } else {
        let head = EnergyHead::new(&(&root / "out_energy"), &config, false);
        fill::fill(&store);
        let embeddings = watched(&backbone, &embedding, &batch, columns, &mut values);
        let energy = head.forward(&embeddings, &batch);
        let forces = gradient_forces(&energy, &batch, true);
        (energy, forces)
    };
    let loss = energy.sum(kind) + forces.square().sum(kind);
    loss.backward();
    values.insert("energy".into(), numbers(&energy));
    values.insert("forces".into(), numbers(&forces));
    values.insert("loss".into(), numbers(&loss));
    values.insert("grad.pos".into(), numbers(&batch.positions.grad()));
    for (name, tensor) in store.variables() {
        if case.get(&format!("gradprobe.{name}")).is_some() {
            let gradient = numbers(&tensor.grad());
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let probe =
                gradient.iter().zip(fill::centred(&format!("probe:{name}"))).map(|(g, p)| g * p).sum();
            values.insert(format!("gradprobe.{name}"), vec![norm, probe]);
            values.insert(format!("grad.{name}"), gradient);
        }
    }
    values
}

/// A forward pass that notes the embeddings on its way; of large files only the first columns are stored.
fn watched(
    backbone: &Backbone,
    embedding: &AtomEmbedding,
    batch: &Batch,
    columns: i64,
    values: &mut Values,
) -> trainer::gemnet::Embeddings {
    let blocks = backbone.config().num_blocks as usize;
    let h = embedding.forward(&batch.atomic_numbers);
    let mut notes = Vec::new();
    let embeddings = backbone.forward_watched(&h, batch, false, |stage, h, m| match stage {
        Stage::Embedded => notes.push(("m.init".to_string(), numbers(m))),
        Stage::Block(i) => {
            notes.push((format!("h.block{i}"), numbers(h)));
            notes.push((format!("m.block{i}"), numbers(m)));
            if i + 1 == blocks {
                notes.push(("h.final".into(), numbers(&h.narrow(1, 0, columns))));
                notes.push(("m.final".into(), numbers(m)));
            }
        }
    });
    values.extend(notes);
    values.insert("x_E".into(), numbers(&embeddings.atoms.narrow(1, 0, columns)));
    if let Some(edges) = &embeddings.edges {
        values.insert("x_F".into(), numbers(edges));
    }
    embeddings
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}
