//! What a model has learned, as vectors: embeddings averaged over a structure (paper, eq. 3) and those of elements.

mod file;
mod rows;
mod sample;

pub use file::{AtomTable, EmbeddingFile, EmbeddingFileError};
pub use rows::{Row, RowBatches, RowsError, Wanted, rows};
pub use sample::sample;

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::prepared::collate;
use super::{Model, Prepared, Refused};
use crate::guard;

/// Averaged embeddings of one structure.
#[derive(Debug, Clone, PartialEq)]
pub struct Averages {
    /// `h̃ = (1/N) Σ h_i`.
    pub node: Vec<f32>,
    /// `m̃ = (1/E) Σ m_e` over main edges; `None` without any.
    pub edge: Option<Vec<f32>>,
    /// Main edges.
    pub edges: usize,
}

impl Model {
    /// Node and edge embeddings after the last interaction block, averaged over each structure of a batch.
    ///
    /// # Errors
    /// There is too little memory for it, or libtorch refuses it.
    pub fn averages<'p>(
        &self,
        batch: impl Iterator<Item = &'p Prepared> + Clone,
    ) -> Result<Vec<Averages>, Refused> {
        guard::out_of_memory(|| self.averages_of(batch.clone())).map_err(|e| Refused::of(e, batch))
    }

    fn averages_of<'p>(
        &self,
        batch: impl Iterator<Item = &'p Prepared> + Clone,
    ) -> Result<Vec<Averages>, tch::TchError> {
        let on = (self.network.store().kind(), self.network.store().device());
        let tensors = collate(batch.clone(), 0, on);
        let (h, m) = self.network.last_embeddings(&tensors);
        let graph = Rc::clone(&tensors.graph);
        let of_edges = tensors.structure.index_select(0, &graph.main.target);
        let node = sums(&h, &tensors.structure, tensors.structures)?;
        let edge = sums(&m, &of_edges, tensors.structures)?;
        let mean = |sum: &[f64], n: usize| sum.iter().map(|s| (s / n as f64) as f32).collect();
        let averages = batch.zip(node.iter().zip(&edge)).map(|(prepared, (node, edge))| {
            let edges = prepared.graph.main.len();
            Averages {
                node: mean(node, prepared.numbers.len()),
                edge: (edges > 0).then(|| mean(edge, edges)),
                edges,
            }
        });
        Ok(averages.collect())
    }
}

/// Sums of rows `[k, d]` by structure, in double precision, to the host.
fn sums(rows: &Tensor, structure: &Tensor, structures: i64) -> Result<Vec<Vec<f64>>, tch::TchError> {
    let width = rows.size()[1];
    let zeros = Tensor::zeros([structures, width], (Kind::Double, rows.device()));
    let sums = zeros.f_index_add(0, structure, &rows.to_kind(Kind::Double))?;
    let flat = Vec::<f64>::try_from(sums.f_flatten(0, -1)?)?;
    Ok(flat.chunks_exact(width as usize).map(<[f64]>::to_vec).collect())
}
