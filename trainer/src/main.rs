//! `jmp-train`: pre-training, fine-tuning, evaluation.

use std::process::ExitCode;

use clap::Parser;
use trainer::cmd::Cli;

fn main() -> ExitCode {
    trainer::native::load_cuda();
    Cli::parse().run(&mut std::io::stdout())
}
