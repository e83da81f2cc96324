//! Blocks that run again in the backward pass give the numbers of blocks that keep their activations.

use std::collections::BTreeMap;

use tch::Kind;

use crate::model::{Model, crystal, molecule, numbers};

type Gradients = BTreeMap<String, Vec<f64>>;

fn outputs_and_gradients(recompute: bool) -> (Vec<f64>, Vec<f64>, Gradients) {
    let mut model = Model::new(Kind::Double);
    model.backbone = model.backbone.recomputing(recompute);
    let batch = model.batch(&[molecule(), crystal(), molecule()], &[0, 1, 0]);
    let h = model.embedding.forward(&batch.atomic_numbers);
    let prediction = model.heads.forward(&model.backbone.forward(&h, &batch, true), &batch);
    (prediction.energy.sum(Kind::Double) + prediction.forces.square().sum(Kind::Double)).backward();
    let trained = model.store.variables().into_iter().filter(|(_, tensor)| tensor.grad().defined());
    let gradients = trained.map(|(name, tensor)| (name, numbers(&tensor.grad()))).collect();
    (numbers(&prediction.energy), numbers(&prediction.forces), gradients)
}

#[test]
fn recomputed_blocks_change_no_number() {
    let (energy, forces, gradients) = outputs_and_gradients(false);
    let again = outputs_and_gradients(true);
    assert_eq!((&energy, &forces), (&again.0, &again.1));
    assert!(gradients.len() > 100, "{}", gradients.len());
    assert_eq!(gradients.keys().collect::<Vec<_>>(), again.2.keys().collect::<Vec<_>>());
    for (name, wanted) in &gradients {
        let largest = wanted.iter().fold(1e-12, |max: f64, x| max.max(x.abs()));
        // Gradients of shared tensors are added in another order.
        let off = wanted.iter().zip(&again.2[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= 1e-12 * largest, "{name}: off by {off} of {largest}");
    }
}
