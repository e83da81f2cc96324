use std::rc::Rc;

use tch::{Kind, Tensor, nn};

use super::bases::Bases;
use super::dense::Dropout;
use super::edge_embedding::EdgeEmbedding;
use super::geometry::Geometry;
use super::stack::{Pass, Stack, StageOutput};
use super::{EdgeDropoutScaling, GemNetConfig, Init, ScaleFactor, shape};
use crate::batch::Batch;

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
    recompute: bool,
    bases: Bases,
    edge_embedding: EdgeEmbedding,
    stack: Rc<Stack>,
}

impl Backbone {
    /// A backbone with fresh weights.
    pub fn new(path: &nn::Path, config: &GemNetConfig) -> Self {
        Self::with_init(path, config, Init::HeOrthogonal)
    }

    /// A backbone whose weights are chosen by `init`.
    pub fn with_init(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let bases = path / "bases";
        let GemNetConfig { emb_size_atom: atom, emb_size_edge: edge, num_radial: radial, .. } = *config;
        Self {
            bases: Bases::new(&bases, config, init),
            edge_embedding: EdgeEmbedding::new(&(&bases / "edge_emb"), atom, radial, edge, init),
            stack: Rc::new(Stack::new(path, config, init)),
            config: config.clone(),
            activations: None,
            recompute: false,
        }
    }

    /// The same backbone with activations of another width than the weights'. Geometry and bases keep theirs.
    #[must_use]
    pub fn computing_in(self, kind: Kind) -> Self {
        Self { activations: Some(kind), ..self }
    }

    /// The same backbone, whose blocks keep their inputs only while training and run again in the backward pass: a
    /// fraction of the memory for a third more products. Not with dropout, nor for gradient forces.
    #[must_use]
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
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
        let geometry = Geometry::of(&batch.positions, graph);
        let kind = self.activations.unwrap_or(graph.kind);
        let basis = self.bases.forward(&geometry, graph).map(&mut |tensor| tensor.to_kind(kind));
        let (factor, embeddings) = self.edge_dropout(train);
        let dropout = Dropout { share: self.config.dropout, train };
        let pass = Pass { basis: Rc::new(basis), graph: Rc::clone(graph), factor, dropout };

        let mut h = h.to_kind(kind);
        let mut m = self.edge_embedding.forward(&h, &pass.basis.main, graph);
        if embeddings != 1.0 {
            m *= embeddings;
        }
        watch(Stage::Embedded, &h, &m);
        let (mut energy, mut forces) = (None, None);
        for i in 0..self.stack.stages() {
            let stage = if self.recompute && train && i > 0 {
                self.stack.recomputed_stage(i, (&h, &m), &pass)
            } else {
                self.stack.stage(i, (&h, &m), &pass)
            };
            let StageOutput { h: atoms, m: edges, energy: energy_part, forces: forces_part } = stage;
            (h, m) = (atoms, edges);
            if i > 0 {
                watch(Stage::Block(i - 1), &h, &m);
            }
            energy = Some(add(energy, energy_part));
            forces = forces_part.map(|part| add(forces, part));
        }
        // The global energy output never has dropout (as the reference).
        let atoms = energy.map(|sum| self.stack.energy.finish(&sum, Dropout::default()));
        let edges = self.stack.forces.as_ref().zip(forces).map(|(global, sum)| global.finish(&sum, dropout));
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
        self.stack.scale_factors()
    }
}

fn add(sum: Option<Tensor>, part: Tensor) -> Tensor {
    match sum {
        Some(sum) => sum + part,
        None => part,
    }
}
