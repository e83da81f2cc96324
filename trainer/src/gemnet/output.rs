use tch::{Tensor, nn};

use super::atom_update::AtomUpdate;
use super::dense::{Dropout, chain, residuals};
use super::{Dense, GemNetConfig, Init, Residual, ScaleFactor};
use crate::batch::GraphTensors;
use crate::native;

/// What one block contributes to the outputs: `x_E = MLP((MLP(Σ m ⊙ R rbf) + h)/√2)` on atoms and, for direct forces,
/// `x_F = MLP(m) ⊙ R_F rbf` on edges.
#[derive(Debug)]
pub(crate) struct OutputBlock {
    update: AtomUpdate,
    after_atom: Vec<Residual>,
    forces: Option<ForceBranch>,
}

#[derive(Debug)]
struct ForceBranch {
    layers: Vec<Residual>,
    dense_rbf: Dense,
    scale_rbf: ScaleFactor,
}

/// A block's edges `x [e, m]`, to be gated by `radial Rᵀ` with `R [m, rbf]`.
#[derive(Debug)]
pub(crate) struct EdgeOutput {
    pub(crate) x: Tensor,
    pub(crate) radial_weight: Tensor,
}

impl OutputBlock {
    pub(crate) fn new(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let GemNetConfig { emb_size_atom: atom, emb_size_edge: edge, .. } = *config;
        let forces = config.direct_forces.then(|| ForceBranch {
            layers: residuals(&(path / "seq_forces"), 0, config.num_atom, edge, init),
            dense_rbf: Dense::linear(&(path / "dense_rbf_F"), config.emb_size_rbf, edge, init),
            scale_rbf: ScaleFactor::new(&(path / "scale_rbf_F")),
        });
        Self {
            update: AtomUpdate::new(path, config, init),
            after_atom: residuals(&(path / "seq_energy2"), 0, config.num_output_afteratom, atom, init),
            forces,
        }
    }

    /// `h [n, a]`, `m [e, m]` and the embedded basis `[e, rbf]` to `[n, a]` and, with direct forces, what forces are made
    /// of.
    pub(crate) fn forward(
        &self,
        (h, m): (&Tensor, &Tensor),
        radial: &Tensor,
        graph: &GraphTensors,
        factor: f64,
        dropout: Dropout,
    ) -> (Tensor, Option<EdgeOutput>) {
        let mut atoms = self.update.forward(m, radial, graph, factor, dropout);
        if !self.after_atom.is_empty() {
            atoms = chain(&self.after_atom, native::half_sum(&atoms, h), dropout);
        }
        let edges = self.forces.as_ref().map(|branch| {
            let x = chain(&branch.layers, m.shallow_clone(), dropout);
            let radial_weight = branch.scale_rbf.fold(&branch.dense_rbf.weight);
            if branch.scale_rbf.is_watched() {
                branch.scale_rbf.see(&(&x * native::linear(radial, &radial_weight)), &x);
            }
            EdgeOutput { x, radial_weight }
        });
        (atoms, edges)
    }

    pub(crate) fn scale_factors(&self) -> impl Iterator<Item = &ScaleFactor> {
        [self.update.scale_factor()].into_iter().chain(self.forces.as_ref().map(|branch| &branch.scale_rbf))
    }
}
