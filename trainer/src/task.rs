//! Tasks: datasets opened, their labels' transforms and weights settled.

use std::path::PathBuf;

use shards::graph::GraphSpec;
use shards::statistics::ENERGY;
use shards::targets::TargetTransform;
use shards::{Dataset, Manifest, ShardError};
use thiserror::Error;

use crate::checkpoint::{Margins, TaskRecord};
use crate::config::number::Positive;
use crate::config::sections::DatasetSection;
use crate::config::{Config, ForceMode, ScalarConfig, TaskConfig};
use crate::scalar::{self, ScalarLoss, ScalarTarget};

/// Why a task cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its dataset.
    #[error(transparent)]
    Dataset(#[from] ShardError),
    /// Its target is not what the configuration takes it for.
    #[error("{}: target `{target}`: expected {expected}, found {found}", dir.display())]
    Target {
        /// The dataset.
        dir: PathBuf,
        /// The column.
        target: String,
        /// What the configuration asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A label that is to be learnt is in no structure of a split.
    #[error(
        "dataset `{name}` ({}): no structure of split `{split}` has {label}; choose another split, convert the data with \
         {label}, or do not learn it: {remedy}",
        dir.display()
    )]
    Unlabelled {
        /// Name of the task.
        name: String,
        /// The dataset.
        dir: PathBuf,
        /// The split.
        split: String,
        /// What is missing.
        label: String,
        /// How it is left out of what is learnt.
        remedy: &'static str,
    },
    /// The structures that a model is to be judged by lack what it is judged by.
    #[error(
        "dataset `{name}`: none of the structures validated on (split `{split}`, the first validation.max_structures) has \
         {label}, by which the model is judged; raise validation.max_structures or choose another split"
    )]
    Unjudged {
        /// Name of the task.
        name: String,
        /// The split.
        split: String,
        /// What is missing.
        label: String,
    },
}

/// A label that none of a split's structures has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    split: String,
    label: String,
    remedy: &'static str,
}

/// One dataset of a run with everything that follows from its manifest.
#[derive(Debug, Clone)]
pub struct Task {
    /// What the task is, as checkpoints keep it.
    pub record: TaskRecord,
    /// The dataset's directory or URL.
    pub dir: PathBuf,
    /// Split to validate on.
    pub val: Option<String>,
    /// Structures of the training split.
    pub structures: u64,
    /// Structures of the validation split, 0 without one.
    pub val_structures: u64,
    /// A label with a weight that a split lacks.
    missing: Option<Missing>,
}

impl Task {
    /// Opens the dataset of a task.
    pub fn open(config: &TaskConfig) -> Result<Self, TaskError> {
        let data = &config.data;
        let dataset = Dataset::open(&data.path)?;
        let manifest = dataset.manifest();
        let structures = manifest.split(&data.path, &data.train)?.rows;
        let val_structures = match &data.val {
            Some(val) => manifest.split(&data.path, val)?.rows,
            None => 0,
        };
        let (transform, scalar) = match &config.scalar {
            Some(scalar) => {
                let (transform, target) = scalar_target(data, scalar, manifest)?;
                (transform, Some(target))
            }
            None => (transform(config, manifest)?, None),
        };
        let force_weight = match (config.forces, config.force_weight) {
            (ForceMode::None, _) => 0.0,
            (_, Some(weight)) => weight,
            (_, None) => transform.average_atoms,
        };
        let record = TaskRecord {
            name: data.name.clone(),
            forces: config.forces,
            transform,
            scalar,
            energy_weight: config.energy_weight,
            force_weight,
            margins: Margins {
                energy: data.energy_margin.map_or(0.0, Positive::get),
                forces: data.force_margin.map_or(0.0, Positive::get),
            },
            energy_shift: None,
            head_bias: config.head_bias,
            graph: graph(data, manifest),
            split: data.train.clone(),
            manifest: manifest.hash.clone(),
        };
        let missing = missing(data, &record, manifest)?;
        let (dir, val) = (data.path.clone(), data.val.clone());
        Ok(Self { record, dir, val, structures, val_structures, missing })
    }

    /// Refuses to learn labels that are not there: their errors would be zeros.
    ///
    /// # Errors
    /// A label with a weight above 0 that no structure of the training split, or of that of validation, has.
    pub fn check_labels(&self) -> Result<(), TaskError> {
        let Some(Missing { split, label, remedy }) = self.missing.clone() else { return Ok(()) };
        Err(TaskError::Unlabelled {
            name: self.record.name.clone(),
            dir: self.dir.clone(),
            split,
            label,
            remedy,
        })
    }

    /// Opens the datasets of all tasks of a run.
    pub fn open_all(config: &Config) -> Result<Vec<Self>, TaskError> {
        config.cache.install();
        config.tasks.iter().map(Self::open).collect()
    }
}

/// The first label with a weight that the training split, or the one of validation, lacks.
fn missing(
    data: &DatasetSection,
    record: &TaskRecord,
    manifest: &Manifest,
) -> Result<Option<Missing>, ShardError> {
    for split in std::iter::once(&data.train).chain(&data.val) {
        let statistics = &manifest.split(&data.path, split)?.statistics;
        let has = |label: &str| statistics.labels.get(label).is_some_and(|measured| measured.count > 0);
        let lacks = |label: &str, remedy| Missing { split: split.clone(), label: label.to_owned(), remedy };
        if let Some(scalar) = &record.scalar {
            if !has(&scalar.name) {
                return Ok(Some(lacks(&scalar.name, "name another heads.target")));
            }
            continue;
        }
        if record.energy_weight > 0.0 && !has(ENERGY) {
            return Ok(Some(lacks(ENERGY, "energy_weight = 0 of the dataset")));
        }
        let has_forces = statistics.forces.as_ref().is_some_and(|forces| forces.structures > 0);
        if record.force_weight > 0.0 && !has_forces {
            let remedy = "force_weight = 0 of the dataset (in fine-tuning also heads.forces = \"none\")";
            return Ok(Some(lacks("forces", remedy)));
        }
    }
    Ok(None)
}

/// How labels become targets: measured by the manifest, constants of the configuration taking precedence.
///
/// A model with gradient forces has one scale for energy and forces, since its forces are the derivative of its energy:
/// the root mean square of the force components where forces are learnt.
fn transform(config: &TaskConfig, manifest: &Manifest) -> Result<TargetTransform, ShardError> {
    let data = &config.data;
    let measured_on = data.statistics.as_ref().unwrap_or(&data.train);
    let mut transform = TargetTransform::of_split(manifest, &data.path, measured_on)?;
    if data.reference == Some(false) {
        let statistics = &manifest.split(&data.path, measured_on)?.statistics;
        let energy = statistics.labels.get(ENERGY);
        transform.reference = None;
        transform.mean = energy.map_or(0.0, |e| e.mean);
        transform.std = TargetTransform::scale(energy.map(|e| e.std));
    }
    transform.mean = data.energy_mean.unwrap_or(transform.mean);
    transform.std = data.energy_std.map_or(transform.std, Positive::get);
    transform.force_std = data.force_rms.map_or(transform.force_std, Positive::get);
    if config.forces == ForceMode::Gradient {
        if config.force_weight == Some(0.0) {
            transform.force_std = transform.std;
        } else {
            transform.std = transform.force_std;
        }
    }
    Ok(transform)
}

/// How a property becomes a target, and what is told of it.
///
/// The linear reference is subtracted where the layout says so (sums over atoms), unless the configuration decides.
/// Classes are learnt as they are.
fn scalar_target(
    data: &DatasetSection,
    scalar: &ScalarConfig,
    manifest: &Manifest,
) -> Result<(TargetTransform, ScalarTarget), TaskError> {
    let refused = |expected: String, found: String| TaskError::Target {
        dir: data.path.clone(),
        target: scalar.target.clone(),
        expected,
        found,
    };
    let measured_on = data.statistics.as_ref().unwrap_or(&data.train);
    let mut transform = TargetTransform::of_label(manifest, &data.path, measured_on, &scalar.target)?;
    let measured = manifest.split(&data.path, measured_on)?.statistics.labels.get(&scalar.target);
    if let (Some(measured), Some(referenced)) = (measured, data.reference) {
        transform.reference = referenced.then(|| measured.reference.clone());
        let (mean, std) = if referenced {
            (measured.referenced.mean, measured.referenced.std)
        } else {
            (measured.mean, measured.std)
        };
        (transform.mean, transform.std) = (mean, TargetTransform::scale(Some(std)));
    }
    if matches!(scalar.loss, ScalarLoss::CrossEntropy(_)) {
        if let Some(measured) = measured.filter(|m| m.min < 0.0 || m.max > 1.0) {
            let found = format!("values from {} to {}", measured.min, measured.max);
            return Err(refused("0 and 1, which heads.loss = cross-entropy learns".to_owned(), found));
        }
        (transform.reference, transform.mean, transform.std) = (None, 0.0, 1.0);
    }
    transform.mean = scalar.mean.unwrap_or(transform.mean);
    transform.std = scalar.std.unwrap_or(transform.std);
    let column = manifest.layout.targets.iter().find(|t| t.name == scalar.target);
    let unit = column.map_or("eV", |column| column.unit.as_str());
    let told = scalar.unit.as_deref().unwrap_or(unit);
    let factor = scalar::factor(unit, told)
        .ok_or_else(|| refused(format!("heads.unit = \"{unit}\" or \"m{unit}\""), format!("\"{told}\"")))?;
    let (pooling, loss) = (scalar.pooling, scalar.loss);
    let target = ScalarTarget { name: scalar.target.clone(), unit: told.to_owned(), factor, pooling, loss };
    Ok((transform, target))
}

/// The graphs of a task: the manifest's, unless the configuration names a cutoff or neighbours of its own.
fn graph(data: &DatasetSection, manifest: &Manifest) -> GraphSpec {
    let stored = manifest.layout.graph;
    let cutoff = data.cutoff.map_or(stored.cutoff, Positive::get);
    let spec = match data.neighbors {
        Some(n) => GraphSpec::new(cutoff, n.get() as u32),
        None => GraphSpec { cutoff, ..stored },
    };
    GraphSpec { large: data.large.or(spec.large), ..spec }
}
