use tch::{Tensor, nn};

use super::dense::{Dropout, chain, residuals};
use super::{Dense, GemNetConfig, Init, Residual, ScaleFactor, shape};
use crate::batch::GraphTensors;
use crate::native;

/// `h_a = MLP(Σ_c m_ca ⊙ R rbf(d_ca))`: edges summed at their target.
#[derive(Debug)]
pub(crate) struct AtomUpdate {
    dense_rbf: Dense,
    scale_sum: ScaleFactor,
    first: Option<Dense>,
    rest: Vec<Residual>,
}

impl AtomUpdate {
    /// Names `dense_rbf`, `scale_sum` and `layers` under `path`.
    pub(crate) fn new(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let GemNetConfig { emb_size_atom: atom, emb_size_edge: edge, .. } = *config;
        let layers = path / "layers";
        let first = (atom != edge).then(|| Dense::activated(&(&layers / 0), edge, atom, init));
        let begin = i64::from(first.is_some());
        Self {
            dense_rbf: Dense::linear(&(path / "dense_rbf"), config.emb_size_rbf, edge, init),
            scale_sum: ScaleFactor::new(&(path / "scale_sum")),
            first,
            rest: residuals(&layers, begin, config.num_atom, atom, init),
        }
    }

    /// `m [e, m]` and the embedded basis `[e, rbf]` to `[n, a]`; the sum is multiplied by `factor`.
    pub(crate) fn forward(
        &self,
        m: &Tensor,
        radial: &Tensor,
        graph: &GraphTensors,
        factor: f64,
        dropout: Dropout,
    ) -> Tensor {
        let weight = self.scale_sum.fold(&self.dense_rbf.weight);
        let mut sum = native::gated_sum(m, (radial, &weight), &graph.main.target, graph.atoms);
        shape!(sum, [graph.atoms, m.size()[1]]);
        if factor != 1.0 {
            sum *= factor;
        }
        self.scale_sum.see(&sum, m);
        let h = self.first.as_ref().map_or(sum.shallow_clone(), |first| first.forward(&sum));
        chain(&self.rest, h, dropout)
    }

    pub(crate) fn scale_factor(&self) -> &ScaleFactor {
        &self.scale_sum
    }
}
