//! Opening a model for use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Tensor};

use crate::checkpoint::{self, CheckpointError, Info, State};
use crate::config::sections::Precision;
use crate::network::{HeadLayout, Network};
use crate::parameters;
use crate::published::{self, KnownPooling, Weights};

/// On what a model runs, and with which of its weights.
#[derive(Debug, Clone, Default)]
pub struct ModelOptions {
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Threads of the tensor library; all cores when absent.
    pub threads: Option<i32>,
    /// Numbers it computes with; those of its training when absent.
    pub precision: Option<Precision>,
    /// Which weights; averaged ones where there are any when absent.
    pub weights: Option<Weights>,
}

/// A network with its weights, and what the checkpoint says of it.
#[derive(Debug)]
pub struct Model {
    /// Where it comes from.
    pub path: PathBuf,
    /// What the checkpoint says.
    pub info: Info,
    /// The network; nothing of it can be trained.
    pub network: Network,
}

impl Model {
    /// Opens a run directory, a checkpoint in it, or a file of weights (`.pt`, `.safetensors`).
    ///
    /// # Errors
    /// Nothing there, a changed or foreign file, or no such device.
    pub fn open(path: &Path, options: &ModelOptions) -> Result<Self, CheckpointError> {
        if let Some(threads) = options.threads {
            tch::set_num_threads(threads);
        }
        let device = device(path, &options.device)?;
        let (path, info, weights) = read_weights(path, options.weights, KnownPooling::No)?;
        let precision = options.precision.unwrap_or_else(|| trained_precision(&info));
        let network =
            Network::new(&info.model, HeadLayout::of_records(info.kind, &info.tasks), 0, precision, device);
        network.load(&weights).map_err(|e| CheckpointError::content(&path, e.to_string()))?;
        // Only positions are differentiated: nothing is kept for gradients of weights.
        for (_, tensor) in network.store().variables() {
            let _ = tensor.set_requires_grad(false);
        }
        Ok(Self { path, info, network })
    }
}

/// What a checkpoint or a file of weights says and holds; the path is that of the checkpoint found. `pooling` is that of a
/// property's head in a file of weights.
///
/// # Errors
/// Nothing there, a changed or foreign file, or no weights of the kind that is asked for.
pub(crate) fn read_weights(
    path: &Path,
    weights: Option<Weights>,
    pooling: KnownPooling,
) -> Result<(PathBuf, Info, BTreeMap<String, Tensor>), CheckpointError> {
    if path.is_file() {
        let options = published::Options { weights, pooling, ..published::Options::default() };
        let imported = published::import(path, &options)?;
        return Ok((path.to_path_buf(), imported.info, imported.state.model));
    }
    let path = checkpoint::locate(path, true)?;
    let mut info = checkpoint::read_info(&path)?;
    let state = State::read_weights(&path)?;
    let tensors = match weights {
        Some(Weights::Model) => {
            if !state.ema.is_empty() {
                // Constants of energies were found with the averaged weights.
                info.tasks.iter_mut().for_each(|task| task.energy_shift = None);
            }
            state.model
        }
        Some(Weights::Ema) if state.ema.is_empty() => {
            let problem =
                "there are no averaged weights in this checkpoint; --weights model takes the last ones";
            return Err(CheckpointError::content(&path, problem));
        }
        _ => state.into_best_weights(),
    };
    Ok((path, info, tensors))
}

fn device(path: &Path, name: &str) -> Result<Device, CheckpointError> {
    let refused = |problem: String| CheckpointError::content(path, problem);
    let device = parameters::device(name)
        .ok_or_else(|| refused(format!("--device: expected auto, cpu, cuda or cuda:N, found `{name}`")))?;
    match device {
        Device::Cuda(_) if !tch::Cuda::is_available() => {
            Err(refused(format!("--device {name}: libtorch finds no CUDA device here")))
        }
        _ => Ok(device),
    }
}

/// The run's precision; 32 bits of an imported model.
fn trained_precision(info: &Info) -> Precision {
    let table: Option<toml::Table> = info.config.parse().ok();
    let precision = table.as_ref().and_then(|t| t.get("run")?.get("precision")?.clone().try_into().ok());
    precision.unwrap_or_default()
}
