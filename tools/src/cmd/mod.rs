//! The commands of `jmp-tools`, one file each.

pub mod compare;
pub mod cost;
pub mod element_similarity;
pub mod embedding_map;
pub mod overlap;
mod page_args;
pub mod results;
pub mod stats;
