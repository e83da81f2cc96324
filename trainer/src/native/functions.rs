//! Functions of tensors with derivatives of any order; the activation's end at the third. `σ(x) = silu(x) / 0.6`; shapes in the letters of
//! [`crate::gemnet`].
//!
//! They keep less for the backward pass than the same expressions in tch: activations, gates and gated rows are computed
//! again where they are needed, which costs a small part of the products beside them.
//!
//! All of them panic with libtorch's message where shapes do not fit or memory is short, as tch's operations do.

use tch::Tensor;

use super::ffi;

/// `σ(x)`, any shape.
pub fn activation(x: &Tensor) -> Tensor {
    ffi::activation(x)
}

/// `x Wᵀ`: `[i, in]`, `[out, in]` to `[i, out]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    ffi::linear(x, weight)
}

/// `σ(pre) Wᵀ + b`: `[i, in]`, `[out, in]`, `[out]` to `[i, out]`.
pub fn activated_linear(pre: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    ffi::activated_linear(pre, weight, bias)
}

/// `(σ(pre)[index] ⊙ (radial Rᵀ)) Wᵀ`, with `gate = (radial [i, rbf], R [in, rbf])`: `[i, out]`.
///
/// Without `index` the rows of `pre` are taken as they are; without `activated` `σ` is left out.
pub fn gated_linear(
    pre: &Tensor,
    index: Option<&Tensor>,
    gate: (&Tensor, &Tensor),
    weight: &Tensor,
    activated: bool,
) -> Tensor {
    ffi::gated_linear(pre, index, gate, weight, activated)
}

/// `Σ_e m_e ⊙ (radial Rᵀ)_e` over the rows `e` of each target: `[e, m]` to `[rows, m]`.
pub fn gated_sum(m: &Tensor, gate: (&Tensor, &Tensor), target: &Tensor, rows: i64) -> Tensor {
    ffi::gated_sum(m, gate, target, rows)
}

/// `a_i b_i` for each `i`, made for many small matrices: `[i, m, k]`, `[i, k, n]` to `[i, m, n]`.
pub fn batched(a: &Tensor, b: &Tensor) -> Tensor {
    ffi::batched(a, b)
}

/// `(circular × sums) Wᵀ`: `[i, c, s]`, `[i, s, d]`, `[out, c·d]` to `[i, out]`.
pub fn bilinear(circular: &Tensor, sums: &Tensor, weight: &Tensor) -> Tensor {
    ffi::bilinear(circular, sums, weight)
}

/// `(x + σ(pre)) / √2`.
pub fn residual(x: &Tensor, pre: &Tensor) -> Tensor {
    ffi::residual(x, pre)
}

/// `(a + b) / √2`.
pub fn half_sum(a: &Tensor, b: &Tensor) -> Tensor {
    ffi::half_sum(a, b)
}

/// `(σ(s Aᵀ) + σ(s Bᵀ)[reverse]) / √2`: `[e, in]`, twice `[out, in]` to `[e, out]`; `reverse` must be its own inverse.
pub fn symmetric_update(s: &Tensor, a: &Tensor, b: &Tensor, reverse: &Tensor) -> Tensor {
    ffi::symmetric_update(s, a, b, reverse)
}

/// `σ(x + a[source] + b[target])`, with pairs of rows and index: `[e, m]`.
pub fn edge_sum(x: &Tensor, a: (&Tensor, &Tensor), b: (&Tensor, &Tensor)) -> Tensor {
    ffi::edge_sum(x, a, b)
}

/// `x[index]` by rows.
pub fn gather(x: &Tensor, index: &Tensor) -> Tensor {
    ffi::gather(x, index)
}

/// Adds row `e` of `x` to row `index[e]` of `rows` rows of zeros; the order of the sums is that of `e`.
pub fn scatter(x: &Tensor, index: &Tensor, rows: i64) -> Tensor {
    ffi::scatter(x, index, rows)
}

/// `segment(inputs)`, a list of `outputs` tensors, of which only the inputs are kept: the segment runs again in the
/// backward pass, which adds to the gradients of all parameters that it uses. First derivatives only.
///
/// `segment` must compute the same each time: no dropout.
pub(crate) fn recomputed(
    inputs: &[Tensor],
    outputs: usize,
    segment: impl Fn(&[Tensor]) -> Vec<Tensor> + 'static,
) -> Vec<Tensor> {
    ffi::recomputed(inputs, outputs, Box::new(segment))
}

/// Adds the gradients of a scalar to the gradients of these leaves, and computes no others.
///
/// # Errors
/// libtorch's own.
pub fn backward(loss: &Tensor, leaves: &[Tensor]) -> Result<(), tch::TchError> {
    ffi::backward(loss, leaves).map_err(tch::TchError::Torch)
}
