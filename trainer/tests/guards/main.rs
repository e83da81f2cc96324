//! What protects a run: labels that are missing, structures that are too large, numbers that are not finite.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../../../shards/tests/molecules/mod.rs"]
mod molecules;

mod labels;
mod limits;
mod phases;
mod runs;
mod validation;
