//! `jmp-train import`: weights of other programs as a checkpoint.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::DONE;
use crate::checkpoint::{self, CheckpointError};
use crate::config::model::Preset;
use crate::heads::Pooling;
use crate::published::{KnownPooling, Options, Weights, import};

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// A checkpoint of the published models (.pt, .ckpt), a state dict saved by PyTorch, or a .safetensors file with the
    /// same names. Nothing in it is executed.
    file: PathBuf,
    /// Directory of the new checkpoint; it must not exist yet.
    out_dir: PathBuf,
    /// Which weights to take; the averaged ones (ema) where the file has them when absent.
    #[arg(long, value_enum)]
    weights: Option<Weights>,
    /// The size that is expected; any size is read off the shapes when absent.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Names of the tasks in the order of their heads; the published models' when absent and there are four.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    tasks: Vec<String>,
    /// How a model of a property pools its atoms, which its file does not tell. --tasks names the property: the dataset's column.
    #[arg(long, value_enum)]
    pooling: Option<Pooling>,
    /// Leave out tensors that have no place in the model instead of refusing the file.
    #[arg(long)]
    ignore_unknown: bool,
    /// One JSON object on standard output instead of a table.
    #[arg(long)]
    json: bool,
}

impl ImportArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        // Copying gains nothing from more, and threads that wait for one another cost much on a busy machine.
        tch::set_num_threads(1);
        if self.out_dir.exists() {
            let problem = "is there already; name a directory that does not exist, or remove it";
            return Err(CheckpointError::content(&self.out_dir, problem).into());
        }
        let options = Options {
            weights: self.weights,
            preset: self.preset,
            tasks: self.tasks.clone(),
            pooling: self.pooling.map_or(KnownPooling::No, KnownPooling::Named),
            ignore_unknown: self.ignore_unknown,
        };
        let mut imported = import(&self.file, &options)?;
        checkpoint::write(&self.out_dir, &mut imported.info, &imported.state)?;
        imported.report.checkpoint = Some(self.out_dir.display().to_string());
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&imported.report)?)?;
        } else {
            imported.report.write(out)?;
        }
        Ok(DONE)
    }
}
