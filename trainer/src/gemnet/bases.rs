use tch::{Tensor, nn};

use super::angular::harmonics;
use super::geometry::Geometry;
use super::radial::RadialBasis;
use super::{Dense, GemNetConfig, Init, shape};
use crate::batch::GraphTensors;
use crate::native;

/// Embedding of radial functions times angular functions: a weight `[r, s, c]` read as `[r, c, s]`.
///
/// The reference multiplies the weight flattened to `[r, s·c]` and views the product as `[e, c, s]`; the weight's two
/// last dimensions so exchange their meaning without being transposed, and checkpoints depend on it.
#[derive(Debug)]
struct BasisEmbedding {
    weight: Tensor,
    embedding: i64,
    orders: i64,
}

impl BasisEmbedding {
    fn new(path: &nn::Path, radial: i64, orders: i64, embedding: i64, init: Init) -> Self {
        Self { weight: init.weight(path, "weight", &[radial, orders, embedding]), embedding, orders }
    }

    /// `[e, r]` to `[e, c, s]`.
    fn forward(&self, radial: &Tensor) -> Tensor {
        let flat = self.weight.view([self.weight.size()[0], self.orders * self.embedding]);
        radial.matmul(&flat).view([radial.size()[0], self.embedding, self.orders])
    }
}

/// What the interactions read of the quadruplet geometry.
#[derive(Debug)]
pub(crate) struct QuadrupletBasis {
    /// Radial embedding of `d→b` `[e, rbf]`.
    pub(crate) radial: Tensor,
    /// Circular embedding of `d→b→a` `[q, k, cbf]`.
    pub(crate) circular: Tensor,
    /// Radial part of the spherical embedding of receiving edges `[x, sbf, s²]`.
    pub(crate) spherical: Tensor,
    /// `Y(∠cab)` `[x, s, z]`.
    pub(crate) angle: Tensor,
    /// `Y(dihedral)` `[q, k·s, k]`, zero for chains that visit an atom twice.
    pub(crate) dihedral: Tensor,
}

/// Radial and angular factors of a triplet interaction.
#[derive(Debug)]
pub(crate) struct TripletBasis {
    /// Radial embedding of the sending edge `[e or u, rbf]`.
    pub(crate) radial: Tensor,
    /// Radial part of the circular embedding: of the receiving edge `[e, cbf, s]`, or for edge-atom in rows
    /// `[n, cbf, s·w]`.
    pub(crate) circular: Tensor,
}

/// All embedded bases of a batch, shared by the blocks.
#[derive(Debug)]
pub(crate) struct BasisValues {
    /// Raw radial basis of main edges `[e, r]`.
    pub(crate) main: Tensor,
    pub(crate) triplet: TripletBasis,
    /// `Y(∠cab)` among main edges `[n, k·s, k]`.
    pub(crate) main_main: Tensor,
    pub(crate) atom_edge: Option<TripletBasis>,
    pub(crate) edge_atom: Option<TripletBasis>,
    /// `Y(∠cab)` between main and atom-edge edges `[n, k, s, w]`.
    pub(crate) main_atom_edge: Tensor,
    /// `None` without any quadruplet edge, too.
    pub(crate) quadruplet: Option<QuadrupletBasis>,
    /// Radial embedding of atom pairs in rows `[n, rbf, width]`.
    pub(crate) atom_atom: Option<Tensor>,
    /// For atom updates `[e, rbf]`.
    pub(crate) update: Tensor,
    /// For output blocks `[e, rbf]`.
    pub(crate) output: Tensor,
}

impl BasisValues {
    /// Every tensor replaced by what `of` makes of it, always in the same order.
    pub(crate) fn map(&self, of: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        let triplet = |basis: &TripletBasis, of: &mut dyn FnMut(&Tensor) -> Tensor| TripletBasis {
            radial: of(&basis.radial),
            circular: of(&basis.circular),
        };
        Self {
            main: of(&self.main),
            triplet: triplet(&self.triplet, of),
            main_main: of(&self.main_main),
            atom_edge: self.atom_edge.as_ref().map(|basis| triplet(basis, of)),
            edge_atom: self.edge_atom.as_ref().map(|basis| triplet(basis, of)),
            main_atom_edge: of(&self.main_atom_edge),
            quadruplet: self.quadruplet.as_ref().map(|basis| QuadrupletBasis {
                radial: of(&basis.radial),
                circular: of(&basis.circular),
                spherical: of(&basis.spherical),
                angle: of(&basis.angle),
                dihedral: of(&basis.dihedral),
            }),
            atom_atom: self.atom_atom.as_ref().map(&mut *of),
            update: of(&self.update),
            output: of(&self.output),
        }
    }
}

/// Bases and their embeddings, shared by all blocks; names under `bases`.
#[derive(Debug)]
pub(crate) struct Bases {
    orders: i64,
    radial: RadialBasis,
    mlp_rbf_tint: Dense,
    mlp_cbf_tint: BasisEmbedding,
    mlp_rbf_h: Dense,
    mlp_rbf_out: Dense,
    quadruplet: Option<(Dense, BasisEmbedding, BasisEmbedding)>,
    atom_edge: Option<(Dense, BasisEmbedding)>,
    edge_atom: Option<(Dense, BasisEmbedding)>,
    atom_atom: Option<Tensor>,
}

impl Bases {
    pub(crate) fn new(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let GemNetConfig { num_radial: r, num_spherical: s, emb_size_rbf: rbf, emb_size_cbf: cbf, .. } =
            *config;
        let dense = |name: &str| Dense::linear(&(path / name), r, rbf, init);
        let circular = |name: &str| BasisEmbedding::new(&(path / name), r, s, cbf, init);
        let radial = RadialBasis::new(&(path / "radial_basis"), config);
        // The reference keeps further copies of the same constants; checkpoints hold them, the computation needs one.
        let mut copies = Vec::new();
        let quadruplet = config.quad_interaction.then(|| {
            copies.extend(["cbf_basis_qint", "sbf_basis_qint"]);
            let spherical =
                BasisEmbedding::new(&(path / "mlp_sbf_qint"), r, s * s, config.emb_size_sbf, init);
            (dense("mlp_rbf_qint"), circular("mlp_cbf_qint"), spherical)
        });
        let atom_edge =
            config.atom_edge_interaction.then(|| (dense("mlp_rbf_aeint"), circular("mlp_cbf_aeint")));
        let edge_atom = config.edge_atom_interaction.then(|| {
            copies.push("cbf_basis_eaint");
            (dense("mlp_rbf_eaint"), circular("mlp_cbf_eaint"))
        });
        for name in copies {
            RadialBasis::new(&(path / name / "radial_basis"), config);
        }
        if atom_edge.is_some() || edge_atom.is_some() {
            RadialBasis::new(&(path / "radial_basis_aeaint"), config);
        }
        let atom_atom = config.atom_interaction.then(|| {
            RadialBasis::new(&(path / "radial_basis_aint"), config);
            init.weight(&(path / "mlp_rbf_aint"), "weight", &[rbf, r])
        });
        Self {
            orders: s,
            radial,
            mlp_rbf_tint: dense("mlp_rbf_tint"),
            mlp_cbf_tint: circular("mlp_cbf_tint"),
            mlp_rbf_h: dense("mlp_rbf_h"),
            mlp_rbf_out: dense("mlp_rbf_out"),
            quadruplet,
            atom_edge,
            edge_atom,
            atom_atom,
        }
    }

    /// Everything that depends on geometry alone.
    pub(crate) fn forward(&self, geometry: &Geometry, graph: &GraphTensors) -> BasisValues {
        let (n, k, s) = (graph.atoms, graph.main.width, self.orders);
        let kind = graph.kind;
        let main = self.radial.forward(&geometry.main);
        let cosine = geometry.main_main.to_kind(kind);
        let main_main = harmonics(&cosine, &graph.main_main_mask, s, 2).view([n, k * s, k]);
        let cosine = geometry.main_atom_edge.to_kind(kind);
        let main_atom_edge = harmonics(&cosine, &graph.main_atom_edge_mask, s, 2);
        let atom_edge_radial = self.radial.forward(&geometry.atom_edge);
        let triplet = TripletBasis {
            radial: self.mlp_rbf_tint.forward(&main),
            circular: self.mlp_cbf_tint.forward(&main),
        };
        let atom_edge = self.atom_edge.as_ref().map(|(radial, circular)| TripletBasis {
            radial: radial.forward(&atom_edge_radial),
            circular: circular.forward(&main),
        });
        let edge_atom = self.edge_atom.as_ref().map(|(radial, circular)| {
            let rows = circular.forward(&atom_edge_radial).index_select(0, &graph.atom_edge.rows);
            let (c, w) = (circular.embedding, graph.atom_edge.width);
            let circular = rows.view([n, w, c, s]).permute([0, 2, 3, 1]).reshape([n, c, s * w]);
            TripletBasis { radial: radial.forward(&main), circular }
        });
        BasisValues {
            triplet,
            main_main,
            atom_edge,
            edge_atom,
            main_atom_edge,
            quadruplet: self.quadruplets(geometry, graph, &main),
            atom_atom: self.pairs(geometry, graph),
            update: self.mlp_rbf_h.forward(&main),
            output: self.mlp_rbf_out.forward(&main),
            main,
        }
    }

    fn quadruplets(
        &self,
        geometry: &Geometry,
        graph: &GraphTensors,
        main: &Tensor,
    ) -> Option<QuadrupletBasis> {
        let (radial, circular, spherical) = self.quadruplet.as_ref()?;
        let index = &graph.quadruplet;
        let (q, k, s, kind) = (index.edges.source.size()[0], graph.main.width, self.orders, graph.kind);
        if q == 0 {
            return None;
        }
        // d→b→a: the middle edge's distance and the angle at b.
        let angle = harmonics(&geometry.middle_input.to_kind(kind), &index.input_mask, s, 1);
        let middle = circular.forward(&self.radial.forward(&geometry.quadruplet));
        let circular = native::batched(&angle.transpose(1, 2), &middle.transpose(1, 2));
        shape!(circular, [q, k, self.mlp_cbf_tint.embedding]);
        let angle = harmonics(&geometry.output_middle.to_kind(kind), &index.receiving_mask, s, 1);
        let dihedral = harmonics(&geometry.dihedral.to_kind(kind), &index.chain_mask, s, 2);
        Some(QuadrupletBasis {
            radial: radial.forward(main),
            circular,
            spherical: spherical.forward(&main.index_select(0, &index.receiving)),
            angle,
            dihedral: dihedral.view([q, k * s, k]),
        })
    }

    /// Images of one neighbour send the same message, so their radial functions are added before anything else.
    fn pairs(&self, geometry: &Geometry, graph: &GraphTensors) -> Option<Tensor> {
        let weight = self.atom_atom.as_ref()?;
        let index = &graph.atom_atom;
        let (n, rbf) = (graph.atoms, weight.size()[0]);
        let raw = self.radial.forward(&geometry.atom_atom);
        let pairs = index.pair_source.size()[0];
        let raw = if pairs == raw.size()[0] {
            raw
        } else {
            Tensor::zeros([pairs, raw.size()[1]], (graph.kind, raw.device())).index_add(0, &index.pair, &raw)
        };
        let embedded = raw.matmul(&weight.tr()).index_select(0, &index.rows).view([n, index.width, rbf]);
        Some((embedded * index.mask.unsqueeze(2)).transpose(1, 2))
    }
}
