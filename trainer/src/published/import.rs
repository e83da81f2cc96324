//! From a file of weights to a checkpoint of ours.

use std::collections::BTreeMap;
use std::path::Path;

use shards::graph::GraphSpec;
use shards::targets::TargetTransform;
use tch::{Device, Kind, Tensor, nn, no_grad};

use super::names::{Group, first_name, reason_to_ignore};
use super::sizes::EMBEDDINGS;
use super::{GroupRow, Ignored, Layout, Report, Weights, WeightsFile, infer};
use crate::checkpoint::{CheckpointError, Info, Margins, Origin, SCHEMA_VERSION, State, TaskRecord};
use crate::config::model::{ModelSection, Preset};
use crate::config::{ForceMode, RunKind};
use crate::gemnet::{Backbone, Init};
use crate::heads::{AtomEmbedding, EnergyHead, ForceHead, Pooling, PretrainHeads, ScalarHead};
use crate::network::{Bias, HeadLayout};
use crate::scalar::{ScalarLoss, ScalarTarget};
use crate::schedule::{FineTuneRates, FineTuneSchedule, Position, Schedule, WarmupCosine};

/// The published models' tasks, in the order of their heads.
const PUBLISHED_TASKS: [&str; 4] = ["oc20", "oc22", "ani1x", "transition1x"];

/// This many faults are told; the first show what is wrong.
const FAULTS_TOLD: usize = 8;

/// How the pooling of a property's head, which shows in no shape, is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KnownPooling {
    /// It is not: such a head is refused.
    #[default]
    No,
    /// The user says so.
    Named(Pooling),
    /// Nobody asks, because the head is not used.
    NotNeeded,
}

/// What to take, and how strictly.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which weights; averaged ones where the file has them when absent.
    pub weights: Option<Weights>,
    /// The size that is expected; any when absent.
    pub preset: Option<Preset>,
    /// Names of the tasks in the order of their heads.
    pub tasks: Vec<String>,
    /// How the atoms' numbers become a property, for a model of one.
    pub pooling: KnownPooling,
    /// Whether tensors that have no place in the model are left out instead of refused.
    pub ignore_unknown: bool,
}

/// A model taken from a file, ready to be written as a checkpoint.
#[derive(Debug)]
pub struct Imported {
    /// What was taken.
    pub report: Report,
    /// What it is, for `state.json`.
    pub info: Info,
    /// Its tensors.
    pub state: State,
}

/// Reads a file into a model of the sizes that its shapes show.
///
/// Every tensor of that model must be there with its shape, and no other may be, except those that are known to carry
/// nothing. Tensors are read one at a time.
///
/// # Errors
/// A file that is none of the known forms, or does not hold such a model; the first faults are told by name.
pub fn import(path: &Path, options: &Options) -> Result<Imported, CheckpointError> {
    let mut file = WeightsFile::open(path)?;
    let refused = |problem: String| CheckpointError::content(path, problem);
    let weights = match options.weights {
        Some(weights) => weights,
        None if file.has_averages() => Weights::Ema,
        None => Weights::Model,
    };
    if weights == Weights::Ema {
        file.match_averages()?;
    }
    let mut layout = infer(file.offers()).map_err(|problem| refused(format!("no GemNet-OC: {problem}")))?;
    settle_pooling(&mut layout, options.pooling).map_err(refused)?;
    let model = model_section(&layout, options.preset).map_err(refused)?;
    let tasks = task_names(&layout, &options.tasks).map_err(refused)?;
    let store = frame(&layout);
    let wanted: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
    let sources = sources(&file, &wanted);
    let ignored = left_out(&mut file, &sources, options.ignore_unknown)?;
    check(&file, &wanted, &sources, &model)?;

    let mut report = Report {
        kind: "import",
        file: path.display().to_string(),
        checkpoint: None,
        weights,
        has_averages: file.has_averages(),
        model,
        tasks,
        step: file.step(),
        parameters: 0,
        groups: BTreeMap::new(),
        ignored,
        fitted_scale_factors: 0,
    };
    fill(&mut file, &wanted, &sources, &mut report)?;
    let info = info(&report, &layout);
    Ok(Imported { report, info, state: State { model: wanted, ..State::default() } })
}

/// The `[model]` section for a layout, if it is one that this program can build and the caller expects.
fn model_section(layout: &Layout, expected: Option<Preset>) -> Result<ModelSection, String> {
    let elements = crate::gemnet::GemNetConfig::small().num_elements;
    if layout.config.num_elements != elements {
        let found = layout.config.num_elements;
        return Err(format!("the atom embedding has {found} elements, expected {elements}"));
    }
    let section = ModelSection::of(&layout.config)
        .ok_or("a number of layers is 0; this program builds at least one of each kind")?;
    match expected {
        Some(preset) if section.preset != preset || section.sizes.count() > 0 => {
            let found = match section.sizes.count() {
                0 => section.preset.name().to_owned(),
                n => format!("{} with {n} sizes changed", section.preset.name()),
            };
            Err(format!("the shapes are those of {found}, expected {}", preset.name()))
        }
        _ => Ok(section),
    }
}

/// Gives a property's head the pooling that the user names.
fn settle_pooling(layout: &mut Layout, known: KnownPooling) -> Result<(), String> {
    let is_radius = |pooling| pooling == Pooling::SquaredRadius;
    match (&mut layout.heads, known) {
        (HeadLayout::Scalar(found), KnownPooling::Named(named)) if is_radius(*found) == is_radius(named) => {
            *found = named;
            Ok(())
        }
        (HeadLayout::Scalar(found), KnownPooling::Named(named)) => {
            let found = if is_radius(*found) { "without biases, that of squared-radius" } else { "with biases" };
            Err(format!("--pooling {}: the property's head is one {found}", named.name()))
        }
        (HeadLayout::Scalar(Pooling::Sum), KnownPooling::No) => Err(
            "a model of a property; how its atoms are pooled shows in no shape: import it with --pooling sum, mean or max"
                .to_owned(),
        ),
        (HeadLayout::Scalar(_), _) | (_, KnownPooling::No | KnownPooling::NotNeeded) => Ok(()),
        (_, KnownPooling::Named(_)) => {
            Err("--pooling is for models of a property; this one has no such head".to_owned())
        }
    }
}

fn task_names(layout: &Layout, given: &[String]) -> Result<Vec<String>, String> {
    let heads = match layout.heads {
        HeadLayout::Joint(tasks) => tasks,
        HeadLayout::Single(..) | HeadLayout::Scalar(_) => 1,
    };
    if !given.is_empty() {
        if given.len() == heads {
            return Ok(given.to_vec());
        }
        return Err(format!("the file has heads for {heads} tasks, --tasks names {}", given.len()));
    }
    if layout.heads == HeadLayout::Joint(PUBLISHED_TASKS.len()) {
        return Ok(PUBLISHED_TASKS.map(str::to_owned).to_vec());
    }
    Ok((0..heads).map(|i| format!("task{i}")).collect())
}

/// All tensors of such a network, zero, without the work of drawing initial weights.
fn frame(layout: &Layout) -> nn::VarStore {
    let (store, config) = (nn::VarStore::new(Device::Cpu), &layout.config);
    let root = store.root();
    let _backbone = Backbone::with_init(&(&root / "backbone"), config, Init::Zeros);
    match layout.heads {
        HeadLayout::Joint(tasks) => {
            let _embedding = AtomEmbedding::new(&(&root / "embedding" / "atom_embedding"), config);
            let _heads = PretrainHeads::new(&(&root / "output"), tasks, config);
        }
        HeadLayout::Single(forces, bias) => {
            let _embedding = AtomEmbedding::new(&(&root / "embedding"), config);
            let _energy = EnergyHead::new(&(&root / "out_energy"), config, bias == Bias::With);
            if forces == ForceMode::Direct {
                let _forces = ForceHead::new(&(&root / "out_forces"), config);
            }
        }
        HeadLayout::Scalar(pooling) => {
            let _embedding = AtomEmbedding::new(&(&root / "embedding"), config);
            let _scalar = ScalarHead::new(&(&root / "out_scalar"), config, pooling);
        }
    }
    store
}

/// The name in the file of each wanted tensor that the file has.
fn sources(file: &WeightsFile, wanted: &BTreeMap<String, Tensor>) -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    for name in wanted.keys() {
        let candidates: Vec<&str> =
            if EMBEDDINGS.contains(&name.as_str()) { EMBEDDINGS.to_vec() } else { vec![name.as_str()] };
        let found = candidates.into_iter().find(|candidate| file.offers().contains_key(*candidate));
        sources.extend(found.map(|source| (name.clone(), source.to_owned())));
    }
    sources
}

/// Tensors of the file that are not taken, by reason; unknown ones are refused unless they may be ignored.
fn left_out(
    file: &mut WeightsFile,
    sources: &BTreeMap<String, String>,
    ignore_unknown: bool,
) -> Result<Vec<Ignored>, CheckpointError> {
    const UNKNOWN: &str = "tensors that have no place in this model";
    let used: std::collections::BTreeSet<&String> = sources.values().collect();
    let rest: Vec<String> = file.offers().keys().filter(|name| !used.contains(name)).cloned().collect();
    let mut ignored: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in rest {
        if let Some(first) = first_name(&name)
            && file.offers().contains_key(&first)
            && !file.are_equal(&name, &first)?
        {
            let problem = format!("tensor `{name}` should be the same as `{first}`, but differs");
            return Err(CheckpointError::content(file.path(), problem));
        }
        ignored.entry(reason_to_ignore(&name).unwrap_or(UNKNOWN)).or_default().push(name);
    }
    if let Some(names) = ignored.get(UNKNOWN).filter(|_| !ignore_unknown) {
        let told: Vec<String> = names.iter().take(FAULTS_TOLD).map(|name| format!("`{name}`")).collect();
        let problem = format!(
            "{} {UNKNOWN}: {}{}; --ignore-unknown leaves them out",
            names.len(),
            told.join(", "),
            if names.len() > FAULTS_TOLD { ", …" } else { "" }
        );
        return Err(CheckpointError::content(file.path(), problem));
    }
    Ok(ignored.into_iter().map(|(reason, names)| Ignored { reason: reason.to_owned(), names }).collect())
}

/// Every wanted tensor is there with its shape and a floating-point type.
fn check(
    file: &WeightsFile,
    wanted: &BTreeMap<String, Tensor>,
    sources: &BTreeMap<String, String>,
    model: &ModelSection,
) -> Result<(), CheckpointError> {
    let mut faults = Vec::new();
    for (name, tensor) in wanted {
        let Some(offer) = sources.get(name).and_then(|source| file.offers().get(source)) else {
            if Group::of(name) != Group::Constants {
                faults.push(format!("tensor `{name}` is missing"));
            }
            continue;
        };
        if offer.shape != tensor.size() {
            let expected = tensor.size();
            faults.push(format!("tensor `{name}`: expected shape {expected:?}, found {:?}", offer.shape));
        } else if !matches!(offer.kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
            faults.push(format!("tensor `{name}`: expected floating-point numbers, found {:?}", offer.kind));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let all = faults.len();
    faults.truncate(FAULTS_TOLD);
    let more = if all > FAULTS_TOLD { format!("\n  … {all} in all") } else { String::new() };
    let problem = format!(
        "does not hold the model that its shapes suggest ({}):\n  {}{more}",
        model.preset.name(),
        faults.join("\n  ")
    );
    Err(CheckpointError::content(file.path(), problem))
}

/// Copies the tensors, in single precision, and counts them.
fn fill(
    file: &mut WeightsFile,
    wanted: &BTreeMap<String, Tensor>,
    sources: &BTreeMap<String, String>,
    report: &mut Report,
) -> Result<(), CheckpointError> {
    for (name, tensor) in wanted {
        let group = Group::of(name);
        let row: &mut GroupRow = report.groups.entry(group).or_default();
        let Some(source) = sources.get(name) else {
            row.missing += 1;
            continue;
        };
        row.taken += 1;
        row.elements += tensor.numel() as u64;
        if tensor.requires_grad() {
            report.parameters += tensor.numel() as u64;
        }
        let values = file.read(source, report.weights == Weights::Ema)?;
        let mut target = tensor.shallow_clone();
        no_grad(|| target.f_copy_(&values))
            .map_err(|e| CheckpointError::content(file.path(), format!("tensor `{name}`: {e}")))?;
        let sound = bool::try_from(target.isfinite().all());
        if !sound.is_ok_and(|sound| sound) {
            let problem = format!("tensor `{name}` holds NaN or infinite numbers");
            return Err(CheckpointError::content(file.path(), problem));
        }
        if group == Group::ScaleFactors && target.double_value(&[]) != 0.0 {
            report.fitted_scale_factors += 1;
        }
    }
    Ok(())
}

fn info(report: &Report, layout: &Layout) -> Info {
    let file = Path::new(&report.file).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (kind, forces, schedule) = match layout.heads {
        HeadLayout::Joint(_) => (RunKind::Pretrain, ForceMode::Direct, Schedule::Pretrain(no_schedule())),
        HeadLayout::Single(forces, _) => (RunKind::Finetune, forces, Schedule::Finetune(no_rates())),
        HeadLayout::Scalar(_) => (RunKind::Finetune, ForceMode::None, Schedule::Finetune(no_rates())),
    };
    let head_bias = matches!(layout.heads, HeadLayout::Single(_, Bias::With));
    let pooling = match layout.heads {
        HeadLayout::Scalar(pooling) => Some(pooling),
        HeadLayout::Joint(_) | HeadLayout::Single(..) => None,
    };
    let task = |name: &String| TaskRecord { head_bias, ..task(name, forces, pooling) };
    Info {
        schema_version: SCHEMA_VERSION,
        kind,
        position: Position { step: report.step.unwrap_or(0), samples: 0 },
        minutes: 0.0,
        cursor: serde_json::Value::Null,
        schedule,
        seed: 0,
        loss_scale: None,
        best: None,
        stale_validations: 0,
        skipped: 0,
        left_out: 0,
        validation_due: false,
        model: report.model.clone(),
        tasks: report.tasks.iter().map(task).collect(),
        config: String::new(),
        origin: Some(Origin { file, weights: report.weights.name().to_owned() }),
        files: BTreeMap::new(),
    }
}

/// A task whose labels are not known: the transform is the identity until the data gives one. A property, which `pooling` shows
/// it to be, is taken to have the task's name.
fn task(name: &str, forces: ForceMode, pooling: Option<Pooling>) -> TaskRecord {
    let property = |pooling| ScalarTarget {
        name: name.to_owned(),
        unit: String::new(),
        factor: 1.0,
        pooling,
        loss: ScalarLoss::L1,
    };
    let transform = TargetTransform {
        label: if pooling.is_some() { name } else { shards::statistics::ENERGY }.to_owned(),
        reference: None,
        mean: 0.0,
        std: 1.0,
        force_std: 1.0,
        average_atoms: 1.0,
    };
    TaskRecord {
        name: name.to_owned(),
        forces,
        transform,
        scalar: pooling.map(property),
        energy_weight: 1.0,
        force_weight: 1.0,
        margins: Margins::default(),
        energy_shift: None,
        head_bias: false,
        graph: GraphSpec::new(12.0, 30),
        split: String::new(),
        manifest: String::new(),
    }
}

/// An imported model is not in the middle of a run: there is nothing to resume.
fn no_schedule() -> WarmupCosine {
    WarmupCosine {
        lr: 0.0,
        warmup_steps: 0,
        warmup_factor: 1.0,
        final_factor: 1.0,
        batch: 1,
        total_samples: 1,
    }
}

fn no_rates() -> FineTuneSchedule {
    FineTuneSchedule::new(FineTuneRates {
        groups: Vec::new(),
        warmup_steps: 0,
        warmup_factor: 1.0,
        cosine_steps: 0,
        plateau: None,
    })
}
