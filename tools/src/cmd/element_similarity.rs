//! `jmp-tools element-similarity`: which elements a model finds alike.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::page_args::PageArgs;
use crate::embedding::{similarity, similarity_page, table};

/// Arguments of `element-similarity`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    jmp-train embed --checkpoint runs/pretrain shards/ani1x --output e.parquet --atoms atoms.parquet\n  \
    jmp-tools element-similarity atoms.parquet --elements H,C,Cu --output elements.html\n\n\
    Exit codes: 0 done, 1 failed (report cannot be written), 2 bad input or usage.")]
pub struct ElementSimilarityArgs {
    /// A file of `jmp-train embed --atoms`.
    #[arg(value_name = "FILE.parquet")]
    file: PathBuf,
    /// The elements to compare with all others, by symbol.
    #[arg(long, value_name = "SYMBOL,…", value_delimiter = ',', default_value = "H,C,N,O,Co,Cu")]
    elements: Vec<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl ElementSimilarityArgs {
    /// Runs the command; what is said goes to `out`.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        self.page.check()?;
        let elements = table::elements(&self.file)?;
        let report = similarity::compare(&self.file.display().to_string(), &elements, &self.elements)?;
        self.page.finish(&report, &similarity_page::document(&report), (&[], &[]), out)
    }
}
