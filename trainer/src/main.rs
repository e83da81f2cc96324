//! `jmp-train`: pre-training, fine-tuning, evaluation.

use std::process::ExitCode;

use clap::Parser;
use trainer::cmd::Cli;

fn main() -> ExitCode {
    Cli::parse().run(&mut std::io::stdout())
}
