use tch::{Tensor, nn};

use super::{Dense, GemNetConfig, Init, ScaleFactor, shape};
use crate::batch::GraphTensors;
use crate::native;

/// Messages between atoms: `h_a = U B Σ_b rbf(d_ba) ⊗ D h_b` over up to 1000 neighbours.
/// Source: GemNet-OC, arXiv:2204.02782, section 4.
#[derive(Debug)]
pub(crate) struct PairInteraction {
    bilinear: Dense,
    scale_rbf_sum: ScaleFactor,
    down: Dense,
    up: Dense,
}

impl PairInteraction {
    pub(crate) fn new(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let GemNetConfig { emb_size_aint_in: inner, emb_size_aint_out: outer, emb_size_atom: atom, .. } =
            *config;
        Self {
            bilinear: Dense::linear(&(path / "bilinear"), inner * config.emb_size_rbf, outer, init),
            scale_rbf_sum: ScaleFactor::new(&(path / "scale_rbf_sum")),
            down: Dense::activated(&(path / "down_projection"), atom, inner, init),
            up: Dense::activated(&(path / "up_projection"), outer, atom, init),
        }
    }

    /// `h [n, a]` and the embedded basis `[n, rbf, width]` of atom pairs to `[n, a]`.
    pub(crate) fn forward(&self, h: &Tensor, radial: &Tensor, graph: &GraphTensors) -> Tensor {
        let index = &graph.atom_atom;
        let sent = self.down.forward(h);
        let (n, rbf, inner) = (graph.atoms, radial.size()[1], sent.size()[1]);
        let rows = native::gather(&sent, &index.row_source).view([n, index.width, inner]);
        let received = native::batched(radial, &rows);
        shape!(received, [n, rbf, inner]);
        let weight = self.scale_rbf_sum.fold(&self.bilinear.weight);
        let sum = native::linear(&received.view([n, rbf * inner]), &weight);
        self.scale_rbf_sum.see(&sum, &sent);
        self.up.forward(&sum)
    }

    pub(crate) fn scale_factor(&self) -> &ScaleFactor {
        &self.scale_rbf_sum
    }
}
