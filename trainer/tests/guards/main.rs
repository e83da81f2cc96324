//! What protects a run: labels that are missing, structures that are too large, numbers that are not finite, short
//! memory.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../../../shards/tests/molecules/mod.rs"]
mod molecules;

mod failures;
mod interrupted;
mod labels;
mod limits;
mod memory;
mod phases;
mod runs;
mod validation;
