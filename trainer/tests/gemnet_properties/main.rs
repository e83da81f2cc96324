//! What GemNet-OC must keep whatever its weights: symmetries, batching, forces as derivatives, degenerate structures,
//! properties as sums over atoms.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod derivatives;
mod model;
mod options;
mod pooling;
mod precision;
mod recompute;
mod symmetry;
