//! Operations that tch lacks, in C++ on libtorch (`shim/`), behind safe functions.
//!
//! tch 0.26 has no custom autograd functions, no optimiser calls over all tensors and no operation counts. What the shim
//! adds to the graph has derivatives of any order (the activation up to the third, recomputed parts the first only), works on every device and in every precision (quick loops for single
//! precision on a CPU, libtorch's own operations elsewhere), and is compared with plain tch operations by tests.

mod cuda;
mod ffi;
mod functions;
mod optimizer;
mod profile;

pub use cuda::load_cuda;
#[cfg(feature = "distributed")]
pub(crate) use cuda::nccl_plugin;
#[cfg(feature = "distributed")]
pub(crate) use ffi::{Loaded, last_error};
pub(crate) use functions::recomputed;
pub use functions::{
    activated_linear, activation, backward, batched, bilinear, edge_sum, gated_linear, gated_sum, gather,
    half_sum, linear, residual, scatter, symmetric_update,
};
pub use optimizer::{AdamWFactors, AdamWStep, sum_of_squares};
pub use profile::{Cost, Profile};

/// Gives back to the system what is free now; from here on, freed activations are used again instead of returning their
/// pages at every step.
///
/// To be called once, when what stays for the whole run is in its place.
pub fn keep_memory() {
    ffi::keep_memory();
}

/// Name of the instruction set that the loops use: `portable`, `avx2` or `avx512`.
pub fn instruction_set() -> String {
    ffi::kernels()
}
