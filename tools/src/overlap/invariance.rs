//! Random structures: what must not change a fingerprint, and how far noise may.

use proptest::prelude::*;
use shards::graph::Geometry;

use super::fingerprint::{Fingerprint, STEP, alike};

type Point = [f64; 3];

/// Atoms in a box, with their elements.
fn atoms(most: usize, side: f64) -> impl Strategy<Value = (Vec<u8>, Vec<Point>)> {
    let atom = (prop::sample::select(vec![1u8, 6, 8]), prop::array::uniform3(0.0..side));
    prop::collection::vec(atom, 2..most).prop_map(|atoms| atoms.into_iter().unzip())
}

/// A cell that is neither flat nor rectangular.
fn cell() -> impl Strategy<Value = [Point; 3]> {
    (prop::array::uniform3(3.0..7.0f64), prop::array::uniform3(-1.5..1.5f64))
        .prop_map(|(d, s)| [[d[0], 0.0, 0.0], [s[0], d[1], 0.0], [s[1], s[2], d[2]]])
}

/// A rotation from a quaternion.
fn rotation() -> impl Strategy<Value = [Point; 3]> {
    prop::array::uniform4(-1.0..1.0f64)
        .prop_filter("not nought", |q| q.iter().map(|x| x * x).sum::<f64>() > 0.1)
        .prop_map(|q| {
            let n = q.iter().map(|x| x * x).sum::<f64>().sqrt();
            let [w, x, y, z] = q.map(|c| c / n);
            [
                [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
                [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
                [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
            ]
        })
}

fn apply(matrix: &[Point; 3], p: &Point) -> Point {
    std::array::from_fn(|k| (0..3).map(|j| matrix[k][j] * p[j]).sum())
}

fn print(numbers: &[u8], positions: &[Point], cell: Option<[Point; 3]>) -> Vec<u16> {
    let geometry = Geometry { positions, cell, pbc: [cell.is_some(); 3], tags: None };
    Fingerprint::of(&geometry, numbers).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn motion_and_order_change_nothing(
        (numbers, positions) in atoms(14, 6.0),
        lattice in prop::option::of(cell()),
        turn in rotation(),
        shift in prop::array::uniform3(-20.0..20.0f64),
        start in 0usize..14,
    ) {
        let moved: Vec<Point> = positions.iter().map(|p| apply(&turn, p)).map(|p| std::array::from_fn(|k| p[k] + shift[k])).collect();
        let turned = lattice.map(|rows| rows.map(|row| apply(&turn, &row)));
        let order: Vec<usize> = (0..numbers.len()).map(|k| (numbers.len() - 1 - k + start) % numbers.len()).collect();
        let (reordered, moved): (Vec<u8>, Vec<Point>) = order.iter().map(|&k| (numbers[k], moved[k])).unzip();
        // One step for the last bit of a distance that lies between two.
        prop_assert!(alike(&print(&numbers, &positions, lattice), &print(&reordered, &moved, turned), 1));
    }

    #[test]
    fn a_repeated_cell_is_the_same_crystal((numbers, positions) in atoms(8, 5.0), lattice in cell(), times in 2usize..4, axis in 0usize..3) {
        let repeated: Vec<(u8, Point)> = (0..times)
            .flat_map(|t| numbers.iter().zip(&positions).map(move |(&z, p)| (z, std::array::from_fn(|k| p[k] + t as f64 * lattice[axis][k]))))
            .collect();
        let (more, places): (Vec<u8>, Vec<Point>) = repeated.into_iter().unzip();
        let mut longer = lattice;
        longer[axis] = longer[axis].map(|x| x * times as f64);
        prop_assert!(alike(&print(&numbers, &positions, Some(lattice)), &print(&more, &places, Some(longer)), 1));
    }

    #[test]
    fn noise_moves_components_by_no_more_than_twice_itself(
        (numbers, positions) in atoms(14, 6.0),
        lattice in prop::option::of(cell()),
        directions in prop::collection::vec(prop::array::uniform3(-1.0..1.0f64), 14),
        noise in 0.001..0.2f64,
    ) {
        // Atoms on top of one another have no distance in a neighbour list.
        let shaken: Vec<Point> = positions.iter().zip(&directions).map(|(p, d)| {
            let length = d.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-9);
            std::array::from_fn(|k| p[k] + noise * d[k] / length)
        }).collect();
        let apart = |places: &[Point]| (0..places.len()).all(|i| (0..i).all(|j| (0..3).map(|k| (places[i][k] - places[j][k]).powi(2)).sum::<f64>() > 0.01));
        prop_assume!(apart(&positions) && apart(&shaken));
        let tolerance = (2.0 * noise / STEP).ceil() as u16 + 1;
        prop_assert!(alike(&print(&numbers, &positions, lattice), &print(&numbers, &shaken, lattice), tolerance));
    }

    #[test]
    fn other_shapes_are_told_apart((numbers, positions) in atoms(9, 3.0), factor in 1.3..2.0f64) {
        let stretched: Vec<Point> = positions.iter().map(|p| p.map(|x| x * factor)).collect();
        let widest = (0..positions.len()).flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| (0..3).map(|k| (positions[i][k] - positions[j][k]).powi(2)).sum::<f64>().sqrt())
            .fold(0.0, f64::max);
        prop_assume!(widest > 0.5 && widest < 5.0);
        prop_assert!(!alike(&print(&numbers, &positions, None), &print(&numbers, &stretched, None), 100));
    }
}
