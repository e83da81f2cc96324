//! Forces and second derivatives, also where atoms are colinear or alone.

use tch::Kind;

use crate::model::{Model, Structure, assert_close, crystal, line, molecule};

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
