use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::{HeadMlp, sum_atoms, sum_edges};
use crate::batch::Batch;
use crate::gemnet::{Embeddings, GemNetConfig};

/// An energy: one network on atoms, summed. All its layers are without bias, as the reference's, unless they continue a head of
/// joint pre-training, which has them.
#[derive(Debug)]
pub struct EnergyHead {
    mlp: HeadMlp,
}

impl EnergyHead {
    /// Layers under `path` (the reference's is `out_energy`).
    pub fn new(path: &nn::Path, config: &GemNetConfig, bias: bool) -> Self {
        Self { mlp: HeadMlp::new(path, config.emb_size_atom, bias) }
    }

    /// Energies `[g]`.
    pub fn forward(&self, embeddings: &Embeddings, batch: &Batch) -> Tensor {
        sum_atoms(&self.mlp.forward(&embeddings.atoms), batch)
    }
}

/// Direct forces: one network on edges, times unit vectors, summed at the target.
#[derive(Debug)]
pub struct ForceHead {
    mlp: HeadMlp,
}

impl ForceHead {
    /// Layers with bias under `path` (the reference's is `out_forces`).
    pub fn new(path: &nn::Path, config: &GemNetConfig) -> Self {
        Self { mlp: HeadMlp::new(path, config.emb_size_edge, true) }
    }

    /// Forces `[n, 3]`.
    ///
    /// # Panics
    /// If the backbone has no edge outputs.
    pub fn forward(&self, embeddings: &Embeddings, batch: &Batch) -> Tensor {
        let Some(edges) = &embeddings.edges else {
            panic!("direct forces need a backbone with direct forces")
        };
        let graph = &batch.graph;
        sum_edges(&self.mlp.forward(edges), &embeddings.vectors, &graph.main.target, graph.atoms)
    }
}

/// How atoms' numbers become one number of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Sum over atoms (extensive).
    #[default]
    Sum,
    /// Mean over atoms (intensive).
    Mean,
    /// Largest atom's (phonon frequencies).
    Max,
    /// `Σ_i x_i |r_i − r̄|²` with the mass-weighted centre `r̄` (QM9's ⟨R²⟩).
    SquaredRadius,
}

impl Pooling {
    /// As in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::SquaredRadius => "squared-radius",
        }
    }
}

/// One scalar property of a structure.
#[derive(Debug)]
pub struct ScalarHead {
    mlp: HeadMlp,
    pooling: Pooling,
    dropout: f64,
}

impl ScalarHead {
    /// Layers under `path`; their biases, as the reference's, are left out for [`Pooling::SquaredRadius`].
    pub fn new(path: &nn::Path, config: &GemNetConfig, pooling: Pooling) -> Self {
        let bias = pooling != Pooling::SquaredRadius;
        Self { mlp: HeadMlp::new(path, config.emb_size_atom, bias), pooling, dropout: 0.0 }
    }

    /// The same with this share of the embeddings' numbers set to zero in training (the released code's 0.5 for classes).
    pub fn drop_out(&mut self, share: f64) {
        self.dropout = share;
    }

    /// The property `[g]`; `masses` `[n]` are read by [`Pooling::SquaredRadius`] only. `train` turns dropout on.
    pub fn forward(
        &self,
        embeddings: &Embeddings,
        batch: &Batch,
        masses: Option<&Tensor>,
        train: bool,
    ) -> Tensor {
        let per_atom = if train && self.dropout > 0.0 {
            self.mlp.forward(&embeddings.atoms.dropout(self.dropout, true))
        } else {
            self.mlp.forward(&embeddings.atoms)
        };
        match self.pooling {
            Pooling::Sum => sum_atoms(&per_atom, batch),
            Pooling::Mean => sum_atoms(&per_atom, batch) / &batch.natoms,
            Pooling::Max => max_atoms(&per_atom, batch),
            Pooling::SquaredRadius => sum_atoms(&(per_atom * squared_radius(batch, masses)), batch),
        }
    }
}

/// The largest value of each structure's atoms `[g]`. By a mask `[g, n]`, because reductions by index are not settled in libtorch;
/// of equal values each gets its share of the gradient.
fn max_atoms(per_atom: &Tensor, batch: &Batch) -> Tensor {
    let structures = Tensor::arange(batch.structures, (Kind::Int64, per_atom.device()));
    let of_others = batch.structure.unsqueeze(0).ne_tensor(&structures.unsqueeze(1));
    per_atom.unsqueeze(0).masked_fill(&of_others, f64::NEG_INFINITY).amax(1, false)
}

/// Squared distances from each structure's centre of mass (or of geometry without masses) `[n]`, Å², double
/// precision inside.
fn squared_radius(batch: &Batch, masses: Option<&Tensor>) -> Tensor {
    let weight = match masses {
        Some(masses) => masses.to_kind(Kind::Double),
        None => Tensor::ones([batch.graph.atoms], (Kind::Double, batch.positions.device())),
    };
    let total = sum_atoms(&weight, batch);
    let zero = Tensor::zeros([batch.structures, 3], (Kind::Double, batch.positions.device()));
    let centre =
        zero.index_add(0, &batch.structure, &(&batch.positions * weight.unsqueeze(1))) / total.unsqueeze(1);
    let from_centre = &batch.positions - centre.index_select(0, &batch.structure);
    from_centre.square().sum_dim_intlist(1, false, None::<Kind>).to_kind(batch.graph.kind)
}
