use tch::Tensor;

use crate::batch::Batch;

/// Forces `−∂ΣE/∂r` `[n, 3]` from energies `[g]`, in the network's precision.
///
/// `batch.positions` must have required a gradient before the forward pass. With `train` the result can be
/// differentiated again, for a loss on forces.
pub fn gradient_forces(energy: &Tensor, batch: &Batch, train: bool) -> Tensor {
    let total = energy.sum(energy.kind());
    let gradient = Tensor::run_backward(&[total], &[&batch.positions], train, train);
    -gradient[0].to_kind(batch.graph.kind)
}
