//! Rotations, reflections, translations, wrapping, the order of atoms, batching.

use tch::Kind;

use crate::model::{Model, Structure, assert_close, crystal, line, molecule};

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
