//! `jmp-tools embedding-map`: which structures a model finds alike.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::page_args::PageArgs;
use crate::embedding::map::{self, MapReport};
use crate::embedding::table::{self, Level};
use crate::embedding::tsne::{EXACT, Settings};
use crate::embedding::{map_page, sample};
use crate::error::ReportError;
use crate::number::significant;

/// Arguments of `embedding-map`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    jmp-train embed --checkpoint runs/pretrain shards/ani1x shards/oc20 --sample 2000 --output embeddings.parquet\n  \
    jmp-tools embedding-map embeddings.parquet --output map.html\n\n\
    Exit codes: 0 done, 1 failed (report cannot be written), 2 bad input or usage.")]
pub struct EmbeddingMapArgs {
    /// Files of `jmp-train embed --output`, all of one model.
    #[arg(value_name = "FILE.parquet", required = true)]
    files: Vec<PathBuf>,
    /// Structures shown of each dataset, chosen by the seed.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    per_dataset: u64,
    /// About how many neighbours a point has on the map.
    #[arg(long, value_name = "P", default_value_t = 30.0)]
    perplexity: f64,
    /// Steps of t-SNE.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    iterations: u64,
    /// Seed of the choice and of the map.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    page: PageArgs,
}

impl EmbeddingMapArgs {
    /// Runs the command; what is said goes to `out`, progress to standard error.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        self.page.check()?;
        if !(self.perplexity.is_finite() && self.perplexity > 1.0) {
            let text = format!("--perplexity: expected a number above 1, found {}", self.perplexity);
            return Err(ReportError::Usage(text).into());
        }
        let report = self.report()?;
        let places = self.page.output.with_extension("parquet");
        report.write_places(&places)?;
        let lines: Vec<String> = report
            .maps
            .iter()
            .map(|m| {
                format!(
                    "{} level: {} structures, divergence {}",
                    m.level,
                    m.places.len(),
                    significant(m.divergence, 4)
                )
            })
            .collect();
        self.page.finish(&report, &map_page::document(&report), (&lines, &[places]), out)
    }

    fn report(&self) -> Result<MapReport, ReportError> {
        let read = self.files.iter().map(|path| Ok((path.clone(), table::structures(path)?)));
        let structures = map::joined(&read.collect::<Result<Vec<_>, ReportError>>()?)?;
        let chosen = sample::rows(&structures.datasets, self.per_dataset as usize, self.seed);
        let mut maps = vec![];
        for (name, level) in [("node", &structures.node), ("edge", &structures.edge)] {
            maps.extend(self.level(name, level, &chosen));
        }
        if maps.is_empty() {
            let text = format!(
                "{}: fewer than three structures have an embedding; a map needs some hundred",
                self.files[0].display()
            );
            return Err(ReportError::Usage(text));
        }
        let pick = |of: &[String]| chosen.iter().map(|row| of[*row].clone()).collect();
        Ok(MapReport {
            files: self.files.iter().map(|f| f.display().to_string()).collect(),
            seed: self.seed,
            iterations: self.iterations as usize,
            datasets: map::counts(&structures.datasets, &chosen),
            maps,
            names: pick(&structures.datasets),
            ids: pick(&structures.ids),
            formulas: pick(&structures.formulas),
        })
    }

    fn level(&self, name: &'static str, level: &Level, chosen: &[usize]) -> Option<map::LevelMap> {
        let bar = if self.page.quiet { ProgressBar::hidden() } else { ProgressBar::new(self.iterations) };
        let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} · {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("{name} level"));
        let settings = Settings {
            perplexity: self.perplexity,
            iterations: self.iterations as usize,
            seed: self.seed,
            exact: EXACT,
        };
        let map = map::level(name, level, chosen, settings, |iteration| bar.set_position(iteration as u64));
        bar.finish_and_clear();
        map
    }
}
