//! Using a trained model: structures without labels in, energies, forces, properties and embeddings out.
//!
//! ```text
//! Structure ── Rule::prepare ──► Prepared ── batches (a thread) ──► Model ──► predictions, embeddings
//! ```
//!
//! - [`Model`]: a checkpoint, or a file of weights, ready to compute
//! - [`Predictor`]: one task of it, with what its outputs mean
//! - [`frames`], [`serve`]: extended XYZ through it; a conversation over a pipe
//! - [`embedding`]: averaged embeddings of structures, vectors of elements

mod batches;
pub mod embedding;
pub mod frames;
mod model;
mod predictor;
mod prepared;
pub mod serve;

pub use batches::{Budget, batches};
pub(crate) use model::read_weights;
pub use model::{Model, ModelOptions};
pub use predictor::{NonFinite, Predicted, Predictor, Refused};
pub use prepared::{Impossible, Prepared, Rule};
