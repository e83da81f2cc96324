//! Weights of other programs: the published checkpoints' layout in, state dicts for PyTorch out.
//!
//! A published file is a Lightning dictionary: `state_dict` by the reference's names, and averaged weights as a tuple in
//! the optimiser's state. It also holds callbacks, settings and moments. The file is never unpickled: its pickle is read
//! by the restricted machine of the crate `pickle`, where everything but tensors and containers becomes a record without
//! content, and tensors are read one at a time.

mod export;
mod file;
mod import;
mod names;
mod report;
mod sizes;

pub use export::{NameStyle, export};
pub use file::{Offer, WeightsFile};
pub use import::{Imported, KnownPooling, Options, import};
pub use names::Group;
pub use report::{GroupRow, Ignored, Report};
pub use sizes::{Layout, infer};

use clap::ValueEnum;
use serde::Serialize;

/// Which of a checkpoint's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// Averaged over training: what the published results used.
    Ema,
    /// Those of the last step.
    Model,
}

impl Weights {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ema => "ema",
            Self::Model => "model",
        }
    }
}
