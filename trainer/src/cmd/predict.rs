//! `jmp-train predict`: energies, forces and properties of structures in extended XYZ.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;
use thiserror::Error;

use super::counter::Counter;
use super::{DONE, FAILED};
use crate::config::sections::Precision;
use crate::inference::frames::{Reading, predict_frames};
use crate::inference::serve::serve;
use crate::inference::{Budget, Model, ModelOptions, Predictor};
use crate::published::Weights;
use crate::signals::Signals;

/// Files that cannot be read or written as asked.
#[derive(Debug, Error)]
pub(super) enum FileError {
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error("{} exists: remove it, or choose another name", path.display())]
    Exists { path: PathBuf },
    #[error("{} is a directory; expected a file in extended XYZ, or - for standard input", path.display())]
    Directory { path: PathBuf },
}

/// Arguments of `predict`.
#[allow(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// Extended XYZ, as ASE writes it; - reads standard input.
    #[arg(value_name = "IN.extxyz", required_unless_present = "serve")]
    input: Option<PathBuf>,
    /// The same frames with the model's results; it must be new. - writes to standard output.
    #[arg(value_name = "OUT.extxyz", required_unless_present = "serve")]
    output: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Which task of a model of several.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Dataset whose references, scales and graphs an imported model is used with.
    #[arg(long, value_name = "DIR")]
    statistics: Option<PathBuf>,
    /// Split of that dataset.
    #[arg(long, value_name = "SPLIT", default_value = "train")]
    statistics_split: String,
    /// Answer questions on standard input, one JSON object a line, until it ends (docs/predict.md).
    #[arg(long, conflicts_with_all = ["input", "output", "json"])]
    serve: bool,
    /// Structures computed at a time, at most.
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Atoms computed at a time, at most; a larger structure is computed alone.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    batch_atoms: u32,
    /// The column `tags` means something else than sub-surface (0), surface (1) and adsorbate (2).
    #[arg(long)]
    ignore_tags: bool,
    /// Tell nothing but errors.
    #[arg(long)]
    quiet: bool,
    /// The report as one JSON object, on standard output (standard error if the frames go there).
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// Which model, and on what it runs.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// A run directory (its best checkpoint, else its last), one checkpoint in it, or a file of weights (.pt,
    /// .safetensors).
    #[arg(long, value_name = "CKPT")]
    checkpoint: PathBuf,
    /// Which weights; the averaged ones where there are any when absent.
    #[arg(long, value_enum)]
    weights: Option<Weights>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Threads of the tensor library; all cores when absent.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    threads: Option<i32>,
    /// Numbers the model computes with; those of its training when absent.
    #[arg(long, value_enum)]
    precision: Option<Width>,
}

/// [`Precision`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Width {
    F32,
    F64,
    Bf16,
}

impl ModelArgs {
    /// Opens the model.
    pub(super) fn open(&self) -> anyhow::Result<Model> {
        let precision = self.precision.map(|width| match width {
            Width::F32 => Precision::F32,
            Width::F64 => Precision::F64,
            Width::Bf16 => Precision::Bf16,
        });
        let options = ModelOptions {
            device: self.device.clone(),
            threads: self.threads,
            precision,
            weights: self.weights,
        };
        Ok(Model::open(&self.checkpoint, &options)?)
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    kind: &'static str,
    checkpoint: String,
    task: &'a str,
    /// Name of what is predicted beside forces; null: forces alone.
    label: Option<&'a str>,
    forces: bool,
    output: String,
    structures: u64,
    seconds: f64,
    /// Whether a signal ended it before its end.
    stopped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl PredictArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let (Some(input), Some(output)) = (&self.input, &self.output) else {
            return self.answer(out);
        };
        // What is wrong with the files is told before a model of a gigabyte is read.
        let reader = open(input)?;
        if !is_dash(output) {
            check_new(output)?;
        }
        let predictor = self.predictor()?;
        let signals = Signals::listen().context("listening for signals")?;
        let mut counter = Counter::new(None, self.quiet || self.json);
        let done = if is_dash(output) {
            // Frames come in many small writes, and standard output would pass on each line.
            self.predict(&predictor, reader, &mut BufWriter::new(&mut *out), (&mut counter, signals))
        } else {
            self.predict_into(&predictor, reader, output, (&mut counter, signals))
        };
        counter.close();
        let name = || if is_dash(input) { "standard input".to_owned() } else { input.display().to_string() };
        let count = done.with_context(name)?;
        let report = Report {
            kind: "prediction",
            checkpoint: predictor.model().path.display().to_string(),
            task: predictor.task(),
            label: predictor.has_value().then(|| predictor.label()),
            forces: predictor.has_forces(),
            output: output.display().to_string(),
            structures: count,
            seconds: counter.seconds(),
            stopped: signals.is_stop_asked(),
            note: predictor.note(),
        };
        let stopped = report.stopped;
        if is_dash(output) {
            self.tell(&report, &mut std::io::stderr())?;
        } else {
            self.tell(&report, out)?;
        }
        Ok(if stopped { FAILED } else { DONE })
    }

    fn answer(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let predictor = self.predictor()?;
        serve(&predictor, std::io::stdin().lock(), out).context("the conversation")?;
        Ok(DONE)
    }

    fn predictor(&self) -> anyhow::Result<Predictor> {
        let statistics = self.statistics.as_deref().map(|dir| (dir, self.statistics_split.as_str()));
        Predictor::new(self.model.open()?, self.task.as_deref(), statistics)
    }

    /// Writes to a file that gets its name when all is in it.
    fn predict_into(
        &self,
        predictor: &Predictor,
        reader: impl BufRead + Send + 'static,
        output: &Path,
        (counter, signals): (&mut Counter, &Signals),
    ) -> anyhow::Result<u64> {
        let partial = PathBuf::from(format!("{}.partial", output.display()));
        let cannot = || format!("cannot write {}", partial.display());
        let mut file = BufWriter::new(File::create(&partial).with_context(cannot)?);
        let done = self.predict(predictor, reader, &mut file, (counter, signals));
        file.flush().with_context(cannot)?;
        let count = match (done, std::fs::metadata(&partial).with_context(cannot)?.len()) {
            (Ok(count), _) => count,
            (Err(error), 0) => {
                std::fs::remove_file(&partial).with_context(cannot)?;
                return Err(error);
            }
            (Err(error), _) => {
                // The reason follows as the program's last line.
                drop(writeln!(std::io::stderr(), "the frames before the fault are in {}", partial.display()));
                return Err(error);
            }
        };
        file.get_ref().sync_all().with_context(cannot)?;
        if signals.is_stop_asked() {
            return Ok(count);
        }
        std::fs::rename(&partial, output).with_context(|| format!("cannot rename {}", partial.display()))?;
        Ok(count)
    }

    fn predict(
        &self,
        predictor: &Predictor,
        reader: impl BufRead + Send + 'static,
        out: &mut impl Write,
        (counter, signals): (&mut Counter, &Signals),
    ) -> anyhow::Result<u64> {
        let budget = Budget { structures: self.batch_size as usize, atoms: self.batch_atoms as usize };
        let reading = Reading { budget, ignore_tags: self.ignore_tags };
        let done = predict_frames(predictor, reader, out, reading, |count| {
            counter.set(count);
            !signals.is_stop_asked()
        });
        Ok(done?)
    }

    fn tell(&self, report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.json {
            return Ok(writeln!(out, "{}", serde_json::to_string(report)?)?);
        }
        if self.quiet {
            return Ok(());
        }
        let Report { label, structures, seconds, output, .. } = report;
        let what = match (label, report.forces) {
            (Some(label), true) => format!("{label} and forces"),
            (Some(label), false) => (*label).to_owned(),
            (None, _) => "forces".to_owned(),
        };
        let rate = *structures as f64 / seconds.max(1e-9);
        if let Some(note) = &report.note {
            writeln!(out, "{note}")?;
        }
        if report.stopped {
            let place = if output == "-" { "-".to_owned() } else { format!("{output}.partial") };
            return Ok(writeln!(out, "stopped by a signal after {structures} structures: {place}")?);
        }
        Ok(writeln!(out, "{what} of {structures} structures, {rate:.1} a second: {output}")?)
    }
}

fn is_dash(path: &Path) -> bool {
    path == Path::new("-")
}

/// Nothing of anyone's is overwritten.
pub(super) fn check_new(path: &Path) -> Result<(), FileError> {
    if path.exists() { Err(FileError::Exists { path: path.to_path_buf() }) } else { Ok(()) }
}

fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead + Send>> {
    const BUFFER: usize = 1 << 18;
    if is_dash(path) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, std::io::stdin())));
    }
    if path.is_dir() {
        return Err(FileError::Directory { path: path.to_path_buf() }.into());
    }
    let file = File::open(path).map_err(|source| FileError::Open { path: path.to_path_buf(), source })?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}
