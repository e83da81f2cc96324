use std::f64::consts::FRAC_1_SQRT_2;

use tch::{Tensor, nn};

use super::bases::QuadrupletBasis;
use super::{Dense, GemNetConfig, Init, ScaleFactor, shape};
use crate::batch::GraphTensors;
use crate::native;

/// Messages over chains `c→a←b←d`:
/// `s_ca = B · Σ_b Σ_d sbf(d_ca, ∠cab, θ_cabd) ⊗ (C cbf(d_ba, ∠abd)) ⊙ D(σ(W m_db) ⊙ R rbf(d_db))`.
///
/// The spherical basis is a product `Y(∠cab)·Y(θ_cabd)` of which only the second factor depends on `d`: so the inner
/// sum runs over the rows of one quadruplet edge, the outer over the few quadruplet edges of a receiving edge.
/// Source: GemNet, arXiv:2106.08903, section 5; GemNet-OC, arXiv:2204.02782, section 4.
#[derive(Debug)]
pub(crate) struct QuadrupletInteraction {
    dense_db: Dense,
    mlp_rbf: Dense,
    scale_rbf: ScaleFactor,
    mlp_cbf: Dense,
    scale_cbf: ScaleFactor,
    bilinear: Dense,
    scale_sbf_sum: ScaleFactor,
    down: Dense,
    up: Dense,
    up_reverse: Dense,
    inner: i64,
    orders: i64,
}

impl QuadrupletInteraction {
    pub(crate) fn new(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let GemNetConfig { emb_size_quad_in: inner, emb_size_quad_out: outer, emb_size_edge: edge, .. } =
            *config;
        let activated = |name: &str, from, to| Dense::activated(&(path / name), from, to, init);
        let linear = |path: nn::Path, from, to| Dense::linear(&path, from, to, init);
        Self {
            dense_db: activated("dense_db", edge, edge),
            mlp_rbf: linear(path / "mlp_rbf", config.emb_size_rbf, edge),
            scale_rbf: ScaleFactor::new(&(path / "scale_rbf")),
            mlp_cbf: linear(path / "mlp_cbf", config.emb_size_cbf, inner),
            scale_cbf: ScaleFactor::new(&(path / "scale_cbf")),
            bilinear: linear(path / "mlp_sbf" / "bilinear", inner * config.emb_size_sbf, outer),
            scale_sbf_sum: ScaleFactor::new(&(path / "scale_sbf_sum")),
            down: activated("down_projection", edge, inner),
            up: activated("up_projection_ca", outer, edge),
            up_reverse: activated("up_projection_ac", outer, edge),
            inner,
            orders: config.num_spherical,
        }
    }

    /// Adds the messages to edges: `x [e, m]` plus the update of `m [e, m]`.
    pub(crate) fn add_to(
        &self,
        x: &Tensor,
        m: &Tensor,
        basis: &QuadrupletBasis,
        graph: &GraphTensors,
    ) -> Tensor {
        let (c, s, k) = (self.inner, self.orders, graph.main.width);
        let index = &graph.quadruplet;
        let (q, z, edges) = (index.edges.source.size()[0], index.edges.width, index.receiving.size()[0]);

        // Gate and narrow on edges, then spread over the rows d→b of each quadruplet edge.
        let m_db = native::gather(&self.send(m, basis), &index.input_rows).view([q, k, c]);
        let circular = basis.circular.view([q * k, basis.circular.size()[2]]);
        let gate = native::linear(&circular, &self.scale_cbf.fold(&self.mlp_cbf.weight));
        let m_dba = &m_db * gate.view([q, k, c]);
        self.scale_cbf.see(&m_dba.view([q * k, c]), &m_db.view([q * k, c]));

        // Σ_d of each (b→a, c→a), then Σ_b of each c→a.
        let over_d = native::batched(&basis.dihedral, &m_dba).view([q * k, s * c]);
        let of_edges = native::gather(&over_d, &index.receiving_place).view([edges, z, s * c]);
        let over_b = native::batched(&basis.angle, &of_edges).view([edges, s * s, c]);

        // Only receiving edges have a message; all others would get exactly zero.
        let weight = self.scale_sbf_sum.fold(&self.bilinear.weight);
        let s_ca = native::bilinear(&basis.spherical, &over_b, &weight);
        shape!(s_ca, [edges, weight.size()[0]]);
        self.scale_sbf_sum.see(&s_ca, &m_dba.view([q * k, c]));
        x.index_add(0, &index.receiving, &(self.up.forward(&s_ca) * FRAC_1_SQRT_2)).index_add(
            0,
            &index.receiving_reverse,
            &(self.up_reverse.forward(&s_ca) * FRAC_1_SQRT_2),
        )
    }

    /// `D(σ(W m) ⊙ R rbf)`: `[e, m]` to `[e, inner]`.
    fn send(&self, m: &Tensor, basis: &QuadrupletBasis) -> Tensor {
        let pre = self.dense_db.linear_part(m);
        let radial_weight = self.scale_rbf.fold(&self.mlp_rbf.weight);
        if self.scale_rbf.is_watched() {
            let rows = native::activation(&pre);
            self.scale_rbf.see(&(&rows * native::linear(&basis.radial, &radial_weight)), &rows);
        }
        let gate = (&basis.radial, &radial_weight);
        native::activation(&native::gated_linear(&pre, None, gate, &self.down.weight, true))
    }

    pub(crate) fn scale_factors(&self) -> [&ScaleFactor; 3] {
        [&self.scale_rbf, &self.scale_cbf, &self.scale_sbf_sum]
    }
}
