//! How atoms' numbers become a structure's property, against sums over the atoms' own numbers.

use tch::{Device, Kind, nn, no_grad};
use trainer::batch::Batch;
use trainer::config::model::ModelSection;
use trainer::config::sections::Precision;
use trainer::gemnet::{Backbone, Embeddings, GemNetConfig};
use trainer::heads::{AtomEmbedding, HeadMlp, Pooling, ScalarHead};
use trainer::network::{HeadLayout, Network};

use crate::model::{Model, Structure, assert_close, line, molecule, numbers, seeded};

/// Water, far from where coordinates begin.
fn water() -> Structure {
    let positions = vec![[7.0, -3.0, 2.0], [7.76, -3.0, 2.59], [6.24, -3.0, 2.59]];
    Structure { positions, numbers: vec![8, 1, 1], cell: None }
}

/// Three structures: six atoms, three, and one alone.
fn structures() -> [Structure; 3] {
    [molecule(), water(), line(1)]
}

/// Their atomic weights, u: C O C H H H, O H H, C.
const WEIGHTS: [&[f64]; 3] =
    [&[12.011, 15.999, 12.011, 1.008, 1.008, 1.008], &[15.999, 1.008, 1.008], &[12.011]];

fn network(pooling: Pooling) -> Network {
    let section = ModelSection::of(&GemNetConfig::tiny()).unwrap();
    seeded(7, || Network::new(&section, HeadLayout::Scalar(pooling), 7, Precision::F64, Device::Cpu))
}

fn batch() -> Batch {
    Model::new(Kind::Double).batch(&structures(), &[0; 3])
}

/// What `make` builds with a network's tensors, taken by name.
fn with_tensors<T>(network: &Network, make: impl FnOnce(&nn::Path) -> T) -> T {
    let mut store = nn::VarStore::new(Device::Cpu);
    store.set_kind(Kind::Double);
    let made = seeded(8, || make(&store.root()));
    let theirs = network.store().variables();
    for (name, mut tensor) in store.variables() {
        no_grad(|| tensor.copy_(&theirs[&name]));
    }
    made
}

fn embeddings(network: &Network, batch: &Batch) -> Embeddings {
    let config = network.config();
    let (embedding, backbone) = with_tensors(network, |root| {
        (AtomEmbedding::new(&(root / "embedding"), config), Backbone::new(&(root / "backbone"), config))
    });
    backbone.forward(&embedding.forward(&batch.atomic_numbers), batch, false)
}

/// The atoms' own numbers by structure: the head's layers, with biases or without, and no pooling.
fn of_atoms(network: &Network, batch: &Batch, bias: bool) -> Vec<Vec<f64>> {
    let units = network.config().emb_size_atom;
    let mlp = with_tensors(network, |root| HeadMlp::new(&(root / "out_scalar"), units, bias));
    let all = numbers(&mlp.forward(&embeddings(network, batch).atoms));
    let mut rest = all.as_slice();
    let parts = structures().map(|structure| {
        let (own, others) = rest.split_at(structure.numbers.len());
        rest = others;
        own.to_vec()
    });
    assert!(rest.is_empty());
    parts.into()
}

/// One number of a structure from those of its atoms.
type Pooled = fn(&[f64]) -> f64;

fn properties(network: &Network, batch: &Batch) -> Vec<f64> {
    numbers(&network.forward(batch, false).energy)
}

#[test]
fn properties_are_sums_means_and_maxima_of_the_atoms_numbers() {
    let batch = batch();
    let poolings: [(Pooling, Pooled); 3] = [
        (Pooling::Sum, |x| x.iter().sum()),
        (Pooling::Mean, |x| x.iter().sum::<f64>() / x.len() as f64),
        (Pooling::Max, |x| x.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
    ];
    for (pooling, pooled) in poolings {
        let network = network(pooling);
        let mut signs = [0, 0];
        for _ in 0..2 {
            let atoms = of_atoms(&network, &batch, true);
            let want: Vec<f64> = atoms.iter().map(|x| pooled(x)).collect();
            assert_close(&properties(&network, &batch), &want, 1e-12);
            signs[usize::from(want[2] > 0.0)] += 1;
            // Then with the signs of all atoms' numbers turned round: the last layer is linear, without bias.
            let mut last = network.store().variables()["out_scalar.8.weight"].shallow_clone();
            let _ = no_grad(|| last.g_mul_scalar_(-1.0));
        }
        assert_eq!(signs, [1, 1], "a maximum below zero and one above");
    }
}

/// Σ x_i |r_i − c|² of each structure, with c the mean of the positions weighed by `weights`.
fn squared_radii(atoms: &[Vec<f64>], weights: &[Vec<f64>]) -> Vec<f64> {
    let of = |((structure, x), weights): ((Structure, &Vec<f64>), &Vec<f64>)| {
        let mass: f64 = weights.iter().sum();
        let moment = |k: usize| structure.positions.iter().zip(weights).map(|(r, w)| w * r[k]).sum::<f64>();
        let centre = [0, 1, 2].map(|k| moment(k) / mass);
        let square = |r: &[f64; 3]| (0..3).map(|k| (r[k] - centre[k]).powi(2)).sum::<f64>();
        structure.positions.iter().zip(x).map(|(r, x)| x * square(r)).sum::<f64>()
    };
    structures().into_iter().zip(atoms).zip(weights).map(of).collect()
}

#[test]
fn squared_radii_are_about_the_centre_of_mass() {
    let known = [(1, 1.008), (6, 12.011), (7, 14.007), (8, 15.999), (17, 35.45), (79, 196.966_569)];
    for (z, weight) in known {
        assert_eq!(shards::element::WEIGHTS[z], weight, "element {z}");
    }
    let (network, batch) = (network(Pooling::SquaredRadius), batch());
    let atoms = of_atoms(&network, &batch, false);
    let got = properties(&network, &batch);
    let weights = WEIGHTS.map(<[f64]>::to_vec);
    let want = squared_radii(&atoms, &weights);
    assert_close(&got, &want, 1e-12);
    // A lone atom is its own centre, whatever its number.
    assert!(got[2].abs() < 1e-12 && atoms[2][0].abs() > 1e-6, "{got:?}, {atoms:?}");
    // Without weights it is the centre of the positions, which is another point.
    let head = with_tensors(&network, |root| {
        ScalarHead::new(&(root / "out_scalar"), network.config(), Pooling::SquaredRadius)
    });
    let unweighed = numbers(&head.forward(&embeddings(&network, &batch), &batch, None, false));
    let geometric = squared_radii(&atoms, &weights.each_ref().map(|w| vec![1.0; w.len()]));
    assert_close(&unweighed, &geometric, 1e-12);
    for structure in 0..2 {
        let (mass, geometry) = (want[structure], geometric[structure]);
        assert!((mass - geometry).abs() > 1e-3 * mass.abs(), "{mass} and {geometry}");
    }
}
