//! What GemNet-OC must keep whatever its weights: symmetries, batching, forces as derivatives, degenerate structures.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use shards::graph::{Geometry, GraphBatch, GraphSpec, StructureGraph};
use tch::{Device, Kind, Tensor, nn};
use trainer::batch::Batch;
use trainer::gemnet::{
    Backbone, EdgeDropoutScaling, GemNetConfig, Stage, fit_scale_factors, gradient_divisors,
};
use trainer::heads::{AtomEmbedding, EnergyHead, PretrainHeads, gradient_forces};

#[derive(Clone)]
struct Structure {
    positions: Vec<[f64; 3]>,
    numbers: Vec<i64>,
    cell: Option<[[f64; 3]; 3]>,
}

impl Structure {
    fn graph(&self) -> StructureGraph {
        let geometry = Geometry {
            positions: &self.positions,
            cell: self.cell,
            pbc: [self.cell.is_some(); 3],
            tags: None,
        };
        StructureGraph::build(&geometry, &GraphSpec::new(6.0, 30)).unwrap()
    }

    fn moved(&self, f: impl Fn([f64; 3]) -> [f64; 3], g: impl Fn([f64; 3]) -> [f64; 3]) -> Self {
        let positions = self.positions.iter().map(|p| f(*p)).collect();
        Self { positions, numbers: self.numbers.clone(), cell: self.cell.map(|c| c.map(&g)) }
    }
}

fn molecule() -> Structure {
    let positions = vec![
        [0.0, 0.0, 0.0],
        [1.1, 0.1, -0.2],
        [1.6, 1.3, 0.4],
        [-0.7, 0.8, 0.5],
        [2.7, 1.4, 0.1],
        [-0.4, -0.9, 0.6],
    ];
    Structure { positions, numbers: vec![6, 8, 6, 1, 1, 1], cell: None }
}

fn crystal() -> Structure {
    let cell = [[4.1, 0.0, 0.3], [1.3, 3.9, -0.2], [-0.4, 0.8, 4.4]];
    let positions = vec![[0.1, 0.2, 0.3], [2.3, 1.9, 1.6], [1.2, 3.1, 3.5]];
    Structure { positions, numbers: vec![11, 17, 29], cell: Some(cell) }
}

fn line(atoms: usize) -> Structure {
    let positions = (0..atoms).map(|i| [0.0, 0.0, 1.2 * i as f64]).collect();
    Structure { positions, numbers: vec![6; atoms], cell: None }
}

/// A small network with random weights.
struct Model {
    store: nn::VarStore,
    embedding: AtomEmbedding,
    backbone: Backbone,
    heads: PretrainHeads,
    energy: EnergyHead,
}

impl Model {
    fn new(kind: Kind) -> Self {
        Self::of(&GemNetConfig::tiny(), kind)
    }

    fn of(config: &GemNetConfig, kind: Kind) -> Self {
        tch::manual_seed(7);
        let mut store = nn::VarStore::new(Device::Cpu);
        store.set_kind(kind);
        let root = store.root();
        let embedding = AtomEmbedding::new(&(&root / "embedding"), config);
        let backbone = Backbone::new(&(&root / "backbone"), config);
        let heads = PretrainHeads::new(&(&root / "output"), 2, config);
        let energy = EnergyHead::new(&(&root / "out_energy"), config);
        Self { store, embedding, backbone, heads, energy }
    }

    fn batch(&self, structures: &[Structure], task: &[usize]) -> Batch {
        let graphs: Vec<StructureGraph> = structures.iter().map(Structure::graph).collect();
        let positions: Vec<[f64; 3]> = structures.iter().flat_map(|s| s.positions.clone()).collect();
        let numbers: Vec<i64> = structures.iter().flat_map(|s| s.numbers.clone()).collect();
        let graph = GraphBatch::collate(&graphs);
        Batch::unlabelled(&positions, &numbers, task, &graph, (self.store.kind(), Device::Cpu))
    }

    /// Energies and direct forces of each structure's own task.
    fn direct(&self, structures: &[Structure], task: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let batch = self.batch(structures, task);
        let h = self.embedding.forward(&batch.atomic_numbers);
        let prediction = self.heads.forward(&self.backbone.forward(&h, &batch, false), &batch);
        (numbers(&prediction.energy), numbers(&prediction.forces))
    }

    /// Energies and gradient forces, and the gradient of `ΣE + ΣF²` in the positions.
    fn gradient(&self, structures: &[Structure]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let mut batch = self.batch(structures, &vec![0; structures.len()]);
        batch.positions = batch.positions.set_requires_grad(true);
        let h = self.embedding.forward(&batch.atomic_numbers);
        let energy = self.energy.forward(&self.backbone.forward(&h, &batch, true), &batch);
        let forces = gradient_forces(&energy, &batch, true);
        (energy.sum(energy.kind()) + forces.square().sum(energy.kind())).backward();
        (numbers(&energy), numbers(&forces), numbers(&batch.positions.grad()))
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(1e-3, |max: f64, w| max.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * largest, "entry {i}: got {g}, want {w}");
    }
}

/// A rotation by about 2 rad around no special axis, and a reflection of z if `mirror`.
fn turn(p: [f64; 3], mirror: bool) -> [f64; 3] {
    let (a, b) = (0.7f64, 1.9f64);
    let q = [p[0] * a.cos() - p[1] * a.sin(), p[0] * a.sin() + p[1] * a.cos(), p[2]];
    let r = [q[0] * b.cos() + q[2] * b.sin(), q[1], q[2] * b.cos() - q[0] * b.sin()];
    if mirror { [r[0], r[1], -r[2]] } else { r }
}

fn turned(forces: &[f64], mirror: bool) -> Vec<f64> {
    forces.chunks_exact(3).flat_map(|f| turn([f[0], f[1], f[2]], mirror)).collect()
}

#[test]
fn energy_is_invariant_and_forces_turn_with_the_structure() {
    let model = Model::new(Kind::Double);
    let structures = [molecule(), crystal()];
    let (energy, forces) = model.direct(&structures, &[0, 1]);
    for mirror in [false, true] {
        let rotated = structures.each_ref().map(|s| s.moved(|p| turn(p, mirror), |p| turn(p, mirror)));
        let (e, f) = model.direct(&rotated, &[0, 1]);
        assert_close(&e, &energy, 1e-10);
        assert_close(&f, &turned(&forces, mirror), 1e-10);
    }
    let shift = |p: [f64; 3]| [p[0] + 11.3, p[1] - 7.7, p[2] + 0.9];
    let (e, f) = model.direct(&structures.each_ref().map(|s| s.moved(shift, |c| c)), &[0, 1]);
    assert_close(&e, &energy, 1e-10);
    assert_close(&f, &forces, 1e-10);
}

#[test]
fn wrapping_atoms_changes_nothing() {
    let model = Model::new(Kind::Double);
    let mut wrapped = crystal();
    let [a, b, c] = wrapped.cell.unwrap();
    let moved = |p: [f64; 3], n: [f64; 3]| [0, 1, 2].map(|x| p[x] + n[0] * a[x] + n[1] * b[x] + n[2] * c[x]);
    wrapped.positions[1] = moved(wrapped.positions[1], [2.0, 0.0, -1.0]);
    wrapped.positions[2] = moved(wrapped.positions[2], [0.0, -3.0, 0.0]);
    let (energy, forces) = model.direct(&[crystal()], &[0]);
    let (e, f) = model.direct(&[wrapped], &[0]);
    assert_close(&e, &energy, 1e-10);
    assert_close(&f, &forces, 1e-10);
}

#[test]
fn order_of_atoms_changes_nothing_where_no_neighbour_is_cut() {
    let model = Model::new(Kind::Double);
    let (energy, forces) = model.direct(&[molecule()], &[0]);
    let order = [3, 0, 5, 2, 4, 1];
    let source = molecule();
    let permuted = Structure {
        positions: order.iter().map(|i| source.positions[*i]).collect(),
        numbers: order.iter().map(|i| source.numbers[*i]).collect(),
        cell: None,
    };
    let (e, f) = model.direct(&[permuted], &[0]);
    assert_close(&e, &energy, 1e-10);
    let want: Vec<f64> = order.iter().flat_map(|i| forces[3 * i..3 * i + 3].to_vec()).collect();
    assert_close(&f, &want, 1e-10);
}

#[test]
fn batching_changes_no_result() {
    let model = Model::new(Kind::Double);
    let structures = [line(1), molecule(), line(2), crystal(), line(4), molecule()];
    let task = [0, 1, 1, 0, 1, 0];
    let (energy, forces) = model.direct(&structures, &task);
    let mut first = 0;
    for (i, structure) in structures.iter().enumerate() {
        let (e, f) = model.direct(std::slice::from_ref(structure), &task[i..=i]);
        assert_close(&e, &energy[i..=i], 1e-11);
        assert_close(&f, &forces[first..first + f.len()], 1e-11);
        first += f.len();
    }
    // Two tasks' heads differ, so the structures really went to their own.
    assert!((energy[1] - energy[5]).abs() > 1e-3);
}

#[test]
fn gradient_forces_are_finite_differences() {
    let model = Model::new(Kind::Double);
    for structure in [molecule(), crystal()] {
        let (_, forces, _) = model.gradient(std::slice::from_ref(&structure));
        let energy_at = |atom: usize, x: usize, step: f64| {
            let mut displaced = structure.clone();
            displaced.positions[atom][x] += step;
            model.gradient(&[displaced]).0[0]
        };
        let step = 1e-5;
        let numeric: Vec<f64> = (0..forces.len())
            .map(|i| -(energy_at(i / 3, i % 3, step) - energy_at(i / 3, i % 3, -step)) / (2.0 * step))
            .collect();
        assert_close(&forces, &numeric, 1e-6);
    }
}

#[test]
fn second_derivatives_are_finite_differences_too() {
    let model = Model::new(Kind::Double);
    let structure = molecule();
    let (_, forces, gradient) = model.gradient(std::slice::from_ref(&structure));
    let loss_at = |i: usize, step: f64| {
        let mut displaced = structure.clone();
        displaced.positions[i / 3][i % 3] += step;
        let (energy, forces, _) = model.gradient(&[displaced]);
        energy[0] + forces.iter().map(|f| f * f).sum::<f64>()
    };
    let step = 1e-5;
    let numeric: Vec<f64> =
        (0..forces.len()).map(|i| (loss_at(i, step) - loss_at(i, -step)) / (2.0 * step)).collect();
    assert_close(&gradient, &numeric, 1e-6);
}

/// Nothing, one atom, a dimer, three and more in a line, a plane: all values and both derivatives are finite.
#[test]
fn degenerate_structures_have_finite_energies_forces_and_second_derivatives() {
    let flat = Structure {
        positions: vec![[0.0, 0.0, 0.0], [1.3, 0.0, 0.0], [-0.6, 0.9, 0.0], [1.9, 0.9, 0.0]],
        numbers: vec![6, 6, 1, 1],
        cell: None,
    };
    let chain = Structure {
        positions: vec![[0.0; 3]],
        numbers: vec![29],
        cell: Some([[2.5, 0.0, 0.0], [0.0, 2.5, 0.0], [0.0, 0.0, 2.5]]),
    };
    for kind in [Kind::Double, Kind::Float] {
        let model = Model::new(kind);
        let batches = [
            vec![line(1)],
            vec![line(1), line(1)],
            vec![line(2)],
            vec![line(3)],
            vec![line(5)],
            vec![flat.clone()],
            vec![chain.clone()],
            vec![line(1), line(5), line(2), chain.clone()],
        ];
        for (i, structures) in batches.iter().enumerate() {
            let (e, f) = model.direct(structures, &vec![0; structures.len()]);
            let (energy, forces, gradient) = model.gradient(structures);
            for values in [e, f, energy, forces, gradient] {
                assert!(values.iter().all(|v| v.is_finite()), "batch {i}, {kind:?}: {values:?}");
            }
        }
    }
}

/// Colinear atoms, where upstream's single precision is off by per cents.
#[test]
fn single_precision_agrees_with_double_where_atoms_are_colinear() {
    let (single, double) = (Model::new(Kind::Float), Model::new(Kind::Double));
    for (name, tensor) in double.store.variables() {
        let mut tensor = tensor;
        tch::no_grad(|| tensor.copy_(&single.store.variables()[&name].to_kind(Kind::Double)));
    }
    let along = Structure { positions: vec![[0.0; 3], [1.1, 1.1, 1.1]], ..crystal() };
    let along = Structure { numbers: vec![11, 17], ..along };
    let structures = [line(6), along, crystal()];
    let (e32, f32, _) = single.gradient(&structures);
    let (e64, f64, _) = double.gradient(&structures);
    assert_close(&e32, &e64, 1e-5);
    assert_close(&f32, &f64, 1e-4);
}

#[test]
fn divisors_name_existing_parameters() {
    let model = Model::new(Kind::Float);
    let table = gradient_divisors(model.backbone.config());
    let variables = model.store.variables();
    assert_eq!(table.len(), 12);
    for (name, divisor) in table {
        assert!(variables.contains_key(&format!("backbone.{name}")), "{name}");
        assert_eq!(divisor, if name.contains("mlp_rbf_out") { 3.0 } else { 2.0 });
    }
}

#[test]
fn he_orthogonal_weights_are_standardised() {
    tch::manual_seed(3);
    let store = nn::VarStore::new(Device::Cpu);
    for size in [&[64i64, 32][..], &[32, 64], &[16, 7, 24]] {
        let weight = trainer::gemnet::he_orthogonal(&store.root(), size);
        assert_eq!(weight.size(), size);
        let (over, fan_in): (&[i64], i64) =
            if size.len() == 3 { (&[0, 1], size[0] * size[1]) } else { (&[1], size[1]) };
        let variance = numbers(&weight.var_dim(over, true, false));
        let mean = numbers(&weight.mean_dim(over, false, None::<Kind>));
        // ε = 1e-6 beside variances of about 1/200 leaves some parts in ten thousand.
        assert_close(&variance, &vec![1.0 / fan_in as f64; variance.len()], 1e-3);
        assert!(mean.iter().all(|m| m.abs() < 1e-6));
    }
}

/// After fitting, no factor is left and each scaled output has its reference's variance; a second call changes nothing.
#[test]
fn fitted_scale_factors_keep_variance() {
    let model = Model::new(Kind::Double);
    let batch = model.batch(&[molecule(), crystal()], &[0, 0]);
    let forward = |backbone: &Backbone| -> Result<(), String> {
        backbone.forward(&model.embedding.forward(&batch.atomic_numbers), &batch, false);
        Ok(())
    };
    let fitted = fit_scale_factors(&model.backbone, forward).unwrap();
    assert_eq!(fitted.len(), 3 * 2 + 2 * 11);
    assert!(fitted.iter().all(|factor| factor.value.is_some_and(|value| value > 0.0 && value.is_finite())));
    assert!(fit_scale_factors(&model.backbone, forward).unwrap().is_empty());
    for factor in model.backbone.scale_factors() {
        factor.observe();
        forward(&model.backbone).unwrap();
        let again = factor.fitted().unwrap();
        assert!((again - 1.0).abs() < 1e-9, "{}: off by {again}", factor.name);
    }
}

/// Three atoms have no quadruplet: the factor of their sum stays unfitted, and says so.
#[test]
fn scale_factors_of_absent_messages_stay_unfitted() {
    let model = Model::new(Kind::Double);
    let batch = model.batch(&[line(3), line(3)], &[0, 0]);
    let fitted = fit_scale_factors(&model.backbone, |backbone| -> Result<(), String> {
        backbone.forward(&model.embedding.forward(&batch.atomic_numbers), &batch, false);
        Ok(())
    });
    for factor in fitted.unwrap() {
        assert_eq!(factor.value.is_none(), factor.name.contains("scale_sbf_sum"), "{}", factor.name);
    }
}

/// Edge dropout scales the output blocks' sums, or all edge embeddings, and only in training.
#[test]
fn edge_dropout_is_scaled_where_the_config_says() {
    let first = |scaling, train| {
        let config =
            GemNetConfig { edge_dropout: 0.5, edge_dropout_scaling: scaling, ..GemNetConfig::tiny() };
        let model = Model::of(&config, Kind::Double);
        let batch = model.batch(&[molecule()], &[0]);
        let h = model.embedding.forward(&batch.atomic_numbers);
        let mut embedded = Vec::new();
        let out = model.backbone.forward_watched(&h, &batch, train, |stage, _, m| {
            if stage == Stage::Embedded {
                embedded = numbers(m);
            }
        });
        (embedded, numbers(&out.atoms))
    };
    let (plain, plain_out) = first(EdgeDropoutScaling::Outputs, false);
    let (outputs, outputs_out) = first(EdgeDropoutScaling::Outputs, true);
    let (embeddings, embeddings_out) = first(EdgeDropoutScaling::Embeddings, true);
    assert_eq!(plain, outputs);
    assert_close(&embeddings, &plain.iter().map(|m| 2.0 * m).collect::<Vec<_>>(), 1e-12);
    assert!(plain_out != outputs_out && outputs_out != embeddings_out);
}

/// Each interaction can be left out, and its parameters with it.
#[test]
fn interactions_can_be_switched_off() {
    let all = Model::new(Kind::Float).store.len();
    let tiny = GemNetConfig::tiny;
    for config in [
        GemNetConfig { quad_interaction: false, ..tiny() },
        GemNetConfig { atom_edge_interaction: false, ..tiny() },
        GemNetConfig { edge_atom_interaction: false, ..tiny() },
        GemNetConfig { atom_interaction: false, ..tiny() },
    ] {
        let model = Model::of(&config, Kind::Float);
        assert!(model.store.len() < all);
        let (energy, _) = model.direct(&[molecule(), crystal()], &[0, 1]);
        assert!(energy.iter().all(|e| e.is_finite()));
    }
}

#[test]
fn dropout_acts_in_training_only() {
    let model = Model::of(&GemNetConfig { dropout: 0.3, ..GemNetConfig::tiny() }, Kind::Float);
    let batch = model.batch(&[molecule()], &[0]);
    let atoms = |train| {
        let h = model.embedding.forward(&batch.atomic_numbers);
        numbers(&model.backbone.forward(&h, &batch, train).atoms)
    };
    assert_eq!(atoms(false), atoms(false));
    assert_ne!(atoms(true), atoms(true));
}

#[test]
fn sizes_that_cannot_be_built_are_named() {
    let problem = |config: GemNetConfig| config.problem().unwrap();
    assert_eq!(GemNetConfig::large().problem(), None);
    let tiny = GemNetConfig::tiny;
    assert!(problem(GemNetConfig { emb_size_cbf: 0, ..tiny() }).starts_with("emb_size_cbf = 0"));
    assert!(problem(GemNetConfig { num_radial: 1, ..tiny() }).starts_with("num_radial = 1"));
    assert!(problem(GemNetConfig { dropout: 1.0, ..tiny() }).starts_with("dropout = 1"));
    assert!(problem(GemNetConfig { absolute_rbf_cutoff: f64::NAN, ..tiny() }).contains("NaN"));
}
