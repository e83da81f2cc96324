use tch::{Tensor, nn};

use super::{HeadMlp, sum_atoms, sum_edges};
use crate::batch::{Batch, TaskRows};
use crate::gemnet::{Embeddings, GemNetConfig};

/// What a model says about a batch, in each structure's own task's normalised units.
#[derive(Debug)]
pub struct Prediction {
    /// Energies `[g]`.
    pub energy: Tensor,
    /// Forces `[n, 3]`.
    pub forces: Tensor,
}

/// One energy and one force network a task; names `out_energy.{task}` and `out_forces.{task}`.
#[derive(Debug)]
pub struct PretrainHeads {
    energy: Vec<HeadMlp>,
    forces: Vec<HeadMlp>,
}

impl PretrainHeads {
    /// Heads for `tasks` tasks under `path` (the reference's is `output`).
    pub fn new(path: &nn::Path, tasks: usize, config: &GemNetConfig) -> Self {
        let heads = |name: &str, units| {
            (0..tasks).map(|t| HeadMlp::new(&(path / name / t), units, true)).collect::<Vec<_>>()
        };
        Self {
            energy: heads("out_energy", config.emb_size_atom),
            forces: heads("out_forces", config.emb_size_edge),
        }
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.energy.len()
    }

    /// Evaluates each task's networks on the atoms and edges of its own structures.
    ///
    /// # Panics
    /// If the batch names a task without heads, or the backbone has no edge outputs.
    pub fn forward(&self, embeddings: &Embeddings, batch: &Batch) -> Prediction {
        let Some(edges) = &embeddings.edges else {
            panic!("pre-training needs a backbone with direct forces")
        };
        let (n, e) = (batch.graph.atoms, batch.graph.edges());
        let rows = |of: fn(&TaskRows) -> &Option<Tensor>| {
            batch.tasks.iter().map(move |rows| (rows.task, of(rows).as_ref()))
        };
        let energy = each_task(&self.energy, &embeddings.atoms, rows(|task| &task.atoms), n);
        let forces = each_task(&self.forces, edges, rows(|task| &task.edges), e);
        Prediction {
            energy: sum_atoms(&energy, batch),
            forces: sum_edges(&forces, &embeddings.vectors, &batch.graph.main.target, n),
        }
    }
}

/// `[count, units]` to `[count]`, row by row with the network of its task.
fn each_task<'a>(
    heads: &[HeadMlp],
    x: &Tensor,
    rows: impl Iterator<Item = (usize, Option<&'a Tensor>)>,
    count: i64,
) -> Tensor {
    let mut out: Option<Tensor> = None;
    for (task, rows) in rows {
        let Some(rows) = rows else { return heads[task].forward(x) };
        let values = heads[task].forward(&x.index_select(0, rows));
        let so_far = out.unwrap_or_else(|| Tensor::zeros([count], (values.kind(), values.device())));
        out = Some(so_far.index_copy(0, rows, &values));
    }
    out.unwrap_or_else(|| Tensor::zeros([count], (x.kind(), x.device())))
}
