//! The commands of `jmp-train`.

mod ablate;
mod bench;
mod counter;
mod embed;
mod evaluate;
mod export;
mod fit_scales;
mod forwarded;
mod import;
mod launch;
mod plan;
mod predict;
mod ranks;
mod replay;
mod sweep;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::distributed::DistributedError;
use crate::inference::embedding::RowsError;
use crate::inference::frames::FramesError;
use crate::overlap_mask::MaskError;
use crate::run_dir::RunDirError;
use crate::sweep::SweepError;
use crate::task::TaskError;
use shards::ShardError;
use shards::remote::ByteSize;
use thiserror::Error;

/// Everything done.
pub const DONE: u8 = 0;
/// It was tried and failed, or was stopped before its end.
pub const FAILED: u8 = 1;
/// Bad input or usage.
pub const BAD_INPUT: u8 = 2;

/// Pre-train, fine-tune and evaluate GemNet-OC on shards.
#[derive(Debug, Parser)]
#[command(name = "jmp-train", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Joint pre-training on several datasets.
    ///
    /// Example: jmp-train pretrain configs/pretrain/small-cpu.toml --set run.dir=runs/first
    Pretrain(launch::PretrainArgs),
    /// Fine-tuning of a pre-trained model on one dataset, with fresh heads.
    ///
    /// Example: jmp-train finetune configs/finetune/rmd17-ethanol.toml --checkpoint runs/first
    Finetune(launch::FinetuneArgs),
    /// Errors of a checkpoint on a split, and its predictions as Parquet.
    ///
    /// Example: jmp-train evaluate configs/finetune/rmd17-ethanol.toml --checkpoint runs/ethanol --split test
    Evaluate(evaluate::EvaluateArgs),
    /// Energies, forces or properties of structures in extended XYZ, or in a conversation over a pipe.
    ///
    /// Example: jmp-train predict --checkpoint runs/ethanol in.extxyz out.extxyz
    Predict(predict::PredictArgs),
    /// Embeddings averaged over each structure of datasets, and the vectors of elements, as Parquet.
    ///
    /// Example: jmp-train embed --checkpoint runs/first shards/ani1x shards/oc20 --sample 1000 --output embeddings.parquet
    Embed(embed::EmbedArgs),
    /// Fine-tuning over a grid of settings, with a table at the end; interrupted, the same command goes on.
    ///
    /// Example: jmp-train sweep configs/finetune/qm9.toml --task U_0 --variant scratch --scratch --dir runs/sweep
    Sweep(sweep::SweepArgs),
    /// Weights of other programs as a checkpoint: the published models, state dicts, safetensors.
    ///
    /// Example: jmp-train import jmp-s.pt checkpoints/jmp-s
    Import(import::ImportArgs),
    /// A checkpoint's weights as a state dict for PyTorch, or as safetensors.
    ///
    /// Example: jmp-train export runs/first jmp.pt
    Export(export::ExportArgs),
    /// Fits the factors that keep the variance of activations on training data, and stores them as JSON.
    ///
    /// Example: jmp-train fit-scales configs/pretrain/small-cpu.toml --output scales.json
    FitScales(fit_scales::FitScalesArgs),
    /// The run before it runs: mix, steps, first structures.
    ///
    /// Example: jmp-train plan configs/pretrain/small-cpu.toml
    Plan(plan::PlanArgs),
    /// All rows of an ablation table: pre-trained, fine-tuned, evaluated, compared. Goes on where it was stopped.
    ///
    /// Example: jmp-train ablate configs/ablation --scale cpu --output runs/ablation
    Ablate(ablate::AblateArgs),
    /// A step that failed, once more: RUN/failures/step-N holds what it takes.
    ///
    /// Example: jmp-train replay runs/first/failures/step-00000012
    Replay(replay::ReplayArgs),
    /// How fast the loader or the training step is, with a configuration's data and model.
    ///
    /// Example: jmp-train bench step configs/pretrain/small-cpu.toml --json
    Bench(bench::BenchArgs),
}

/// What all commands with a configuration share.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Overrides a setting: key=value, for example optimizer.lr=1e-4 or dataset.ani1x.path=shards/ani1x. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where datasets at URLs are kept on this machine: cache.dir of the configuration.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Most that is kept there, for example 500GB: cache.size of the configuration.
    #[arg(long, value_name = "SIZE")]
    cache_size: Option<ByteSize>,
    /// Megabytes that the loader of each rank may take: sampling.memory of the configuration. Too few for its windows are refused.
    #[arg(long, value_name = "MB")]
    memory: Option<u64>,
    /// The task, of a file with [tasks] (the files of configs/finetune).
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// The size, of a file with [sizes].
    #[arg(long, value_name = "NAME")]
    size: Option<String>,
    /// The fold, of a file whose splits have folds.
    #[arg(long, value_name = "N")]
    fold: Option<u32>,
    /// A variant, of a file with [variants]. Repeatable.
    #[arg(long, value_name = "NAME")]
    variant: Vec<String>,
    /// Tell nothing but errors.
    #[arg(long)]
    quiet: bool,
    /// One JSON object a line on standard output instead of text.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

impl CommonArgs {
    /// All settings of the command line that replace the configuration's, choices from a template included.
    fn overrides(&self) -> Vec<String> {
        // As TOML strings, whatever they look like.
        let text = |key: &str, value: String| format!("{key}={}", toml::Value::String(value));
        let chosen = |key: &str, name: &Option<String>| name.clone().map(|name| text(key, name));
        let variants = (!self.variant.is_empty()).then(|| format!("variant={:?}", self.variant));
        let settings = [
            chosen("task", &self.task),
            chosen("size", &self.size),
            self.fold.map(|fold| format!("fold={fold}")),
            variants,
            self.cache.as_ref().map(|dir| text("cache.dir", dir.display().to_string())),
            self.cache_size.map(|size| text("cache.size", size.to_string())),
            self.memory.map(|megabytes| format!("sampling.memory={megabytes}")),
        ];
        self.set.iter().cloned().chain(settings.into_iter().flatten()).collect()
    }

    fn mode(&self) -> crate::progress::Mode {
        match (self.quiet, self.json) {
            (true, _) => crate::progress::Mode::Quiet,
            (_, true) => crate::progress::Mode::Json,
            _ => crate::progress::Mode::Human,
        }
    }
}

/// Where a checkpoint lies.
#[derive(Debug, Clone, Args)]
pub struct CheckpointArgs {
    /// A run directory (its best checkpoint, else its last) or one checkpoint in it.
    #[arg(long, value_name = "CKPT")]
    checkpoint: PathBuf,
}

impl Cli {
    /// Runs the command, with its results on `out`.
    pub fn run(&self, out: &mut dyn Write) -> ExitCode {
        match self.execute(out) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                // Nothing is left to tell a closed standard error.
                drop(writeln!(std::io::stderr(), "error: {error:#}"));
                ExitCode::from(exit_code(&error))
            }
        }
    }

    fn execute(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match &self.command {
            Command::Pretrain(args) => args.run(out),
            Command::Finetune(args) => args.run(out),
            Command::Evaluate(args) => args.run(out),
            Command::Predict(args) => args.run(out),
            Command::Embed(args) => args.run(out),
            Command::Sweep(args) => args.run(out),
            Command::Import(args) => args.run(out),
            Command::Export(args) => args.run(out),
            Command::FitScales(args) => args.run(out),
            Command::Plan(args) => args.run(out),
            Command::Ablate(args) => args.run(out),
            Command::Replay(args) => args.run(out),
            Command::Bench(args) => args.run(out),
        }
    }
}

/// Arguments that do not go together in a way that clap cannot tell.
#[derive(Debug, Error)]
#[error("{0}")]
struct Usage(String);

fn usage(message: String) -> Usage {
    Usage(message)
}

/// 2 where the input is to blame, 1 otherwise.
fn exit_code(error: &anyhow::Error) -> u8 {
    let is_input = error.chain().any(|cause| {
        cause.is::<ConfigError>()
            || cause.is::<CheckpointError>()
            || cause.is::<ShardError>()
            || cause.is::<RunDirError>()
            || cause.downcast_ref::<DistributedError>().is_some_and(DistributedError::is_input)
            || cause.is::<predict::FileError>()
            || cause.is::<RowsError>()
            || cause.downcast_ref::<FramesError>().is_some_and(FramesError::is_bad_input)
            || cause.is::<TaskError>()
            || cause.is::<Usage>()
            || cause.is::<SweepError>()
            || cause.is::<MaskError>()
    });
    if is_input { BAD_INPUT } else { FAILED }
}
