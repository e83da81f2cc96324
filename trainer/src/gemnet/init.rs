use tch::{Tensor, nn, no_grad};

/// What new weights of the backbone hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// He-orthogonal random matrices, for training from scratch.
    HeOrthogonal,
    /// Zeros, where weights are loaded next; spares the decompositions.
    Zeros,
}

impl Init {
    /// Adds a trainable weight to the store.
    pub(crate) fn weight(self, path: &nn::Path, name: &str, size: &[i64]) -> Tensor {
        let weight = match self {
            Self::HeOrthogonal => he_orthogonal(path, size),
            Self::Zeros => Tensor::zeros(size, (path.kind(), path.device())),
        };
        path.add(name, weight, true)
    }
}

/// A random semi-orthogonal matrix with rows (of a three-dimensional tensor: all but the last dimension) standardised
/// to mean 0 and variance 1, times `1/√fan_in`.
///
/// Source: the reference's "He orthogonal" initialisation; ε = 1e-6, unbiased variance.
pub fn he_orthogonal(path: &nn::Path, size: &[i64]) -> Tensor {
    no_grad(|| {
        let options = (path.kind(), path.device());
        let (rows, columns) = (size[0], size[1..].iter().product::<i64>());
        let wide = rows < columns;
        let flat = Tensor::randn(if wide { [columns, rows] } else { [rows, columns] }, options);
        let (q, r) = Tensor::linalg_qr(&flat, "reduced");
        // The sign of R's diagonal makes Q uniform over orthogonal matrices.
        let q = q * r.diagonal(0, 0, 1).sign();
        let weight = if wide { q.tr() } else { q }.reshape(size);
        let (inputs, fan_in): (&[i64], i64) =
            if size.len() == 3 { (&[0, 1], size[0] * size[1]) } else { (&[1], size[1]) };
        let mean = weight.mean_dim(inputs, true, None::<tch::Kind>);
        let variance = weight.var_dim(inputs, true, true);
        (weight - mean) / (variance + 1e-6).sqrt() / (fan_in as f64).sqrt()
    })
}
