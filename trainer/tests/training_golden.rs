//! One mixed batch of four tasks against the reference's training code: losses in both reductions, gradients before and
//! after the division of shared parameters and clipping, three AdamW steps, the average of the weights.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed read fails the test")]

#[path = "golden/fill.rs"]
mod fill;
#[allow(dead_code, reason = "shapes are looked at by the other golden tests")]
#[path = "golden/npz.rs"]
mod npz;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use npz::Array;
use shards::LinearReference;
use shards::batch::{HostBatch, RowId};
use shards::graph::{Geometry, GraphBatch, GraphSpec, StructureGraph};
use shards::targets::TargetTransform;
use tch::{Device, Kind, Tensor};
use trainer::checkpoint::{Margins, TaskRecord};
use trainer::clip::Clip;
use trainer::config::sections::{LossSection, Precision, Reduction};
use trainer::config::{Config, ForceMode, Source};
use trainer::learner::{Learner, Rules};
use trainer::loss::{Loss, LossCounts, TaskWeights};
use trainer::network::{HeadLayout, Network};
use trainer::parameters::{Parameters, norm};
use trainer::schedule::{Schedule, WarmupCosine};

const TASKS: [&str; 4] = ["oc20", "oc22", "ani1x", "transition1x"];

#[allow(clippy::disallowed_methods, reason = "where golden files lie is the tests' own setting")]
fn folder() -> PathBuf {
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/training"));
    std::env::var("JMP_TRAINING_GOLDEN_DIR").map_or(default, PathBuf::from)
}

struct Golden {
    arrays: BTreeMap<String, Array>,
    names: Vec<String>,
    divisors: BTreeMap<String, f64>,
}

impl Golden {
    fn read() -> Self {
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

    fn get(&self, key: &str) -> &[f64] {
        &self.arrays.get(key).unwrap_or_else(|| panic!("no array {key}")).data
    }

    /// The two probe values of each parameter.
    fn probes(&self, key: &str) -> BTreeMap<&str, [f64; 2]> {
        let pairs = self.get(key).chunks_exact(2).map(|p| [p[0], p[1]]);
        self.names.iter().map(String::as_str).zip(pairs).collect()
    }

    /// The batch, its targets as the file has them.
    fn batch(&self) -> HostBatch {
        let triples = |key: &str| -> Vec<[f64; 3]> {
            self.get(key).chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect()
        };
        let (positions, cells) = (triples("pos"), triples("cell"));
        let tags: Vec<u8> = self.get("tags").iter().map(|t| *t as u8).collect();
        let natoms: Vec<u32> = self.get("natoms").iter().map(|n| *n as u32).collect();
        let (mut graphs, mut first) = (Vec::new(), 0);
        for (g, n) in natoms.iter().enumerate() {
            let end = first + *n as usize;
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
        let g = natoms.len();
        HostBatch {
            rows: vec![RowId { dataset: 0, row: 0 }; g],
            ids: (0..g).map(|i| i.to_string()).collect(),
            task: self.get("task").iter().map(|t| *t as u32).collect(),
            natoms,
            atomic_numbers: self.get("atomic_numbers").iter().map(|z| *z as u8).collect(),
            positions: self.get("pos").to_vec(),
            cells: self.get("cell").to_vec(),
            tags,
            fixed: self.get("fixed").iter().map(|f| *f != 0.0).collect(),
            energy: self.get("energy_target").to_vec(),
            has_energy: vec![true; g],
            energy_offset: vec![0.0; g],
            forces: self.get("force_target").to_vec(),
            has_forces: vec![true; g],
            graph: GraphBatch::collate(&graphs),
            ..HostBatch::default()
        }
    }

    fn network(&self) -> Network {
        let network = Network::new(&config().model, HeadLayout::Joint(4), 0, Precision::F64, Device::Cpu);
        fill::fill(network.store());
        let names: Vec<String> = trainable(&network).into_keys().collect();
        let mut wanted = self.names.clone();
        wanted.sort();
        assert_eq!(names, wanted);
        network
    }

    fn transform(&self, task: usize) -> TargetTransform {
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
fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-300), "{what}: got {got:e}, want {want:e}");
}

/// `[L2 norm, dot with the probe vector]` of each named tensor against the file's, relative to the norm.
#[track_caller]
fn check_probes(golden: &Golden, tensors: &BTreeMap<String, Tensor>, key: &str, tolerance: f64) {
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
fn check_tensor(golden: &Golden, tensor: &Tensor, key: &str, tolerance: f64) {
    let got = Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap();
    for (i, (got, want)) in got.iter().zip(golden.get(key)).enumerate() {
        assert!((got - want).abs() <= tolerance, "{key}[{i}]: got {got:e}, want {want:e}");
    }
}

fn loss(golden: &Golden, reduction: Reduction, free_atoms_only: bool) -> Loss {
    let example = Tensor::zeros([1], (Kind::Double, Device::Cpu));
    let rule = LossSection { reduction, free_atoms_only, ..LossSection::default() };
    let lambdas = golden.get("lambda_E").iter().zip(golden.get("lambda_F"));
    let weights: Vec<TaskWeights> = lambdas
        .map(|(&energy, &forces)| TaskWeights { energy, forces, energy_margin: 0.0, force_margin: 0.0 })
        .collect();
    Loss::new(rule, &weights, &example)
}

/// All losses of the file's row `row`.
fn check_losses(golden: &Golden, network: &Network, host: &HostBatch, row: usize) {
    let batch = network.batch(host);
    let prediction = network.forward(&batch, true);
    let at = |key: &str| golden.get(key)[row];
    for (reduction, word) in [(Reduction::Structure, "structurewise"), (Reduction::Atom, "atomwise")] {
        let rule = loss(golden, reduction, false);
        let terms = rule.of(&prediction, &batch, &host.task, rule.counts(host));
        let tasks = terms.task_sums();
        close(terms.total.double_value(&[]), at(&format!("loss.{word}.total")), 1e-12, word);
        for t in 0..4 {
            let per_task = |part: &str| golden.get(&format!("loss.{word}.{part}_per_task"))[4 * row + t];
            close(tasks.energy_mean(t), per_task("energy"), 1e-12, "energy of a task");
            close(tasks.force_mean(t), per_task("force"), 1e-12, "forces of a task");
        }
        let rule = loss(golden, reduction, true);
        let terms = rule.of(&prediction, &batch, &host.task, rule.counts(host));
        close(terms.total.double_value(&[]), at(&format!("loss.freeonly.{word}.total")), 1e-12, "free atoms");
    }
}

#[test]
fn targets_are_referenced_and_normalised_as_the_reference_does() {
    let golden = Golden::read();
    let host = golden.batch();
    let mut first = 0;
    for (g, n) in host.natoms.iter().enumerate() {
        let atoms = first..first + *n as usize;
        let transform = golden.transform(host.task[g] as usize);
        let offset = transform.offset(&host.atomic_numbers[atoms.clone()]).unwrap();
        close((golden.get("energy_raw")[g] - offset) / transform.std, host.energy[g], 1e-12, "energy target");
        for k in 3 * atoms.start..3 * atoms.end {
            close(golden.get("forces_raw")[k] / transform.force_std, host.forces[k], 1e-12, "force target");
        }
        first = atoms.end;
    }
}

#[test]
fn gradients_are_divided_and_clipped_as_the_reference_does() {
    let golden = Golden::read();
    let (network, host) = (golden.network(), golden.batch());
    assert_eq!(network.gradient_divisors(), golden.divisors);
    let mut parameters = Parameters::flatten(network.store(), 1, |_| 0).unwrap();
    check_probes(&golden, &parameters.named(parameters.values()), "probe.param.step0", 1e-14);

    parameters.zero_gradients();
    let rule = loss(&golden, Reduction::Structure, false);
    let batch = network.batch(&host);
    rule.of(&network.forward(&batch, true), &batch, &host.task, rule.counts(&host)).total.backward();
    let named = |p: &Parameters| p.named(p.gradients());
    check_probes(&golden, &named(&parameters), "probe.grad.raw", 1e-10);

    parameters.divide_shared(parameters.gradients(), |name| golden.divisors.get(name).copied());
    check_probes(&golden, &named(&parameters), "probe.grad.scaled", 1e-10);

    let before = norm(parameters.gradients());
    close(before, golden.get("gradnorm.scaled")[0], 1e-12, "norm before clipping");
    let bound = Clip::Norm(1.0).bound(before);
    let clipped = parameters.named(&(parameters.gradients() * bound.scale));
    check_probes(&golden, &clipped, "probe.grad.clipped", 1e-10);
    close(before * bound.scale, golden.get("gradnorm.clipped")[0], 1e-12, "norm after clipping");
}

fn learner(golden: &Golden) -> Learner {
    let record = |task: usize| TaskRecord {
        name: TASKS[task].to_owned(),
        forces: ForceMode::Direct,
        transform: golden.transform(task),
        scalar: None,
        energy_weight: golden.get("lambda_E")[task],
        force_weight: golden.get("lambda_F")[task],
        margins: Margins::default(),
        graph: GraphSpec::new(12.0, 30),
        split: "train".to_owned(),
        manifest: String::new(),
    };
    let constant = WarmupCosine {
        lr: 3e-4,
        warmup_steps: 0,
        warmup_factor: 1.0,
        final_factor: 1.0,
        batch: 8,
        total_samples: 1000,
    };
    let tasks: Vec<TaskRecord> = (0..4).map(record).collect();
    let config = config();
    let rules = Rules {
        optimizer: &config.optimizer,
        loss: config.loss,
        seed: config.run.seed,
        precision: Precision::F64,
    };
    Learner::new(rules, &tasks, golden.network(), Schedule::Pretrain(constant), |_| 0).unwrap()
}

#[test]
fn three_steps_lead_where_the_references_lead() {
    let golden = Golden::read();
    let host = golden.batch();
    let mut learner = learner(&golden);
    for step in 0..3 {
        check_losses(&golden, learner.network(), &host, step);
        let report = learner.step(std::slice::from_ref(&host)).unwrap();
        close(report.loss, golden.get("loss.structurewise.total")[step], 1e-12, "loss of the step");
        close(report.gradient_norm, golden.get("gradnorm.scaled")[step], 1e-11, "norm of the gradient");
        let (state, done) = (learner.state(), step + 1);
        check_probes(&golden, &state.model, &format!("probe.param.step{done}"), 1e-11);
        check_probes(&golden, &state.ema, &format!("probe.ema.step{done}"), 1e-11);
        for (weights, word) in [(&state.model, "param"), (&state.ema, "ema")] {
            for (name, tensor) in weights {
                let key = format!("{word}.step{done}.{name}");
                if golden.arrays.contains_key(&key) {
                    check_tensor(&golden, tensor, &key, 1e-11);
                }
            }
        }
    }
    check_losses(&golden, learner.network(), &host, 3);
}

#[test]
fn micro_batches_give_the_gradient_of_the_whole() {
    let golden = Golden::read();
    let network = golden.network();
    let mut parameters = Parameters::flatten(network.store(), 1, |_| 0).unwrap();
    let host = golden.batch();
    let rule = loss(&golden, Reduction::Atom, true);
    let mut gradient_of = |parts: &[HostBatch]| {
        let mut counts = LossCounts::default();
        parts.iter().for_each(|part| counts.add(rule.counts(part)));
        parameters.zero_gradients();
        for part in parts {
            let batch = network.batch(part);
            rule.of(&network.forward(&batch, true), &batch, &part.task, counts).total.backward();
        }
        parameters.gradients().copy()
    };
    // The same structures twice: as one global batch of two micro-batches, and once alone. Means do not change.
    let (once, twice) =
        (gradient_of(std::slice::from_ref(&host)), gradient_of(&[host.clone(), host.clone()]));
    let difference = (&once - &twice).abs().max().double_value(&[]);
    assert!(difference <= 1e-13 * once.abs().max().double_value(&[]), "{difference:e}");
}
