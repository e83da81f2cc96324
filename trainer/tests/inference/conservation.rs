//! Gradient forces belong to an energy, and isolated molecules neither push nor turn themselves.

use shards::{Floats, Structure};
use trainer::inference::{Model, ModelOptions, Predicted, Predictor};

use crate::{molecules, workshop};

/// The model before any training (its weights are drawn anew in f64) or after two epochs.
fn predictor(trained: bool) -> Predictor {
    let options = ModelOptions { device: "cpu".into(), threads: Some(1), ..ModelOptions::default() };
    let model = Model::open(&workshop().join("run"), &options).unwrap();
    if !trained {
        tch::manual_seed(11);
        for (name, mut tensor) in model.network.store().variables() {
            if !name.ends_with("scale_factor") && !name.contains(".rbf.") {
                let width = (tensor.size().last().copied().unwrap_or(1) as f64).sqrt().recip();
                tch::no_grad(|| drop(tensor.uniform_(-1.7 * width, 1.7 * width)));
            }
        }
    }
    Predictor::new(model, None, None).unwrap()
}

fn predict(predictor: &Predictor, structure: &Structure) -> Predicted {
    let prepared = predictor.rule().prepare(structure).unwrap();
    predictor.predict(std::iter::once(&prepared)).unwrap().remove(0).unwrap()
}

fn moved(structure: &Structure, component: usize, by: f64) -> Structure {
    let mut positions = structure.positions.to_f64();
    positions[component] += by;
    Structure { positions: Floats::F64(positions), ..structure.clone() }
}

#[test]
fn forces_are_finite_differences_of_the_energy_before_and_after_training() {
    for trained in [false, true] {
        let predictor = predictor(trained);
        for i in [0, 3, 4] {
            let molecule = molecules::molecule(i);
            let forces = predict(&predictor, &molecule).forces.unwrap();
            let largest = forces.iter().fold(0.0, |max: f64, f| max.max(f.abs()));
            assert!(largest > 1e-3, "trained {trained}: forces of at most {largest} tell nothing");
            let step = 1e-4;
            for (component, force) in forces.iter().enumerate() {
                let energy = |by: f64| predict(&predictor, &moved(&molecule, component, by)).value.unwrap();
                // Five points: the error is of fourth order in the step, rounding 10⁻¹¹ eV over the step.
                let slope = (8.0 * (energy(step) - energy(-step)) - energy(2.0 * step) + energy(-2.0 * step))
                    / (12.0 * step);
                let error = (force + slope).abs();
                assert!(
                    error < 1e-6 * largest.max(1.0),
                    "trained {trained}, molecule {i}, component {component}: {error:e}"
                );
            }
        }
    }
}

#[test]
fn molecules_have_no_net_force_and_no_net_torque() {
    for trained in [false, true] {
        let predictor = predictor(trained);
        for i in 0..8 {
            let molecule = molecules::molecule(i);
            let positions = molecule.positions.to_f64();
            let forces = predict(&predictor, &molecule).forces.unwrap();
            let scale = forces.iter().map(|f| f.abs()).sum::<f64>();
            let (mut net, mut torque) = ([0.0; 3], [0.0; 3]);
            for (r, f) in positions.chunks_exact(3).zip(forces.chunks_exact(3)) {
                for x in 0..3 {
                    let (y, z) = ((x + 1) % 3, (x + 2) % 3);
                    net[x] += f[x];
                    torque[x] += r[y] * f[z] - r[z] * f[y];
                }
            }
            for (what, vector) in [("force", net), ("torque", torque)] {
                let error = vector.iter().fold(0.0, |max: f64, v| max.max(v.abs())) / scale;
                assert!(error < 1e-12, "trained {trained}, molecule {i}: net {what} {error:e} of the forces");
            }
        }
    }
}

#[test]
fn energies_add_up_for_molecules_far_apart() {
    let predictor = predictor(true);
    let [one, other] = [1, 2].map(molecules::molecule);
    let mut positions = one.positions.to_f64();
    positions.extend(other.positions.to_f64().iter().map(|x| x + 40.0));
    let numbers = [one.atomic_numbers.clone(), other.atomic_numbers.clone()].concat();
    let both = Structure::new("both".into(), "both".into(), numbers, Floats::F64(positions));
    let [a, b, sum] = [&one, &other, &both].map(|s| predict(&predictor, s).value.unwrap());
    // The mean energy of the training data belongs to a structure, however large.
    let mean = predictor.rule().transform.mean;
    assert!((a + b - mean - sum).abs() < 1e-9, "{a} + {b} ≠ {sum}");
}
