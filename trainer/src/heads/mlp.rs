use tch::nn::Init as TchInit;
use tch::{Tensor, nn};

use crate::gemnet::GemNetConfig;
use crate::native;

/// Five linear layers with the scaled activation between them; the last maps to one number and has no bias.
///
/// Initialised as PyTorch's `Linear`: weights and biases uniform in ±1/√fan_in.
#[derive(Debug)]
pub struct HeadMlp {
    layers: Vec<(Tensor, Option<Tensor>)>,
}

impl HeadMlp {
    /// Layers named `0`, `2`, …, `8` under `path`; `bias` on all but the last.
    pub fn new(path: &nn::Path, units: i64, bias: bool) -> Self {
        let bound = 1.0 / (units as f64).sqrt();
        let init = TchInit::Uniform { lo: -bound, up: bound };
        let layer = |i: i64| {
            let (path, last) = (path / (2 * i), i == 4);
            let weight = path.var("weight", &[if last { 1 } else { units }, units], init);
            (weight, (bias && !last).then(|| path.var("bias", &[units], init)))
        };
        Self { layers: (0..5).map(layer).collect() }
    }

    /// `[i, units]` to `[i]`, in the weights' precision.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut y = None;
        for (weight, bias) in &self.layers {
            y = Some(match (y, bias) {
                (Some(pre), bias) => native::activated_linear(&pre, weight, bias.as_ref()),
                (None, Some(bias)) => native::linear(x, weight) + bias.to_kind(x.kind()),
                (None, None) => native::linear(x, weight),
            });
        }
        y.unwrap_or_else(|| x.shallow_clone()).squeeze_dim(1).to_kind(self.layers[0].0.kind())
    }
}

/// A learned vector for each element; row `Z − 1`.
///
/// Named `atom_embedding.weight` in pre-training and `weight` in fine-tuning, under `embedding`.
#[derive(Debug)]
pub struct AtomEmbedding {
    weight: Tensor,
}

impl AtomEmbedding {
    /// Standard normal rows, as PyTorch's `Embedding`.
    pub fn new(path: &nn::Path, config: &GemNetConfig) -> Self {
        let size = [config.num_elements, config.emb_size_atom];
        Self { weight: path.var("weight", &size, TchInit::Randn { mean: 0.0, stdev: 1.0 }) }
    }

    /// All rows, `[elements, a]`.
    pub fn vectors(&self) -> &Tensor {
        &self.weight
    }

    /// Atomic numbers `[n]` to `[n, a]`.
    pub fn forward(&self, atomic_numbers: &Tensor) -> Tensor {
        self.weight.index_select(0, &(atomic_numbers - 1))
    }
}
