use tch::{Tensor, nn};

use super::atom_update::AtomUpdate;
use super::bases::BasisValues;
use super::dense::{Dropout, chain, residuals};
use super::edge_embedding::EdgeEmbedding;
use super::pair::PairInteraction;
use super::quadruplet::QuadrupletInteraction;
use super::triplet::TripletInteraction;
use super::{Dense, GemNetConfig, Init, Residual, ScaleFactor};
use crate::batch::GraphTensors;
use crate::native;

/// One round of messages: edges hear edges, atoms and quadruplets; atoms hear edges and atoms; then each updates the
/// other. Source: GemNet-OC, arXiv:2204.02782, section 4 and Fig. 2.
#[derive(Debug)]
pub(crate) struct InteractionBlock {
    dense_ca: Dense,
    triplets: TripletInteraction,
    quadruplets: Option<QuadrupletInteraction>,
    atom_edge: Option<TripletInteraction>,
    edge_atom: Option<TripletInteraction>,
    atom_atom: Option<PairInteraction>,
    before_skip: Vec<Residual>,
    after_skip: Vec<Residual>,
    atom_layers: Vec<Residual>,
    atom_update: AtomUpdate,
    concat: EdgeEmbedding,
    after_concat: Vec<Residual>,
}

impl InteractionBlock {
    pub(crate) fn new(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let (atom, edge) = (config.emb_size_atom, config.emb_size_edge);
        let triplet = |name: &str, widths, symmetric| {
            TripletInteraction::new(&(path / name), widths, symmetric, config, init)
        };
        let layers = |name: &str, count, units| residuals(&(path / name), 0, count, units, init);
        let mixed = |on: bool, name: &str, widths, symmetric| on.then(|| triplet(name, widths, symmetric));
        Self {
            dense_ca: Dense::activated(&(path / "dense_ca"), edge, edge, init),
            triplets: triplet("trip_interaction", (edge, edge), true),
            quadruplets: config
                .quad_interaction
                .then(|| QuadrupletInteraction::new(&(path / "quad_interaction"), config, init)),
            atom_edge: mixed(config.atom_edge_interaction, "atom_edge_interaction", (atom, edge), true),
            edge_atom: mixed(config.edge_atom_interaction, "edge_atom_interaction", (edge, atom), false),
            atom_atom: config
                .atom_interaction
                .then(|| PairInteraction::new(&(path / "atom_interaction"), config, init)),
            before_skip: layers("layers_before_skip", config.num_before_skip, edge),
            after_skip: layers("layers_after_skip", config.num_after_skip, edge),
            atom_layers: layers("atom_emb_layers", config.num_atom_emb_layers, atom),
            atom_update: AtomUpdate::new(&(path / "atom_update"), config, init),
            concat: EdgeEmbedding::new(&(path / "concat_layer"), atom, edge, edge, init),
            after_concat: layers("residual_m", config.num_concat, edge),
        }
    }

    /// `h [n, a]` and `m [e, m]` to the same shapes.
    pub(crate) fn forward(
        &self,
        (h, m): (&Tensor, &Tensor),
        basis: &BasisValues,
        graph: &GraphTensors,
        dropout: Dropout,
    ) -> (Tensor, Tensor) {
        let x = chain(&self.before_skip, self.hear_edges((h, m), basis, graph), dropout);
        let h = chain(&self.atom_layers, self.hear_atoms((h, m), basis, graph), dropout);
        let m = chain(&self.after_skip, native::half_sum(m, &x), dropout);

        let update = self.atom_update.forward(&m, &basis.update, graph, 1.0, dropout);
        let h = native::half_sum(&h, &update);

        let concat = chain(&self.after_concat, self.concat.forward(&h, &m, graph), dropout);
        let m = native::half_sum(&m, &concat);
        (h, m)
    }

    /// Everything that edges receive, scaled by the number of interactions.
    fn hear_edges(&self, (h, m): (&Tensor, &Tensor), basis: &BasisValues, graph: &GraphTensors) -> Tensor {
        let mut count = 2.0;
        let mut x =
            self.dense_ca.forward(m) + self.triplets.edge_to_edge(m, &basis.triplet, &basis.main_main, graph);
        if let Some(quadruplets) = &self.quadruplets {
            count += 1.0;
            // Without any quadruplet edge in the batch the message is zero.
            if let Some(basis) = &basis.quadruplet {
                x = quadruplets.add_to(&x, m, basis, graph);
            }
        }
        if let (Some(interaction), Some(radial)) = (&self.atom_edge, &basis.atom_edge) {
            count += 1.0;
            x += interaction.atom_to_edge(h, radial, &basis.main_atom_edge, graph);
        }
        x / f64::sqrt(count)
    }

    /// Everything that atoms receive, scaled by the number of interactions.
    fn hear_atoms(&self, (h, m): (&Tensor, &Tensor), basis: &BasisValues, graph: &GraphTensors) -> Tensor {
        let mut terms = vec![h.shallow_clone()];
        if let (Some(interaction), Some(radial)) = (&self.edge_atom, &basis.edge_atom) {
            terms.push(interaction.edge_to_atom(m, radial, &basis.main_atom_edge, graph));
        }
        if let (Some(interaction), Some(radial)) = (&self.atom_atom, &basis.atom_atom) {
            terms.push(interaction.forward(h, radial, graph));
        }
        let scale = 1.0 / f64::sqrt(terms.len() as f64);
        terms.iter().map(|term| term * scale).sum()
    }

    /// In the reference's order of execution.
    pub(crate) fn scale_factors(&self) -> Vec<&ScaleFactor> {
        let mut factors: Vec<&ScaleFactor> = self.triplets.scale_factors().into();
        factors.extend(self.quadruplets.iter().flat_map(QuadrupletInteraction::scale_factors));
        factors.extend(self.atom_edge.iter().flat_map(TripletInteraction::scale_factors));
        factors.extend(self.edge_atom.iter().flat_map(TripletInteraction::scale_factors));
        factors.extend(self.atom_atom.iter().map(PairInteraction::scale_factor));
        factors.push(self.atom_update.scale_factor());
        factors
    }
}
