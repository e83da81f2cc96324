//! The commands of `jmp-tools`, one file each.

pub mod overlap;
pub mod stats;
