//! Training on several ranks: real processes of `jmp-train` on this machine, talking through gloo, and the exchange of
//! gradients by itself.

#![cfg(feature = "distributed")]
#![allow(clippy::unwrap_used, reason = "a failed read fails the test")]

#[path = "../../../shards/tests/molecules/mod.rs"]
mod molecules;

mod agreement;
mod exchange;
mod failures;
mod launchers;
mod programs;
mod results;
