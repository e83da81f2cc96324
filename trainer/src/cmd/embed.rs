//! `jmp-train embed`: what a model makes of structures and elements, as vectors.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use shards::{Dataset, RowSet};
use tch::Kind;

use super::counter::Counter;
use super::predict::{ModelArgs, check_new};
use super::{DONE, FAILED};
use crate::inference::embedding::{AtomTable, EmbeddingFile, Row, Wanted, rows, sample};
use crate::inference::{Budget, Model, Prepared};
use crate::signals::Signals;

/// Arguments of `embed`.
#[derive(Debug, Args)]
pub(super) struct EmbedArgs {
    /// Datasets: directories of shards, each with a name of its own if wanted (NAME=DIR).
    #[arg(required = true, value_name = "[NAME=]DIR")]
    datasets: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// The file of averaged embeddings, one row a structure; it must be new.
    #[arg(long, value_name = "FILE.parquet")]
    output: PathBuf,
    /// Also write the vectors of the elements to this file; it must be new.
    #[arg(long, value_name = "FILE.parquet")]
    atoms: Option<PathBuf>,
    /// Split of each dataset; all rows when absent.
    #[arg(long)]
    split: Option<String>,
    /// Only so many structures of each dataset, chosen at random.
    #[arg(long, value_name = "N")]
    sample: Option<u64>,
    /// Seed of that choice.
    #[arg(long, default_value = "0", requires = "sample")]
    seed: u64,
    /// Structures computed at a time, at most.
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Atoms computed at a time, at most; a larger structure is computed alone.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    batch_atoms: u32,
    /// Tell nothing but errors.
    #[arg(long)]
    quiet: bool,
    /// The report as one JSON object.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// A dataset and the rows of it that are wanted.
type Chosen = (Dataset, RowSet);

#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    checkpoint: String,
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    atoms: Option<String>,
    structures: u64,
    node_width: usize,
    edge_width: usize,
    seconds: f64,
}

impl EmbedArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        check_new(&self.output)?;
        self.atoms.as_deref().map(check_new).transpose()?;
        let (names, wanted) = self.wanted()?;
        let model = self.model.open()?;
        let (names, wanted) = with_graphs(&model, names, wanted);
        let total: u64 = wanted.iter().map(|w| w.rows.len()).sum();
        if let Some(path) = &self.atoms {
            write_atoms(&model, path)?;
        }
        let signals = Signals::listen().context("listening for signals")?;
        let mut counter = Counter::new(Some(total), self.quiet || self.json);
        let config = model.network.config();
        let widths = (config.emb_size_atom as usize, config.emb_size_edge as usize);
        let checkpoint = model.path.display().to_string();
        let mut file = EmbeddingFile::create(&self.output, widths, &checkpoint)?;
        let budget = Budget { structures: self.batch_size as usize, atoms: self.batch_atoms as usize };
        let mut structures = 0;
        for batch in rows(wanted, budget).context("cannot start a thread")? {
            let batch: Vec<(Row, Prepared)> = batch?;
            let averages = model.averages(batch.iter().map(|(_, prepared)| prepared))?;
            file.write(&names, &batch, &averages)?;
            structures += batch.len() as u64;
            counter.set(structures);
            if signals.is_stop_asked() {
                counter.close();
                drop(writeln!(
                    std::io::stderr(),
                    "stopped by a signal; {} is not written",
                    self.output.display()
                ));
                return Ok(FAILED);
            }
        }
        file.finish()?;
        counter.close();
        let report = Report {
            kind: "embedding",
            checkpoint,
            output: self.output.display().to_string(),
            atoms: self.atoms.as_ref().map(|path| path.display().to_string()),
            structures,
            node_width: widths.0,
            edge_width: widths.1,
            seconds: counter.seconds(),
        };
        self.tell(&report, out)?;
        Ok(DONE)
    }

    /// The datasets by name, each with its rows.
    fn wanted(&self) -> anyhow::Result<(Vec<String>, Vec<Chosen>)> {
        let (mut names, mut wanted) = (Vec::new(), Vec::new());
        for given in &self.datasets {
            let (name, dir) = name_and_dir(given);
            let dataset = Dataset::open(dir)?;
            let rows = match &self.split {
                Some(split) => dataset.split(split)?,
                None => RowSet::from_range(0..dataset.rows()),
            };
            let rows = match self.sample {
                Some(count) => {
                    let places = sample(rows.len(), count, self.seed);
                    RowSet::from_rows(places.into_iter().map(|k| rows.nth(k)).collect())
                }
                None => rows,
            };
            names.push(name.map_or_else(|| dataset.name().to_owned(), str::to_owned));
            wanted.push((dataset, rows));
        }
        Ok((names, wanted))
    }

    fn tell(&self, report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(report)?)?);
        }
        if self.quiet {
            return Ok(());
        }
        let Report { structures, node_width, edge_width, output, seconds, .. } = report;
        let rate = *structures as f64 / seconds.max(1e-9);
        writeln!(
            out,
            "embeddings of {structures} structures ({node_width} numbers from nodes, {edge_width} from edges), \
             {rate:.1} a second: {output}"
        )?;
        if let Some(atoms) = &report.atoms {
            writeln!(out, "vectors of elements: {atoms}")?;
        }
        Ok(())
    }
}

/// `NAME=DIR`, or a directory. A path that exists as it is written is a path, whatever `=` is in it.
fn name_and_dir(given: &str) -> (Option<&str>, &Path) {
    match given.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !name.contains('/') && !Path::new(given).exists() => {
            (Some(name), Path::new(dir))
        }
        _ => (None, Path::new(given)),
    }
}

/// The graphs a model was trained on where a task has the dataset's name, else those of the manifest.
fn with_graphs(model: &Model, names: Vec<String>, wanted: Vec<Chosen>) -> (Vec<String>, Vec<Wanted>) {
    let graph = |name: &String, dataset: &Dataset| {
        let trained = model.info.tasks.iter().find(|t| t.name == *name && model.info.origin.is_none());
        trained.map_or(dataset.layout().graph, |task| task.graph)
    };
    let with =
        |(name, (dataset, rows)): (&String, Chosen)| Wanted { graph: graph(name, &dataset), dataset, rows };
    let wanted = names.iter().zip(wanted).map(with).collect();
    (names, wanted)
}

fn write_atoms(model: &Model, path: &Path) -> anyhow::Result<()> {
    let table = model.network.element_vectors();
    let width = table.size()[1] as usize;
    let vectors = Vec::<f32>::try_from(table.to_kind(Kind::Float).flatten(0, -1))?;
    // A task without a reference says nothing of the elements it has seen.
    let references = model.info.tasks.iter().map(|task| task.transform.reference.as_ref());
    let trained: Option<BTreeSet<u8>> = references
        .map(|reference| Some(reference?.coefficients.keys().copied()))
        .try_fold(BTreeSet::new(), |mut all, elements| {
            all.extend(elements?);
            Some(all)
        });
    let trained = trained.filter(|_| !model.info.tasks.is_empty());
    let table = AtomTable { vectors: &vectors, width, trained: trained.as_ref() };
    Ok(table.write(path, &model.path.display().to_string())?)
}
