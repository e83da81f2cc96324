//! Source formats of atomistic datasets, read safely.

pub mod array;
mod error;
pub mod hdf5;
pub mod lmdb;
pub mod npz;
pub mod pickle;

pub use error::IngestError;
