//! The data's one meaning: atomistic structures in Å, eV and eV/Å, stored as zstd Parquet shards with a manifest,
//! read back as slices, cut into named splits, measured exactly, and streamed to a trainer.
//!
//! Nothing here knows a source format, and nothing here knows libtorch.
//!
//! - [`structure`]: one structure and the rules it keeps
//! - [`writer`], [`reader`], [`manifest`], [`verify`]: a dataset on disk
//! - [`remote`]: a dataset on an object store or web server, cached here
//! - [`row_set`], [`splits`], [`statistics`], [`linear_reference`]: what is known about its rows
//! - [`checks`], [`rejects`], [`suspects`]: physics of what is stored, and lists of what was not or should be looked at
//! - [`targets`], [`stream`], [`batch`]: training data in one global order
//! - [`graph`]: who neighbours whom, edges, triplets, quadruplets

pub mod batch;
pub mod checks;
pub mod element;
mod error;
mod exact_sum;
pub mod graph;
pub mod layout;
pub mod legacy_shuffle;
pub mod linear_reference;
pub mod manifest;
pub mod reader;
pub mod rejects;
pub mod remote;
pub mod row_set;
pub mod schema;
mod side_file;
pub mod splits;
pub mod statistics;
pub mod stream;
pub mod structure;
pub mod suspects;
pub mod targets;
pub mod units;
pub mod verify;
pub mod writer;

pub use error::ShardError;
pub use layout::{Layout, NeighborStorage, Target};
pub use linear_reference::LinearReference;
pub use manifest::{DatasetHeader, Manifest};
pub use reader::Dataset;
pub use remote::{Location, Remote, RemoteOptions};
pub use row_set::RowSet;
pub use structure::{Fault, FloatWidth, Floats, Structure};
