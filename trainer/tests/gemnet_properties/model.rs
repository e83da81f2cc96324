//! Small structures, and a small network with random weights.

use std::sync::{Mutex, PoisonError};

use shards::graph::{Geometry, GraphBatch, GraphSpec, StructureGraph};
use tch::{Device, Kind, Tensor, nn};
use trainer::batch::Batch;
use trainer::gemnet::{Backbone, GemNetConfig};
use trainer::heads::{AtomEmbedding, EnergyHead, PretrainHeads, gradient_forces};

#[derive(Clone)]
pub(crate) struct Structure {
    pub(crate) positions: Vec<[f64; 3]>,
    pub(crate) numbers: Vec<i64>,
    pub(crate) cell: Option<[[f64; 3]; 3]>,
}

impl Structure {
    pub(crate) fn graph(&self) -> StructureGraph {
        let geometry = Geometry {
            positions: &self.positions,
            cell: self.cell,
            pbc: [self.cell.is_some(); 3],
            tags: None,
        };
        StructureGraph::build(&geometry, &GraphSpec::new(6.0, 30)).unwrap()
    }

    pub(crate) fn moved(&self, f: impl Fn([f64; 3]) -> [f64; 3], g: impl Fn([f64; 3]) -> [f64; 3]) -> Self {
        let positions = self.positions.iter().map(|p| f(*p)).collect();
        Self { positions, numbers: self.numbers.clone(), cell: self.cell.map(|c| c.map(&g)) }
    }
}

pub(crate) fn molecule() -> Structure {
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

pub(crate) fn crystal() -> Structure {
    let cell = [[4.1, 0.0, 0.3], [1.3, 3.9, -0.2], [-0.4, 0.8, 4.4]];
    let positions = vec![[0.1, 0.2, 0.3], [2.3, 1.9, 1.6], [1.2, 3.1, 3.5]];
    Structure { positions, numbers: vec![11, 17, 29], cell: Some(cell) }
}

pub(crate) fn line(atoms: usize) -> Structure {
    let positions = (0..atoms).map(|i| [0.0, 0.0, 1.2 * i as f64]).collect();
    Structure { positions, numbers: vec![6; atoms], cell: None }
}

/// libtorch has one generator, which tests running side by side would share.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Runs what draws random numbers, alone and from a seed; every test that draws must do so here.
pub(crate) fn seeded<T>(seed: i64, draw: impl FnOnce() -> T) -> T {
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    draw()
}

/// A small network with random weights.
pub(crate) struct Model {
    pub(crate) store: nn::VarStore,
    pub(crate) embedding: AtomEmbedding,
    pub(crate) backbone: Backbone,
    pub(crate) heads: PretrainHeads,
    pub(crate) energy: EnergyHead,
}

impl Model {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::of(&GemNetConfig::tiny(), kind)
    }

    pub(crate) fn of(config: &GemNetConfig, kind: Kind) -> Self {
        seeded(7, || Self::random(config, kind))
    }

    fn random(config: &GemNetConfig, kind: Kind) -> Self {
        let mut store = nn::VarStore::new(Device::Cpu);
        store.set_kind(kind);
        let root = store.root();
        let embedding = AtomEmbedding::new(&(&root / "embedding"), config);
        let backbone = Backbone::new(&(&root / "backbone"), config);
        let heads = PretrainHeads::new(&(&root / "output"), 2, config);
        let energy = EnergyHead::new(&(&root / "out_energy"), config, false);
        Self { store, embedding, backbone, heads, energy }
    }

    pub(crate) fn batch(&self, structures: &[Structure], task: &[usize]) -> Batch {
        let graphs: Vec<StructureGraph> = structures.iter().map(Structure::graph).collect();
        let positions: Vec<[f64; 3]> = structures.iter().flat_map(|s| s.positions.clone()).collect();
        let numbers: Vec<i64> = structures.iter().flat_map(|s| s.numbers.clone()).collect();
        let graph = GraphBatch::collate(&graphs);
        Batch::unlabelled(&positions, &numbers, task, &graph, (self.store.kind(), Device::Cpu))
    }

    /// Energies and direct forces of each structure's own task.
    pub(crate) fn direct(&self, structures: &[Structure], task: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let batch = self.batch(structures, task);
        let h = self.embedding.forward(&batch.atomic_numbers);
        let prediction = self.heads.forward(&self.backbone.forward(&h, &batch, false), &batch);
        (numbers(&prediction.energy), numbers(&prediction.forces))
    }

    /// Energies and gradient forces, and the gradient of `ΣE + ΣF²` in the positions.
    pub(crate) fn gradient(&self, structures: &[Structure]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let mut batch = self.batch(structures, &vec![0; structures.len()]);
        batch.positions = batch.positions.set_requires_grad(true);
        let h = self.embedding.forward(&batch.atomic_numbers);
        let energy = self.energy.forward(&self.backbone.forward(&h, &batch, true), &batch);
        let forces = gradient_forces(&energy, &batch, true);
        (energy.sum(energy.kind()) + forces.square().sum(energy.kind())).backward();
        (numbers(&energy), numbers(&forces), numbers(&batch.positions.grad()))
    }
}

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

#[track_caller]
pub(crate) fn assert_close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(1e-3, |max: f64, w| max.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * largest, "entry {i}: got {g}, want {w}");
    }
}
