//! Source formats of atomistic datasets, read safely and turned into shards.
//!
//! - [`pickle`], [`lmdb`], [`hdf5`], [`npz`], [`array`]: containers, decoded without executing, mapping or trusting anything
//! - [`compressed`], [`bzip2`], [`tar`], [`lines`], [`extxyz`]: texts, unpacked and read a line at a time
//! - [`ulm`], [`sqlite`], [`ase_json`]: what ASE keeps its structures in
//! - [`packed`], [`json_stream`], [`csv`], [`cif`], [`pymatgen`]: text in bounded memory, and [`crystal`], what it describes
//! - [`formats`]: the datasets, each a [`source::Source`]: description, units in a fixed order, structures, splits
//! - [`input`], [`splits`]: arguments in, row sets out
//! - [`filter`], [`reference`]: what a user may ask for beside the format
//! - [`partition`]: one source, many machines
//! - [`convert`]: a source → a dataset on disk, in parallel, resumable, the same bytes whatever the number of jobs
//!
//! Units and signs are converted here, once: behind this crate there are only Å, eV, eV/Å and forces `−∂E/∂r`.

pub mod ase_json;
pub mod bzip2;
pub mod cif;
pub mod compressed;
pub mod convert;
pub mod crystal;
pub mod csv;
mod error;
pub mod filter;
pub mod formats;
pub mod hdf5;
pub mod input;
pub mod json_stream;
pub mod lmdb;
pub mod npz;
pub mod packed;
pub mod partition;
pub mod pymatgen;
pub mod reference;
pub mod source;
pub mod splits;
pub mod sqlite;
pub mod tar;
pub mod ulm;

pub use error::IngestError;
pub use extxyz::{self, lines};
pub use pickle::{self, array};
