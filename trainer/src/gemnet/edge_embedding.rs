use tch::{Tensor, nn};

use super::{Init, shape};
use crate::batch::GraphTensors;
use crate::native;

/// `m_ca = σ(W [h_c ‖ h_a ‖ f_ca])`, evaluated as `σ(W_s h_c + W_t h_a + W_f f_ca)`: the atoms' parts on atoms, which
/// are fewer than edges.
#[derive(Debug)]
pub(crate) struct EdgeEmbedding {
    weight: Tensor,
    atom: i64,
}

impl EdgeEmbedding {
    /// `dense.linear.weight [out, 2·atom + features]` under `path`.
    pub(crate) fn new(path: &nn::Path, atom: i64, features: i64, out: i64, init: Init) -> Self {
        let weight = init.weight(&(path / "dense" / "linear"), "weight", &[out, 2 * atom + features]);
        Self { weight, atom }
    }

    /// Atoms `[n, a]` and edge features `[e, f]` to `[e, out]`.
    pub(crate) fn forward(&self, h: &Tensor, features: &Tensor, graph: &GraphTensors) -> Tensor {
        let parts = self.weight.split_with_sizes([self.atom, self.atom, features.size()[1]], 1);
        let on_edges = native::linear(features, &parts[2]);
        let [of_source, of_target] = [0, 1].map(|i| native::linear(h, &parts[i]));
        let main = &graph.main;
        let m = native::edge_sum(&on_edges, (&of_source, &main.source), (&of_target, &main.target));
        shape!(m, [graph.edges(), self.weight.size()[0]]);
        m
    }
}
