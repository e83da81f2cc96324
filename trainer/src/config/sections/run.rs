//! `[run]`: where a run lives and what it computes with.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::config::number::Count;

/// `[run]`: where the run lives and on what it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSection {
    /// The run directory; it must not hold a run yet, unless the run is resumed.
    pub dir: PathBuf,
    /// Seed of initial weights, data order and dropout.
    #[serde(default)]
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    #[serde(default = "auto")]
    pub device: String,
    /// Numbers the model computes with.
    #[serde(default)]
    pub precision: Precision,
    /// Threads of the tensor library; all cores when absent, a fair part of them beside other ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<Count>,
    /// Seconds that one rank waits for the others before it gives up: when they meet, and in each exchange.
    #[serde(default = "ten_minutes")]
    pub distributed_timeout: Count,
    /// Whether TensorBoard's event files are written beside `metrics.jsonl`.
    #[serde(default = "yes")]
    pub tensorboard: bool,
    /// Where Prometheus may fetch the last step's figures: an address of this machine alone, `"127.0.0.1:9464"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<SocketAddr>,
}

pub(super) fn yes() -> bool {
    true
}

fn ten_minutes() -> Count {
    Count::known(600)
}

fn auto() -> String {
    "auto".into()
}

/// Width of the model's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 64 bits, for checks.
    F64,
    /// Activations and products in bfloat16; weights, geometry, losses and the optimiser in 32 bits.
    Bf16,
    /// Activations and products in 16-bit floats, with a loss scale that adapts; the rest in 32 bits.
    F16,
}

impl Precision {
    /// Of weights, geometry, losses and the optimiser.
    pub fn weights(self) -> Kind {
        match self {
            Self::F64 => Kind::Double,
            Self::F32 | Self::Bf16 | Self::F16 => Kind::Float,
        }
    }

    /// Of activations and products.
    pub fn activations(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::F64 => Kind::Double,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }
}
