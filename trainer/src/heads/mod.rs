//! From embeddings to predictions. Names of parameters equal the reference's.
//!
//! - [`PretrainHeads`]: one energy and one force network a task, each evaluated only for its own structures
//! - [`EnergyHead`], [`ForceHead`]: fine-tuning on energies and forces
//! - [`ScalarHead`]: fine-tuning on one property of a structure
//! - [`gradient_forces`]: forces as the energy's derivative

mod finetune;
mod gradient;
mod mlp;
mod pretrain;

pub use finetune::{EnergyHead, ForceHead, Pooling, ScalarHead};
pub use gradient::gradient_forces;
pub use mlp::{AtomEmbedding, HeadMlp};
pub use pretrain::{Prediction, PretrainHeads};

use tch::Tensor;

use crate::batch::Batch;

/// Sum over the atoms of each structure: `[n]` to `[g]`.
pub(crate) fn sum_atoms(per_atom: &Tensor, batch: &Batch) -> Tensor {
    Tensor::zeros([batch.structures], (per_atom.kind(), per_atom.device())).index_add(
        0,
        &batch.structure,
        per_atom,
    )
}

/// `F_a = Σ_c f_ca V_ca`: edge scalars `[e]` and unit vectors `[e, 3]` to `[n, 3]`.
pub(crate) fn sum_edges(per_edge: &Tensor, vectors: &Tensor, target: &Tensor, atoms: i64) -> Tensor {
    Tensor::zeros([atoms, 3], (per_edge.kind(), per_edge.device())).index_add(
        0,
        target,
        &(per_edge.unsqueeze(1) * vectors),
    )
}
