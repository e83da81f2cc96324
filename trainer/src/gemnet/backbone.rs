use tch::{Kind, Tensor, nn};

use super::bases::Bases;
use super::dense::{Dropout, chain, residuals};
use super::edge_embedding::EdgeEmbedding;
use super::geometry::Geometry;
use super::interaction::InteractionBlock;
use super::output::{EdgeOutput, OutputBlock};
use super::{EdgeDropoutScaling, GemNetConfig, Init, Residual, ScaleFactor, shape};
use crate::batch::Batch;
use crate::native;

/// What heads read.
#[derive(Debug)]
pub struct Embeddings {
    /// Atom outputs `[n, a]`, in the precision of activations, as edges.
    pub atoms: Tensor,
    /// Edge outputs `[e, m]`; `None` unless the backbone has direct forces.
    pub edges: Option<Tensor>,
    /// Unit vectors of main edges, source → target `[e, 3]`, in the weights' precision.
    pub vectors: Tensor,
}

/// A point of the forward pass at which [`Backbone::forward_watched`] shows the embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// After the embedding layers.
    Embedded,
    /// After interaction block `i`.
    Block(usize),
}

/// The GemNet-OC backbone; parameter names begin with `backbone.` where its path does.
#[derive(Debug)]
pub struct Backbone {
    config: GemNetConfig,
    /// Precision of activations; `None`: that of the weights.
    activations: Option<Kind>,
    bases: Bases,
    edge_embedding: EdgeEmbedding,
    blocks: Vec<InteractionBlock>,
    outputs: Vec<OutputBlock>,
    energy: GlobalOutput,
    forces: Option<GlobalOutput>,
}

/// `MLP(x₀ ‖ x₁ ‖ …)` of all output blocks, evaluated as a sum over blocks, so that nothing is concatenated.
#[derive(Debug)]
struct GlobalOutput {
    weight: Tensor,
    layers: Vec<Residual>,
}

impl GlobalOutput {
    fn new(path: &nn::Path, units: i64, config: &GemNetConfig, init: Init) -> Self {
        let path = path / "out_mlp";
        let size = [units, units * (config.num_blocks + 1)];
        Self {
            weight: init.weight(&(&path / 0 / "linear"), "weight", &size),
            layers: residuals(&path, 1, config.num_global_out_layers, units, init),
        }
    }

    /// Block `i`'s part of the first layer, from atoms.
    fn part(&self, x: &Tensor, block: usize) -> Tensor {
        native::linear(x, &self.weight_of(block))
    }

    /// Block `i`'s part of the first layer, from edges that are yet to be gated by their radial basis `[e, rbf]`.
    fn gated_part(&self, edges: &EdgeOutput, radial: &Tensor, block: usize) -> Tensor {
        native::gated_linear(&edges.x, None, (radial, &edges.radial_weight), &self.weight_of(block), false)
    }

    fn weight_of(&self, block: usize) -> Tensor {
        let units = self.weight.size()[0];
        self.weight.narrow(1, block as i64 * units, units)
    }

    fn finish(&self, sum: &Tensor, dropout: Dropout) -> Tensor {
        chain(&self.layers, native::activation(sum), dropout)
    }
}

fn add(sum: Option<Tensor>, part: Tensor) -> Tensor {
    match sum {
        Some(sum) => sum + part,
        None => part,
    }
}

impl Backbone {
    /// A backbone with fresh weights.
    pub fn new(path: &nn::Path, config: &GemNetConfig) -> Self {
        Self::with_init(path, config, Init::HeOrthogonal)
    }

    /// A backbone whose weights are chosen by `init`.
    pub fn with_init(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let bases = path / "bases";
        let GemNetConfig { emb_size_atom: atom, emb_size_edge: edge, num_radial: radial, num_blocks, .. } =
            *config;
        Self {
            bases: Bases::new(&bases, config, init),
            edge_embedding: EdgeEmbedding::new(&(&bases / "edge_emb"), atom, radial, edge, init),
            blocks: (0..num_blocks)
                .map(|i| InteractionBlock::new(&(path / "int_blocks" / i), config, init))
                .collect(),
            outputs: (0..=num_blocks)
                .map(|i| OutputBlock::new(&(path / "out_blocks" / i), config, init))
                .collect(),
            energy: GlobalOutput::new(&(path / "out_mlp_E"), atom, config, init),
            forces: config
                .direct_forces
                .then(|| GlobalOutput::new(&(path / "out_mlp_F"), edge, config, init)),
            config: config.clone(),
            activations: None,
        }
    }

    /// The same backbone with activations of another width than the weights'. Geometry and bases keep theirs.
    #[must_use]
    pub fn computing_in(self, kind: Kind) -> Self {
        Self { activations: Some(kind), ..self }
    }

    /// The sizes it was built with.
    pub fn config(&self) -> &GemNetConfig {
        &self.config
    }

    /// Atom embeddings `h [n, a]` and the batch's geometry to outputs.
    ///
    /// The geometry is differentiable in `batch.positions` if that requires a gradient.
    pub fn forward(&self, h: &Tensor, batch: &Batch, train: bool) -> Embeddings {
        self.forward_watched(h, batch, train, |_, _, _| {})
    }

    /// The same, showing `h [n, a]` and `m [e, m]` at each stage.
    pub fn forward_watched(
        &self,
        h: &Tensor,
        batch: &Batch,
        train: bool,
        mut watch: impl FnMut(Stage, &Tensor, &Tensor),
    ) -> Embeddings {
        let graph = &batch.graph;
        shape!(h, [graph.atoms, self.config.emb_size_atom]);
        let dropout = Dropout { share: self.config.dropout, train };
        let geometry = Geometry::of(&batch.positions, graph);
        let kind = self.activations.unwrap_or(graph.kind);
        let basis = self.bases.forward(&geometry, graph).to_kind(kind);
        let (outputs, embeddings) = self.edge_dropout(train);

        let mut h = h.to_kind(kind);
        let mut m = self.edge_embedding.forward(&h, &basis.main, graph);
        if embeddings != 1.0 {
            m *= embeddings;
        }
        watch(Stage::Embedded, &h, &m);
        let (mut energy, mut forces) = (None, None);
        for (i, output) in self.outputs.iter().enumerate() {
            if i > 0 {
                (h, m) = self.blocks[i - 1].forward((&h, &m), &basis, graph, dropout);
                watch(Stage::Block(i - 1), &h, &m);
            }
            let (atoms, edges) = output.forward((&h, &m), &basis.output, graph, outputs, dropout);
            energy = Some(add(energy, self.energy.part(&atoms, i)));
            if let (Some(global), Some(edges)) = (&self.forces, edges) {
                forces = Some(add(forces, global.gated_part(&edges, &basis.output, i)));
            }
        }
        // The global energy output never has dropout (as the reference).
        let atoms = energy.map(|sum| self.energy.finish(&sum, Dropout::default()));
        let edges = self.forces.as_ref().zip(forces).map(|(global, sum)| global.finish(&sum, dropout));
        Embeddings { atoms: atoms.unwrap_or(h), edges, vectors: geometry.main_vector.to_kind(graph.kind) }
    }

    /// What the output blocks' sums and the edge embeddings are multiplied by while edges are dropped.
    fn edge_dropout(&self, train: bool) -> (f64, f64) {
        let factor = 1.0 / (1.0 - self.config.edge_dropout);
        match self.config.edge_dropout_scaling {
            _ if !train || self.config.edge_dropout == 0.0 => (1.0, 1.0),
            EdgeDropoutScaling::Outputs => (factor, 1.0),
            EdgeDropoutScaling::Embeddings => (1.0, factor),
        }
    }

    /// All scale factors in the order in which a forward pass meets them, for fitting.
    pub fn scale_factors(&self) -> Vec<&ScaleFactor> {
        let mut factors: Vec<&ScaleFactor> = Vec::new();
        for (i, output) in self.outputs.iter().enumerate() {
            if i > 0 {
                factors.extend(self.blocks[i - 1].scale_factors());
            }
            factors.extend(output.scale_factors());
        }
        factors
    }
}
