use tch::{Tensor, nn};

use super::bases::TripletBasis;
use super::{Dense, GemNetConfig, Init, ScaleFactor, shape};
use crate::batch::GraphTensors;
use crate::native;

/// Messages over pairs of edges that meet at an atom:
/// `s_ca = B · Σ_b rad(d_ca)·Y(∠cab) ⊗ D(σ(W x_ba) ⊙ R rbf(d_ba))`, then `(U s_ca + U' s_ac) / √2` on edges or `U s_a`
/// on atoms. Source: GemNet, arXiv:2106.08903, section 5; GemNet-OC, arXiv:2204.02782, section 4.
#[derive(Debug)]
pub(crate) struct TripletInteraction {
    dense_ba: Dense,
    mlp_rbf: Dense,
    scale_rbf: ScaleFactor,
    bilinear: Dense,
    scale_cbf_sum: ScaleFactor,
    down: Dense,
    up: Dense,
    up_reverse: Option<Dense>,
    inner: i64,
    orders: i64,
}

impl TripletInteraction {
    /// From `input` wide messages to `output` wide ones; `symmetric` where the output is an edge.
    pub(crate) fn new(
        path: &nn::Path,
        (input, output): (i64, i64),
        symmetric: bool,
        config: &GemNetConfig,
        init: Init,
    ) -> Self {
        let GemNetConfig { emb_size_trip_in: inner, emb_size_trip_out: outer, emb_size_cbf: cbf, .. } =
            *config;
        let activated = |name: &str, from, to| Dense::activated(&(path / name), from, to, init);
        Self {
            dense_ba: activated("dense_ba", input, input),
            mlp_rbf: Dense::linear(&(path / "mlp_rbf"), config.emb_size_rbf, input, init),
            scale_rbf: ScaleFactor::new(&(path / "scale_rbf")),
            bilinear: Dense::linear(&(path / "mlp_cbf" / "bilinear"), inner * cbf, outer, init),
            scale_cbf_sum: ScaleFactor::new(&(path / "scale_cbf_sum")),
            down: activated("down_projection", input, inner),
            up: activated("up_projection_ca", outer, output),
            up_reverse: symmetric.then(|| activated("up_projection_ac", outer, output)),
            inner,
            orders: config.num_spherical,
        }
    }

    /// Edges into edges: `m [e, m]` to `[e, m]`; `angles` is `[n, k·s, k]`.
    pub(crate) fn edge_to_edge(
        &self,
        m: &Tensor,
        basis: &TripletBasis,
        angles: &Tensor,
        graph: &GraphTensors,
    ) -> Tensor {
        let (n, k) = (graph.atoms, graph.main.width);
        let sent = self.send(m, None, basis);
        let rows = native::gather(&sent, &graph.main.rows).view([n, k, self.inner]);
        self.update(&self.receive(&native::batched(angles, &rows), &sent, basis, graph), graph)
    }

    /// Atoms into edges: `h [n, a]` to `[e, m]`; `angles` is `[n, k, s, w]`.
    pub(crate) fn atom_to_edge(
        &self,
        h: &Tensor,
        basis: &TripletBasis,
        angles: &Tensor,
        graph: &GraphTensors,
    ) -> Tensor {
        let (n, k, w) = (graph.atoms, graph.main.width, graph.atom_edge.width);
        let sent = self.send(h, Some(&graph.atom_edge.source), basis);
        let rows = native::gather(&sent, &graph.atom_edge.rows).view([n, w, self.inner]);
        let sums = native::batched(&angles.view([n, k * self.orders, w]), &rows);
        self.update(&self.receive(&sums, &sent, basis, graph), graph)
    }

    /// Edges into atoms: `m [e, m]` to `[n, a]`; `angles` is `[n, k, s, w]`.
    pub(crate) fn edge_to_atom(
        &self,
        m: &Tensor,
        basis: &TripletBasis,
        angles: &Tensor,
        graph: &GraphTensors,
    ) -> Tensor {
        let (n, k, w) = (graph.atoms, graph.main.width, graph.atom_edge.width);
        let sent = self.send(m, None, basis);
        let rows = native::gather(&sent, &graph.main.rows).view([n, k, self.inner]);
        // Both sums, over main edges and then over the atom's atom-edge edges, are matrix products.
        let sums = native::batched(&angles.view([n, k, self.orders * w]).transpose(1, 2), &rows);
        self.up.forward(&self.combine(&basis.circular, &sums, &sent))
    }

    /// `D(σ(W x)[index] ⊙ R rbf)`: `[.., input]` to `[.., inner]`.
    fn send(&self, x: &Tensor, index: Option<&Tensor>, basis: &TripletBasis) -> Tensor {
        let pre = self.dense_ba.linear_part(x);
        let radial_weight = self.scale_rbf.fold(&self.mlp_rbf.weight);
        if self.scale_rbf.is_watched() {
            let rows = native::activation(&index.map_or(pre.shallow_clone(), |i| native::gather(&pre, i)));
            self.scale_rbf.see(&(&rows * native::linear(&basis.radial, &radial_weight)), &rows);
        }
        let gate = (&basis.radial, &radial_weight);
        native::activation(&native::gated_linear(&pre, index, gate, &self.down.weight, true))
    }

    /// `B · Σ_s rad_ca · sums_ca`: `[n, k·s, inner]` to `[e, outer]`.
    fn receive(&self, sums: &Tensor, sent: &Tensor, basis: &TripletBasis, graph: &GraphTensors) -> Tensor {
        let slots = graph.atoms * graph.main.width;
        let of_edges = native::gather(&sums.view([slots, self.orders * self.inner]), &graph.main.place);
        let of_edges = of_edges.view([graph.edges(), self.orders, self.inner]);
        self.combine(&basis.circular, &of_edges, sent)
    }

    /// The bilinear layer: `[.., cbf, s]` and `[.., s, inner]` to `[.., outer]`.
    fn combine(&self, circular: &Tensor, sums: &Tensor, sent: &Tensor) -> Tensor {
        let weight = self.scale_cbf_sum.fold(&self.bilinear.weight);
        let sum = native::bilinear(circular, sums, &weight);
        shape!(sum, [circular.size()[0], self.bilinear.weight.size()[0]]);
        self.scale_cbf_sum.see(&sum, sent);
        sum
    }

    /// Both directions of an edge share one update.
    fn update(&self, s: &Tensor, graph: &GraphTensors) -> Tensor {
        match &self.up_reverse {
            Some(up) => native::symmetric_update(s, &self.up.weight, &up.weight, &graph.reverse),
            None => self.up.forward(s),
        }
    }

    pub(crate) fn scale_factors(&self) -> [&ScaleFactor; 2] {
        [&self.scale_rbf, &self.scale_cbf_sum]
    }
}
