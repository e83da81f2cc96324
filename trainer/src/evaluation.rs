//! A checkpoint judged on a split: errors, their breakdown, and the predictions as a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use shards::manifest::write_durably;

use crate::breakdown::{Breakdown, BreakdownSums};
use crate::checkpoint::{self, CheckpointError, Info, State, TaskRecord};
use crate::config::{Config, ForceMode};
use crate::distributed::World;
use crate::evaluate::Judge;
use crate::heads::Pooling;
use crate::metrics::Errors;
use crate::network::Network;
use crate::overlap_mask::{self, MaskError};
use crate::predictions::PredictionWriter;
use crate::setup;
use crate::task::Task;

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// A run directory or a checkpoint in it.
    pub checkpoint: &'a Path,
    /// The split; the configuration's, else `test`, when absent.
    pub split: Option<&'a str>,
    /// Where predictions go; predictions-SPLIT.parquet in the run directory (or here) when absent.
    pub output: Option<&'a Path>,
    /// A mask of ids that overlap with pre-training.
    pub mask: Option<&'a Path>,
}

/// The outcome; also `evaluation-SPLIT.json` of a run directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    kind: &'static str,
    /// The split.
    pub split: String,
    /// The checkpoint that was used.
    pub checkpoint: String,
    /// The file of predictions.
    pub predictions: String,
    /// Tasks trained on forces alone: their energies are shifted by the mean error on the training split.
    pub shifted: Vec<String>,
    /// Whether references and scales are the configuration's: an imported model brings none.
    pub scales_of_configuration: bool,
    /// Errors by task.
    pub tasks: BTreeMap<String, Errors>,
    /// Errors by task, broken down.
    pub breakdown: BTreeMap<String, Breakdown>,
}

impl Evaluation {
    /// Judges a checkpoint with the datasets of a configuration, and leaves the outcome in its run directory.
    pub fn run(mut config: Config, request: Request) -> anyhow::Result<Self> {
        let path = checkpoint::locate(request.checkpoint, true)?;
        let info = checkpoint::read_info(&path)?;
        config.model = info.model.clone();
        let mut tasks = tasks_of(&config, &info, &path)?;
        let network = load(&config, &path)?;
        let shifted = settle_energies(&network, &config, &mut tasks)?;
        let own = found_on_own_data(&shifted, &tasks, &info);
        if !own.is_empty() {
            // A checkpoint that cannot be written is judged all the same, and settled again the next time.
            drop(checkpoint::keep_energy_shifts(&path, &own));
        }
        let shifted = shifted.into_keys().collect();
        let own = config.tasks.first().and_then(|task| task.data.test.as_deref());
        let split = request.split.or(own).unwrap_or("test").to_owned();
        let output =
            request.output.map_or_else(|| default_output(request.checkpoint, &split), Path::to_path_buf);
        let mask = request.mask.map(Mask::read).transpose()?;
        let scalar = tasks.first().and_then(|task| task.record.scalar.as_ref());
        let mut writer = PredictionWriter::create(&output, scalar)?;
        let alone = World::alone();
        let judge = Judge { network: &network, config: &config, tasks: &tasks, world: &alone };
        let (mut errors, mut breakdown) = (BTreeMap::new(), BTreeMap::new());
        for (index, task) in tasks.iter().enumerate() {
            let (whole, parts) = judged(judge, index, &split, mask.as_ref(), &mut writer)?;
            errors.insert(task.record.name.clone(), whole);
            breakdown.insert(task.record.name.clone(), parts);
        }
        let evaluation = Self {
            kind: "evaluation",
            split,
            checkpoint: path.display().to_string(),
            predictions: writer.finish()?.display().to_string(),
            shifted,
            scales_of_configuration: info.origin.is_some(),
            tasks: errors,
            breakdown,
        };
        evaluation.keep(request.checkpoint)?;
        Ok(evaluation)
    }

    /// Leaves the outcome in the run's directory, where `jmp-tools` finds it.
    fn keep(&self, run: &Path) -> anyhow::Result<()> {
        if run.join("config.toml").is_file() {
            let file = run.join(format!("evaluation-{}.json", self.split));
            write_durably(&file, (serde_json::to_string_pretty(self)? + "\n").as_bytes())?;
        }
        Ok(())
    }
}

/// Which ids overlap with pre-training, and the file that tells it.
struct Mask<'a> {
    file: &'a Path,
    overlaps: BTreeMap<String, bool>,
}

impl<'a> Mask<'a> {
    fn read(file: &'a Path) -> Result<Self, MaskError> {
        Ok(Self { file, overlaps: overlap_mask::read(file)? })
    }
}

/// Errors of one task on a split, whole and broken down; its predictions go to `writer`.
fn judged(
    judge: Judge,
    index: usize,
    split: &str,
    mask: Option<&Mask>,
    writer: &mut PredictionWriter,
) -> anyhow::Result<(Errors, Breakdown)> {
    let record = &judge.tasks[index].record;
    let mut parts = BreakdownSums::new(record, mask.map(|mask| &mask.overlaps));
    let mut errors = judge.errors_on(index, (split, u64::MAX), &|| false, |seen| {
        parts.observe(seen.judged, seen.prediction).map_err(|id| {
            let path = mask.map_or(PathBuf::new(), |mask| mask.file.to_path_buf());
            MaskError::Absent { path, id }
        })?;
        Ok(writer.write(record, seen.batch, seen.prediction)?)
    })?;
    if !record.has_value() {
        errors = errors.without_energies();
    }
    Ok((errors, parts.finish()))
}

/// The tasks of a configuration with the transforms and graphs that the model was trained with.
fn tasks_of(config: &Config, info: &Info, path: &Path) -> anyhow::Result<Vec<Task>> {
    // A file of weights tells no name of the task but the property's.
    let called =
        |name: &str, target: &str| if info.origin.is_some() { target.to_owned() } else { name.to_owned() };
    let then: Vec<String> = info.tasks.iter().map(described).collect();
    let now: Vec<String> = config
        .tasks
        .iter()
        .map(|task| match &task.scalar {
            Some(scalar) => {
                labelled(&called(&task.data.name, &scalar.target), &scalar.target, scalar.pooling)
            }
            None => task.data.name.clone(),
        })
        .collect();
    // Whether forces are an energy's gradient shows in no tensor: an imported model is used as configured.
    let same = |a: ForceMode, b: ForceMode| match info.origin {
        Some(_) => (a == ForceMode::Direct) == (b == ForceMode::Direct),
        None => a == b,
    };
    let same_heads = info.tasks.iter().zip(&config.tasks).all(|(a, b)| same(a.forces, b.forces));
    if info.kind != config.kind || then != now || !same_heads {
        let problem = format!(
            "cannot be judged with this configuration: it is of {} on {}, the configuration of {} on {}; choose the --task it was \
             trained for",
            info.kind.name(),
            then.join(", "),
            config.kind.name(),
            now.join(", ")
        );
        return Err(CheckpointError::content(path, problem).into());
    }
    let mut tasks = Task::open_all(config)?;
    for (task, record) in tasks.iter_mut().zip(&info.tasks).filter(|_| info.origin.is_none()) {
        task.record.transform = record.transform.clone();
        task.record.graph = record.graph;
        task.record.energy_weight = record.energy_weight;
        task.record.force_weight = record.force_weight;
        // Energies are settled on the split that was trained on; on other data they have another zero.
        if task.record.manifest == record.manifest {
            task.record.energy_shift = record.energy_shift;
            task.record.split.clone_from(&record.split);
        }
    }
    Ok(tasks)
}

/// The constants of tasks whose data is what the model was trained on.
fn found_on_own_data(shifts: &BTreeMap<String, f64>, tasks: &[Task], info: &Info) -> BTreeMap<String, f64> {
    let own = tasks
        .iter()
        .zip(&info.tasks)
        .filter(|(task, then)| info.origin.is_none() && task.record.manifest == then.manifest);
    own.filter_map(|(task, _)| Some((task.record.name.clone(), *shifts.get(&task.record.name)?))).collect()
}

fn described(record: &TaskRecord) -> String {
    match &record.scalar {
        Some(scalar) => labelled(&record.name, &scalar.name, scalar.pooling),
        None => record.name.clone(),
    }
}

/// `phonons (last_phdos_peak, pooling max)`.
fn labelled(task: &str, target: &str, pooling: Pooling) -> String {
    format!("{task} ({target}, pooling {})", pooling.name())
}

/// A model trained on forces alone knows energies up to a constant: it is chosen so that the mean error on the training
/// split vanishes, unless the checkpoint knows it from an earlier evaluation. Returns the constants of such tasks, eV.
fn settle_energies(
    network: &Network,
    config: &Config,
    tasks: &mut [Task],
) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut shifted = BTreeMap::new();
    for index in 0..tasks.len() {
        let record = &tasks[index].record;
        if record.learns_value() || !record.has_value() {
            continue;
        }
        let alone = World::alone();
        let judge = Judge { network, config, tasks, world: &alone };
        let shift = match record.energy_shift {
            Some(shift) => Some(shift),
            None => judge.energy_constant(index)?.map(|constant| record.transform.std * constant),
        };
        if let Some(shift) = shift {
            let record = &mut tasks[index].record;
            record.transform.mean += shift;
            shifted.insert(record.name.clone(), shift);
        }
    }
    Ok(shifted)
}

fn load(config: &Config, path: &Path) -> anyhow::Result<Network> {
    let network = setup::network(config, setup::device(config, None)?);
    let weights = State::read_weights(path)?.into_best_weights();
    network.load(&weights).map_err(|e| CheckpointError::content(path, e.to_string()))?;
    Ok(network)
}

fn default_output(checkpoint: &Path, split: &str) -> PathBuf {
    let dir = if checkpoint.join("config.toml").is_file() { checkpoint } else { Path::new(".") };
    dir.join(format!("predictions-{split}.parquet"))
}
