//! What a dataset's directory tells: from the manifest where it knows, from the Parquet files where it does not.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use shards::graph::GraphSpec;
use shards::layout::NeighborStorage;
use shards::splits::SplitRecord;
use shards::statistics::{ENERGY, ElementCount, ForceStatistics, LabelStatistics};
use shards::{Dataset, FloatWidth, Manifest, element};

use crate::counts::{CountDistribution, Table};
use crate::distribution::RealDistribution;
use crate::error::ReportError;
use crate::histogram::{Bin, Histogram, Spacing};
use crate::lists::{self, CheckResult};
use crate::memory::{self, GraphMemory};
use crate::sample::{self, Sample};

/// Rejected structures listed by id; all are in `rejects.parquet`.
const LISTED_REJECTS: u32 = 20;
/// Structures listed for each check; more are in `outliers.parquet`.
const LISTED_SUSPECTS: usize = 20;

/// One dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetReport {
    /// Short name.
    pub name: String,
    /// Where it lies, as given.
    pub directory: String,
    /// `molecules`, `surfaces`, ….
    pub domain: String,
    /// Functional, basis or code that made the labels.
    pub level_of_theory: String,
    /// Licence of the data.
    pub licence: String,
    /// Label → unit: energy, forces and scalar targets that any structure has.
    pub labels: BTreeMap<String, String>,
    /// Rows over all parts.
    pub rows: u64,
    /// Atoms over all parts.
    pub atoms: u64,
    /// Parquet files.
    pub parts: usize,
    /// Their size.
    pub bytes: u64,
    /// Files converted.
    pub sources: usize,
    /// Their size.
    pub source_bytes: u64,
    /// Width of positions and forces.
    pub float: FloatWidth,
    /// The graphs that were counted.
    pub graph: GraphSpec,
    /// Neighbours stored.
    pub neighbors: NeighborStorage,
    /// The split with most rows: elements, sizes and forces are its.
    pub overview_split: Option<String>,
    /// The split to train on: references and the mix are its.
    pub training_split: Option<String>,
    /// Symbol → occurrence in the overview split, by atomic number.
    pub elements: Vec<Element>,
    /// All splits by name.
    pub splits: Vec<SplitSummary>,
    /// Structures by number of atoms, over all rows.
    pub sizes: Histogram,
    /// Atoms by force length, eV/Å, in the overview split; zero forces left out.
    pub force_norms: Option<Histogram>,
    /// Atoms with a force below the histogram's range (zero).
    pub zero_forces: u64,
    /// Edges, triplets, quadruplets a structure, over all rows.
    pub counts: Vec<CountDistribution>,
    /// Energy divided by the number of atoms, over all rows.
    pub energy_per_atom: Option<RealDistribution>,
    /// What the graphs weigh in the published models.
    pub memory: Vec<GraphMemory>,
    /// What only decoded structures tell, with energies after the training split's linear reference.
    pub sample: Option<Sample>,
    /// What the physics checks found; empty for a dataset of schema version 1, which has none.
    pub checks: Vec<CheckResult>,
    /// Structures rejected at conversion, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// The first of them: id and what was wrong.
    pub first_rejects: Vec<(String, String)>,
}

/// Occurrence of an element.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Element {
    /// Chemical symbol.
    pub symbol: String,
    /// Atomic number.
    pub atomic_number: u8,
    /// Structures with it.
    pub structures: u64,
    /// Atoms of it.
    pub atoms: u64,
    /// The energy's linear reference in the training split, eV; absent where the fit lacks the element.
    pub reference: Option<f64>,
}

/// A split in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitSummary {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// How its rows were chosen.
    pub algorithm: String,
    /// The seed, where the choice was random.
    pub seed: Option<u64>,
    /// Mean atoms a structure.
    pub atoms_mean: Option<f64>,
    /// Fewest atoms.
    pub atoms_min: u32,
    /// Most atoms.
    pub atoms_max: u32,
    /// Label → its distribution and reference.
    pub labels: BTreeMap<String, LabelSummary>,
    /// Forces, eV/Å.
    pub forces: Option<ForceSummary>,
}

/// A label before and after its linear reference, in its own unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelSummary {
    /// Structures that have it.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Mean after the reference.
    pub referenced_mean: f64,
    /// Standard deviation after it.
    pub referenced_std: f64,
    /// Mean absolute value after it.
    pub referenced_mae: f64,
    /// Largest absolute value after it.
    pub referenced_max: f64,
    /// Rank of the fit.
    pub rank: Option<usize>,
    /// Elements in the fit; a rank below this leaves coefficients undetermined.
    pub elements: usize,
    /// Condition number of the count matrix.
    pub condition: Option<f64>,
}

/// Forces of a split, eV/Å.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ForceSummary {
    /// Structures with forces.
    pub structures: u64,
    /// Root mean square of the components.
    pub rms: f64,
    /// Mean length.
    pub mean_norm: f64,
    /// Largest length.
    pub max_norm: f64,
}

/// Reads a dataset. About `sample` structures are decoded, chosen by `seed`.
pub fn gather(dir: &Path, sample: u64, seed: u64) -> Result<DatasetReport, ReportError> {
    if !dir.join("manifest.json").exists() && dir.join("metrics.jsonl").is_file() {
        let dir = dir.display();
        return Err(ReportError::Usage(format!("{dir} is a run, not a dataset: give it as --run {dir}")));
    }
    let dataset = Dataset::open(dir)?;
    let manifest = dataset.manifest();
    let overview = overview_split(manifest);
    let training = training_split(manifest).or(overview);
    let reference = training.and_then(|(_, s)| s.statistics.labels.get(ENERGY)).map(|l| &l.reference);
    let table = Table::open(&dataset)?;
    let forces = overview.and_then(|(_, s)| s.statistics.forces.as_ref());
    let (force_norms, zero_forces) = forces.map(force_norms).unzip();
    let filled = !table.is_empty();
    let counts = if filled { table.counts()? } else { vec![] };
    let found = manifest.checks.as_ref().map(|c| &c.counts);
    Ok(DatasetReport {
        name: manifest.dataset.name.clone(),
        directory: dir.display().to_string(),
        domain: manifest.dataset.domain.clone(),
        level_of_theory: manifest.dataset.level_of_theory.clone(),
        licence: manifest.dataset.licence.clone(),
        labels: labels(manifest),
        rows: manifest.rows,
        atoms: manifest.atoms,
        parts: manifest.parts.len(),
        bytes: manifest.parts.iter().map(|p| p.bytes).sum(),
        sources: manifest.sources.len(),
        source_bytes: manifest.sources.iter().map(|s| s.bytes).sum(),
        float: manifest.layout.float,
        graph: manifest.layout.graph,
        neighbors: manifest.layout.neighbors,
        overview_split: overview.map(|(name, _)| name.clone()),
        training_split: training.map(|(name, _)| name.clone()),
        elements: elements(overview.map(|(_, s)| &s.statistics.elements), |z| {
            reference.and_then(|r| r.coefficients.get(&z).copied())
        }),
        splits: manifest.splits.iter().map(|(name, record)| split_summary(name, record)).collect(),
        sizes: Histogram::of_integers(&if filled { table.sizes()? } else { BTreeMap::new() }),
        force_norms,
        zero_forces: zero_forces.unwrap_or(0),
        memory: memory::of(&counts),
        counts,
        energy_per_atom: if filled { table.energy_per_atom()? } else { None },
        sample: if filled { Some(sample::gather(&dataset, reference, sample, seed)?) } else { None },
        checks: found.map_or(Ok(vec![]), |counts| lists::checks(dir, counts, LISTED_SUSPECTS))?,
        rejects: manifest.rejects.clone(),
        first_rejects: lists::first_rejects(dir, LISTED_REJECTS)?,
    })
}

/// The split with most rows; of equal ones `all`, then one to train on, then the first by name.
fn overview_split(manifest: &Manifest) -> Option<(&String, &SplitRecord)> {
    let rank = |name: &str| (name == "all", name.starts_with("train"));
    manifest.splits.iter().rev().max_by_key(|(name, record)| (record.rows, rank(name)))
}

/// `train`, or the first split whose name begins so.
fn training_split(manifest: &Manifest) -> Option<(&String, &SplitRecord)> {
    let mut named = manifest.splits.iter().filter(|(name, _)| name.starts_with("train"));
    manifest.splits.get_key_value("train").or_else(|| named.next())
}

fn labels(manifest: &Manifest) -> BTreeMap<String, String> {
    let statistics = || manifest.splits.values().map(|s| &s.statistics);
    let known = |label: &str| statistics().any(|s| s.labels.get(label).is_some_and(|l| l.count > 0));
    let mut labels = BTreeMap::new();
    if known(ENERGY) {
        labels.insert(ENERGY.to_string(), "eV".to_string());
    }
    if statistics().any(|s| s.forces.is_some()) {
        labels.insert("forces".to_string(), "eV/Å".to_string());
    }
    let targets = manifest.layout.targets.iter().filter(|t| known(&t.name));
    labels.extend(targets.map(|t| (t.name.clone(), t.unit.clone())));
    labels
}

fn elements(
    counts: Option<&BTreeMap<u8, ElementCount>>,
    reference: impl Fn(u8) -> Option<f64>,
) -> Vec<Element> {
    let known = counts.into_iter().flatten();
    known
        .map(|(&z, count)| Element {
            symbol: element::symbol(z).to_string(),
            atomic_number: z,
            structures: count.structures,
            atoms: count.atoms,
            reference: reference(z),
        })
        .collect()
}

fn split_summary(name: &str, record: &SplitRecord) -> SplitSummary {
    let s = &record.statistics;
    SplitSummary {
        name: name.to_string(),
        rows: record.rows,
        algorithm: record.algorithm.clone(),
        seed: record.seed,
        atoms_mean: (s.structures > 0).then(|| s.atoms as f64 / s.structures as f64),
        atoms_min: s.atoms_min,
        atoms_max: s.atoms_max,
        labels: s.labels.iter().map(|(label, l)| (label.clone(), label_summary(l))).collect(),
        forces: s.forces.as_ref().map(|f| ForceSummary {
            structures: f.structures,
            rms: f.rms,
            mean_norm: f.mean_norm,
            max_norm: f.max_norm,
        }),
    }
}

fn label_summary(l: &LabelStatistics) -> LabelSummary {
    LabelSummary {
        count: l.count,
        mean: l.mean,
        std: l.std,
        min: l.min,
        max: l.max,
        referenced_mean: l.referenced.mean,
        referenced_std: l.referenced.std,
        referenced_mae: l.referenced.mae,
        referenced_max: l.referenced.max_abs,
        rank: l.reference.rank,
        elements: l.reference.coefficients.len(),
        condition: l.reference.condition,
    }
}

/// The manifest's quarter-decade bins with their edges in eV/Å, and the atoms without a force.
fn force_norms(forces: &ForceStatistics) -> (Histogram, u64) {
    // Bin −40 holds zero and whatever is below 10⁻¹⁰ eV/Å.
    const LOWEST: i32 = -40;
    let edge = |k: i32| 10f64.powf(f64::from(k) / 4.0);
    let bins = forces.log_norm_histogram.iter().filter(|&(&k, _)| k > LOWEST);
    let bins = bins.map(|(&k, &count)| Bin { low: edge(k), high: edge(k + 1), count }).collect();
    let zero = forces.log_norm_histogram.get(&LOWEST).copied().unwrap_or(0);
    (Histogram { spacing: Spacing::Log, bins }, zero)
}

impl DatasetReport {
    /// The split of that name.
    pub fn split(&self, name: Option<&str>) -> Option<&SplitSummary> {
        self.splits.iter().find(|s| Some(s.name.as_str()) == name)
    }
}
