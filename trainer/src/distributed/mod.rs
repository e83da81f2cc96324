//! Data-parallel training on several ranks, one process each, through libtorch's own c10d: gloo on CPUs, NCCL on GPUs.
//!
//! Ranks are started by torchrun, by srun, or by [`spawn`] on one machine; [`Launch`] tells which rank a process is, and
//! [`World`] is what it can do together with the others. The gradient is *summed*, by [`Exchange`]: losses are divided by
//! the counts of the global batch, so the sum is the gradient of that batch on any number of ranks.
//!
//! A rank that fails says why in the store that all see, and ends; the others, whose connections break, look there and end
//! with that message. docs/distributed.md is for users.

#[cfg(not(feature = "distributed"))]
mod absent;
mod error;
mod exchange;
#[cfg(feature = "distributed")]
mod ffi;
#[cfg(feature = "distributed")]
mod link;
mod nodelist;
mod place;
mod spawn;
mod together;
mod world;

#[cfg(not(feature = "distributed"))]
use absent as link;
#[cfg(not(feature = "distributed"))]
use absent as ffi;

pub use error::DistributedError;
pub use exchange::{BUCKET_BYTES, Exchange};
pub use place::{Launch, Place};
pub use spawn::{Outcome, Spawn};
pub use together::{Asked, Together};
pub use world::World;
