//! `jmp-tools`: reports about shards and runs.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tools::ReportError;
use tools::cmd::compare::CompareArgs;
use tools::cmd::cost::CostArgs;
use tools::cmd::element_similarity::ElementSimilarityArgs;
use tools::cmd::embedding_map::EmbeddingMapArgs;
use tools::cmd::overlap::OverlapArgs;
use tools::cmd::results::ResultsArgs;
use tools::cmd::stats::StatsArgs;

/// Reports about shards and runs.
#[derive(Debug, Parser)]
#[command(name = "jmp-tools", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What is in datasets and how runs went: one HTML page, and the same numbers as JSON and CSV.
    Stats(StatsArgs),
    /// Which structures of some sets occur in others: a matrix, lists of ids, masks for evaluation.
    Overlap(OverlapArgs),
    /// Runs side by side: curves, final errors, time to match, ablation tables.
    Compare(CompareArgs),
    /// Our errors beside the paper's, with relative improvements.
    Results(ResultsArgs),
    /// Device hours and CO₂ of runs, and of the paper's.
    Cost(CostArgs),
    /// A map of structures' embeddings (t-SNE), coloured by dataset.
    EmbeddingMap(EmbeddingMapArgs),
    /// How alike the embeddings of elements are, on periodic tables.
    ElementSimilarity(ElementSimilarityArgs),
}

fn main() -> ExitCode {
    let out = &mut std::io::stdout().lock();
    let result = match Cli::parse().command {
        Command::Stats(stats) => stats.run(out),
        Command::Overlap(overlap) => overlap.run(out),
        Command::Compare(compare) => compare.run(out),
        Command::Results(results) => results.run(out),
        Command::Cost(cost) => cost.run(out),
        Command::EmbeddingMap(map) => map.run(out),
        Command::ElementSimilarity(similarity) => similarity.run(out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let known = error.downcast_ref::<ReportError>();
            // Ours tell their cause themselves; a chain would tell it twice.
            let text = known.map_or_else(|| format!("{error:#}"), ToString::to_string);
            // A closed standard error leaves nobody to tell.
            drop(writeln!(std::io::stderr(), "error: {text}"));
            ExitCode::from(if known.is_some_and(ReportError::is_input) { 2 } else { 1 })
        }
    }
}
