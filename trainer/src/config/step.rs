//! The configuration of `bench step`: one batch of given structures, without a dataset.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shards::batch::{HostBatch, RowId};
use shards::graph::{Geometry, GraphBatch, GraphSpec, StructureGraph};

use super::model::ModelSection;
use super::number::{Count, Positive};
use super::sections::{LossSection, OptimizerSection, Precision};
use super::{ConfigError, ForceMode, Source};

/// `kind = "step"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    kind: StepKind,
    /// JSON list of structures, seen from the configuration's folder.
    pub structures: PathBuf,
    /// Interaction cutoff, Å.
    pub cutoff: Positive,
    /// Neighbours of the main graph.
    pub neighbors: Count,
    /// Number of tasks; structure `i` belongs to task `i` modulo this.
    pub tasks: Count,
    /// How forces come about.
    #[serde(default)]
    pub forces: ForceMode,
    /// Threads of the tensor library; all cores when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<Count>,
    /// Numbers the model computes with.
    #[serde(default)]
    pub precision: Precision,
    /// `[model]`.
    pub model: ModelSection,
    /// `[loss]`.
    #[serde(default)]
    pub loss: LossSection,
    /// `[optimizer]`.
    pub optimizer: OptimizerSection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StepKind {
    Step,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: String,
    numbers: Vec<u8>,
    positions: Vec<[f64; 3]>,
    cell: Option<[[f64; 3]; 3]>,
    pbc: [bool; 3],
    tags: Vec<u8>,
}

impl StepConfig {
    /// Whether a configuration is of this kind.
    pub fn is_meant(source: &Source) -> bool {
        #[derive(Deserialize)]
        struct KindOnly {
            kind: String,
        }
        source.parse::<KindOnly>().is_ok_and(|file| file.kind == "step")
    }

    /// The meaning of a configuration's text.
    pub fn from_source(source: &Source) -> Result<Self, ConfigError> {
        let config: Self = source.parse()?;
        super::check_model(&config.model, [config.forces], source)?;
        Ok(config)
    }

    /// The graphs that the structures get.
    pub fn graph(&self) -> GraphSpec {
        GraphSpec::new(self.cutoff.get(), self.neighbors.get() as u32)
    }

    /// Reads the structures, seen from the folder of the configuration `file`, as one batch with labels of zero.
    pub fn batch(&self, file: &Path) -> Result<HostBatch, ConfigError> {
        let path = file.parent().unwrap_or(Path::new("")).join(&self.structures);
        let text =
            fs::read_to_string(&path).map_err(|source| ConfigError::Read { file: path.clone(), source })?;
        let invalid = |message: String| ConfigError::Invalid { file: path.clone(), note: "", message };
        let records: Vec<Record> = serde_json::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        if records.is_empty() {
            return Err(invalid("no structures".to_owned()));
        }
        let (mut batch, mut graphs) = (HostBatch::default(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            let refused = |what: String| invalid(format!("structure \"{}\": {what}", record.id));
            let n = record.positions.len();
            if record.numbers.len() != n || record.tags.len() != n || n == 0 {
                let (z, t) = (record.numbers.len(), record.tags.len());
                return Err(refused(format!(
                    "{n} positions, {z} numbers and {t} tags; expected as many of each"
                )));
            }
            if let Some(z) = record.numbers.iter().find(|z| !(1..=118).contains(*z)) {
                return Err(refused(format!("atomic number {z}; known are 1 to 118")));
            }
            let geometry = Geometry {
                positions: &record.positions,
                cell: record.cell,
                pbc: record.pbc,
                tags: Some(&record.tags),
            };
            graphs.push(StructureGraph::build(&geometry, &self.graph()).map_err(|e| refused(e.to_string()))?);
            push(&mut batch, index, record, index % self.tasks.get() as usize);
        }
        batch.graph = GraphBatch::collate(&graphs);
        Ok(batch)
    }
}

fn push(batch: &mut HostBatch, index: usize, record: &Record, task: usize) {
    let n = record.numbers.len();
    batch.rows.push(RowId { dataset: task as u32, row: index as u64 });
    batch.ids.push(record.id.clone());
    batch.task.push(task as u32);
    batch.natoms.push(n as u32);
    batch.atomic_numbers.extend(&record.numbers);
    batch.positions.extend(record.positions.as_flattened());
    batch.cells.extend(record.cell.unwrap_or_default().as_flattened());
    batch.tags.extend(&record.tags);
    batch.fixed.resize(batch.fixed.len() + n, false);
    batch.energy.push(0.0);
    batch.has_energy.push(true);
    batch.energy_offset.push(0.0);
    batch.forces.resize(batch.forces.len() + 3 * n, 0.0);
    batch.has_forces.push(true);
}
