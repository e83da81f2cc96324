//! Activations in 16 bits: close to single precision, with finite gradients in the weights' own width.

use tch::Kind;

use crate::model::{Model, crystal, molecule, numbers};

fn energies_and_gradients(activations: Kind) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut model = Model::new(Kind::Float);
    model.backbone = model.backbone.computing_in(activations);
    let batch = model.batch(&[molecule(), crystal(), molecule()], &[0, 1, 0]);
    let h = model.embedding.forward(&batch.atomic_numbers);
    let prediction = model.heads.forward(&model.backbone.forward(&h, &batch, true), &batch);
    assert_eq!((prediction.energy.kind(), prediction.forces.kind()), (Kind::Float, Kind::Float));
    (prediction.energy.sum(Kind::Float) + prediction.forces.square().sum(Kind::Float)).backward();
    let used = |name: &str| name.starts_with("backbone.") || name.starts_with("output.");
    let mut variables: Vec<_> =
        model.store.variables().into_iter().filter(|(n, t)| used(n) && t.requires_grad()).collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    let gradients = variables.iter().flat_map(|(name, tensor)| {
        assert_eq!(tensor.grad().kind(), Kind::Float, "{name}");
        numbers(&tensor.grad())
    });
    (numbers(&prediction.energy), numbers(&prediction.forces), gradients.collect())
}

/// Relative L2 distance.
fn distance(found: &[f64], wanted: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(wanted).map(|(f, w)| f - w)) / norm(&mut wanted.iter().copied())
}

/// bfloat16 has 8 significant bits, 16-bit floats have 11: after some thirty layers a few times that is left.
#[test]
fn sixteen_bits_stay_close_to_single_precision() {
    let wanted = energies_and_gradients(Kind::Float);
    for (kind, tolerance) in [(Kind::BFloat16, 0.05), (Kind::Half, 0.006)] {
        let found = energies_and_gradients(kind);
        let off =
            [distance(&found.0, &wanted.0), distance(&found.1, &wanted.1), distance(&found.2, &wanted.2)];
        assert!(off.iter().all(|d| *d < tolerance), "{kind:?}: {off:?}");
        // Not the same numbers, or nothing was computed in 16 bits.
        assert!(off.iter().all(|d| *d > 1e-5), "{kind:?}: {off:?}");
    }
}
