//! The reference's values of one mixed batch, and a learner that is to come to them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use shards::LinearReference;
use shards::batch::{HostBatch, RowId};
use shards::graph::{Geometry, GraphBatch, GraphSpec, StructureGraph};
use shards::targets::TargetTransform;
use tch::{Device, Kind, Tensor};
use trainer::checkpoint::{Margins, TaskRecord};
use trainer::config::sections::{LossSection, Precision, Reduction};
use trainer::config::{Config, ForceMode, Source};
use trainer::learner::{Learner, Rules};
use trainer::loss::{Loss, TaskWeights};
use trainer::network::{HeadLayout, Network};
use trainer::schedule::{Schedule, WarmupCosine};

use crate::fill;
use crate::npz::{self, Array};

const TASKS: [&str; 4] = ["oc20", "oc22", "ani1x", "transition1x"];

#[allow(clippy::disallowed_methods, reason = "where golden files lie is the tests' own setting")]
fn folder() -> PathBuf {
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/training"));
    std::env::var("JMP_TRAINING_GOLDEN_DIR").map_or(default, PathBuf::from)
}

pub(crate) struct Golden {
    pub(crate) arrays: BTreeMap<String, Array>,
    names: Vec<String>,
    pub(crate) divisors: BTreeMap<String, f64>,
}

impl Golden {
    pub(crate) fn read() -> Self {
        let steps = folder().join("steps");
        let table = std::fs::read_to_string(steps.join("params.tsv")).unwrap();
        let (mut names, mut divisors) = (Vec::new(), BTreeMap::new());
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            names.push(fields[1].to_owned());
            if let Some(divisor) = fields.get(3).and_then(|d| d.trim().parse().ok()) {
                divisors.insert(fields[1].to_owned(), divisor);
            }
        }
        assert_eq!((names.len(), divisors.len()), (215, 12));
        Self { arrays: npz::read(&steps.join("step_tiny_pt.npz")), names, divisors }
    }

    pub(crate) fn get(&self, key: &str) -> &[f64] {
        &self.arrays.get(key).unwrap_or_else(|| panic!("no array {key}")).data
    }

    /// The two probe values of each parameter.
    fn probes(&self, key: &str) -> BTreeMap<&str, [f64; 2]> {
        let pairs = self.get(key).chunks_exact(2).map(|p| [p[0], p[1]]);
        self.names.iter().map(String::as_str).zip(pairs).collect()
    }

    /// The batch, its targets as the file has them.
    pub(crate) fn batch(&self) -> HostBatch {
        self.structures(0..self.get("natoms").len())
    }

    /// Some of its structures.
    fn structures(&self, wanted: Range<usize>) -> HostBatch {
        let triples = |key: &str| -> Vec<[f64; 3]> {
            self.get(key).chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect()
        };
        let (positions, cells) = (triples("pos"), triples("cell"));
        let tags: Vec<u8> = self.get("tags").iter().map(|t| *t as u8).collect();
        let natoms: Vec<usize> = self.get("natoms").iter().map(|n| *n as usize).collect();
        let start: usize = natoms[..wanted.start].iter().sum();
        let (mut graphs, mut first) = (Vec::new(), start);
        for g in wanted.clone() {
            let end = first + natoms[g];
            let geometry = Geometry {
                positions: &positions[first..end],
                cell: Some([cells[3 * g], cells[3 * g + 1], cells[3 * g + 2]]),
                pbc: [self.get("pbc")[g] != 0.0; 3],
                tags: Some(&tags[first..end]),
            };
            let spec = GraphSpec::new(self.get("cutoff")[g], self.get("max_neighbors")[g] as u32);
            graphs.push(StructureGraph::build(&geometry, &spec).unwrap());
            first = end;
        }
        let (atoms, components) = (start..first, 3 * start..3 * first);
        let count = wanted.len();
        HostBatch {
            rows: vec![RowId { dataset: 0, row: 0 }; count],
            ids: wanted.clone().map(|g| g.to_string()).collect(),
            task: self.get("task")[wanted.clone()].iter().map(|t| *t as u32).collect(),
            natoms: natoms[wanted.clone()].iter().map(|n| *n as u32).collect(),
            atomic_numbers: self.get("atomic_numbers")[atoms.clone()].iter().map(|z| *z as u8).collect(),
            positions: self.get("pos")[components.clone()].to_vec(),
            cells: self.get("cell")[9 * wanted.start..9 * wanted.end].to_vec(),
            tags: tags[atoms.clone()].to_vec(),
            fixed: self.get("fixed")[atoms].iter().map(|f| *f != 0.0).collect(),
            energy: self.get("energy_target")[wanted].to_vec(),
            has_energy: vec![true; count],
            energy_offset: vec![0.0; count],
            forces: self.get("force_target")[components].to_vec(),
            has_forces: vec![true; count],
            graph: GraphBatch::collate(&graphs),
            ..HostBatch::default()
        }
    }

    /// The batch with the labels of `whole`, in micro-batches of so many structures.
    pub(crate) fn micro_batches(&self, whole: &HostBatch, sizes: &[usize]) -> Vec<HostBatch> {
        let (mut first, mut atom, mut parts) = (0, 0, Vec::new());
        for (index, size) in sizes.iter().enumerate() {
            let own = first..first + size;
            let part = self.structures(own.clone());
            let components = 3 * atom..3 * (atom + part.atoms());
            (first, atom) = (own.end, atom + part.atoms());
            parts.push(HostBatch {
                energy: whole.energy[own.clone()].to_vec(),
                has_energy: whole.has_energy[own.clone()].to_vec(),
                forces: whole.forces[components].to_vec(),
                has_forces: whole.has_forces[own].to_vec(),
                index: index as u32,
                ..part
            });
        }
        assert_eq!(first, whole.structures());
        parts
    }

    pub(crate) fn network(&self) -> Network {
        let network = Network::new(&config().model, HeadLayout::Joint(4), 0, Precision::F64, Device::Cpu);
        fill::fill(network.store());
        let names: Vec<String> = trainable(&network).into_keys().collect();
        let mut wanted = self.names.clone();
        wanted.sort();
        assert_eq!(names, wanted);
        network
    }

    pub(crate) fn transform(&self, task: usize) -> TargetTransform {
        let table = &self.get("linref")[100 * task..100 * (task + 1)];
        let coefficients = (1..100).map(|z| (z as u8, table[z])).collect();
        let reference = LinearReference {
            split: "train".into(),
            coefficients,
            structures: 1,
            rank: Some(1),
            condition: Some(1.0),
            given: None,
        };
        TargetTransform {
            label: "energy".into(),
            reference: Some(reference),
            mean: self.get("energy_mean")[task],
            std: self.get("energy_std")[task],
            force_std: self.get("force_rms")[task],
            average_atoms: 1.0,
        }
    }
}

fn trainable(network: &Network) -> BTreeMap<String, Tensor> {
    network.store().variables().into_iter().filter(|(_, t)| t.requires_grad()).collect()
}

fn config() -> Config {
    let mut text = r#"
        kind = "pretrain"
        run = { dir = "unused", device = "cpu", precision = "f64" }
        model = { preset = "tiny" }
        sampling = { batch_size = 8 }
        optimizer = { lr = 3e-4, betas = [0.9, 0.95], weight_decay = 0.1, clip = { norm = 1.0 }, ema = 0.99 }
        schedule = { epochs = 1, warmup_steps = 0 }
    "#
    .to_owned();
    for name in TASKS {
        text.extend(["\n[[dataset]]\nname = \"", name, "\"\npath = \"unused\"\n"]);
    }
    Config::from_source(&Source::from_text(Path::new("golden.toml"), text, &[]).unwrap()).unwrap()
}

#[track_caller]
pub(crate) fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-300), "{what}: got {got:e}, want {want:e}");
}

/// `[L2 norm, dot with the probe vector]` of each named tensor against the file's, relative to the norm.
#[track_caller]
pub(crate) fn check_probes(golden: &Golden, tensors: &BTreeMap<String, Tensor>, key: &str, tolerance: f64) {
    for (name, [norm, dot]) in golden.probes(key) {
        let values = Vec::<f64>::try_from(tensors[name].flatten(0, -1)).unwrap();
        let got_norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let seed = format!("probe:{name}");
        let got_dot: f64 = values.iter().zip(fill::centred(&seed)).map(|(x, p)| x * p).sum();
        for (got, want) in [(got_norm, norm), (got_dot, dot)] {
            assert!(
                (got - want).abs() <= tolerance * norm + 1e-18,
                "{key} {name}: got {got:e}, want {want:e}"
            );
        }
    }
}

#[track_caller]
pub(crate) fn check_tensor(golden: &Golden, tensor: &Tensor, key: &str, tolerance: f64) {
    let got = Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap();
    for (i, (got, want)) in got.iter().zip(golden.get(key)).enumerate() {
        assert!((got - want).abs() <= tolerance, "{key}[{i}]: got {got:e}, want {want:e}");
    }
}

pub(crate) fn loss(golden: &Golden, reduction: Reduction, free_atoms_only: bool) -> Loss {
    let example = Tensor::zeros([1], (Kind::Double, Device::Cpu));
    let rule = LossSection { reduction, free_atoms_only, ..LossSection::default() };
    let lambdas = golden.get("lambda_E").iter().zip(golden.get("lambda_F"));
    let weights: Vec<TaskWeights> = lambdas
        .map(|(&energy, &forces)| TaskWeights { energy, forces, energy_margin: 0.0, force_margin: 0.0 })
        .collect();
    Loss::new(rule, &weights, &example)
}

/// A learner of the golden tasks with a constant learning rate.
pub(crate) fn learner(golden: &Golden, loss: LossSection, lr: f64) -> Learner {
    let record = |task: usize| TaskRecord {
        name: TASKS[task].to_owned(),
        forces: ForceMode::Direct,
        transform: golden.transform(task),
        scalar: None,
        energy_weight: golden.get("lambda_E")[task],
        force_weight: golden.get("lambda_F")[task],
        margins: Margins::default(),
        energy_shift: None,
        head_bias: false,
        graph: GraphSpec::new(12.0, 30),
        split: "train".to_owned(),
        manifest: String::new(),
    };
    let constant = WarmupCosine {
        lr,
        warmup_steps: 0,
        warmup_factor: 1.0,
        final_factor: 1.0,
        batch: 8,
        total_samples: 1000,
    };
    let tasks: Vec<TaskRecord> = (0..4).map(record).collect();
    let config = config();
    let rules =
        Rules { optimizer: &config.optimizer, loss, seed: config.run.seed, precision: Precision::F64 };
    Learner::new(rules, &tasks, golden.network(), Schedule::Pretrain(constant), |_| 0).unwrap()
}
