//! `jmp-train export`: a checkpoint's weights for PyTorch.

use std::io::Write;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use serde::Serialize;

use super::DONE;
use crate::checkpoint::{self, CheckpointError};
use crate::published::{NameStyle, Weights, export};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A run directory (its best checkpoint, else its last) or one checkpoint.
    checkpoint: PathBuf,
    /// The file to write: .pt for torch.load(…, weights_only=True), or .safetensors.
    out: PathBuf,
    /// Which weights; the averaged ones where there are any when absent.
    #[arg(long, value_enum)]
    weights: Option<Weights>,
    /// Whose names the embedding and the heads get; the checkpoint's own when absent. Heads without a counterpart are left
    /// out.
    #[arg(long, value_enum)]
    names: Option<NameStyle>,
    /// Also write the second names that the reference has for some tensors, so that its load_state_dict(strict=True) finds
    /// all; true for .pt and false for .safetensors when absent.
    #[arg(long, value_name = "true|false", action = ArgAction::Set)]
    aliases: Option<bool>,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    checkpoint: String,
    file: String,
    tensors: usize,
    bytes: u64,
}

impl ExportArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        // Copying gains nothing from more, and threads that wait for one another cost much on a busy machine.
        tch::set_num_threads(1);
        let extension = self.out.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let torch = matches!(&*extension, "pt" | "pth" | "ckpt");
        if !torch && extension != "safetensors" {
            let problem = "the name says no format; expected it to end in .pt or .safetensors";
            return Err(CheckpointError::content(&self.out, problem).into());
        }
        let path = checkpoint::locate(&self.checkpoint, true)?;
        checkpoint::read_info(&path)?;
        let names = export(&path, &self.out, self.weights, self.names, self.aliases.unwrap_or(torch))?;
        let report = Report {
            kind: "export",
            checkpoint: path.display().to_string(),
            file: self.out.display().to_string(),
            tensors: names.len(),
            bytes: std::fs::metadata(&self.out)?.len(),
        };
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
        } else {
            let Report { checkpoint, file, tensors, bytes, .. } = report;
            writeln!(out, "{file}: {tensors} tensors of {checkpoint}, {:.1} MB", bytes as f64 / 1e6)?;
        }
        Ok(DONE)
    }
}
