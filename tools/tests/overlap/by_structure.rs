//! Copies that were turned, shifted, reordered or shaken are found; other structures are not.

use shards::Structure;

use crate::made_up::{crystal, molecule, write};
use crate::{mask, numbers};

type Point = [f64; 3];

/// Gauche and anti ends of a four-atom chain with hydrogens left out: same atoms, other shape.
const ANTI: [Point; 4] = [[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [2.0, 1.4, 0.0], [3.5, 1.4, 0.0]];
const GAUCHE: [Point; 4] = [[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [2.0, 1.4, 0.0], [1.3, 2.1, 1.2]];
const NUMBERS: [u8; 4] = [8, 6, 6, 7];

/// Turned by 0.7 rad about (1, 2, 2)/3, then shifted (Rodrigues' formula).
fn moved(p: &Point) -> Point {
    let axis = [1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0];
    let (sin, cos) = 0.7f64.sin_cos();
    let dot: f64 = (0..3).map(|k| axis[k] * p[k]).sum();
    let cross =
        [axis[1] * p[2] - axis[2] * p[1], axis[2] * p[0] - axis[0] * p[2], axis[0] * p[1] - axis[1] * p[0]];
    std::array::from_fn(|k| p[k] * cos + cross[k] * sin + axis[k] * dot * (1.0 - cos) + [5.0, -3.0, 11.0][k])
}

fn shaken(p: &Point, k: usize, by: f64) -> Point {
    let sign = |n: usize| if (k + n).is_multiple_of(2) { 1.0 } else { -1.0 };
    std::array::from_fn(|x| p[x] + sign(x * k + 1) * by / 3f64.sqrt())
}

#[test]
fn molecules() {
    let home = tempfile::tempdir().unwrap();
    write(
        &home.path().join("big"),
        &[molecule("anti", &NUMBERS, &ANTI), molecule("x", &[1, 1], &ANTI[..2])],
        &[("train", 0..2)],
    );
    let order = [2, 0, 3, 1];
    let turned: Vec<Point> = order.iter().map(|&i| moved(&ANTI[i])).collect();
    let turned_numbers: Vec<u8> = order.iter().map(|&i| NUMBERS[i]).collect();
    let noisy: Vec<Point> = ANTI.iter().enumerate().map(|(k, p)| shaken(p, k, 0.049)).collect();
    let mirrored: Vec<Point> = GAUCHE.iter().map(|p| [p[0], p[1], -p[2]]).collect();
    let shifted: Vec<Point> = ANTI.iter().map(|p| [p[0] + 1.0, p[1], p[2] - 2.5]).collect();
    let fine = [
        molecule("same", &NUMBERS, &ANTI),
        molecule("shifted", &NUMBERS, &shifted),
        molecule("turned", &turned_numbers, &turned),
        molecule("noisy", &NUMBERS, &noisy),
        molecule("gauche", &NUMBERS, &GAUCHE),
        molecule("mirrored gauche", &NUMBERS, &mirrored),
        molecule("other elements", &[8, 6, 6, 8], &ANTI),
    ];
    write(&home.path().join("small"), &fine, &[("test", 0..7)]);
    numbers(
        home.path(),
        &["--pretrain", "big", "--finetune", "small", "--by", "composition,structure,exact"],
    );
    let found = |by: &str| -> Vec<String> {
        let mask = mask(home.path(), &format!("pretrain-finetune-{by}-small-test.parquet"));
        mask.into_iter().filter(|m| m.1).map(|m| m.0).collect()
    };
    assert_eq!(found("composition").len(), 6);
    assert_eq!(found("structure"), ["same", "shifted", "turned", "noisy"]);
    assert_eq!(found("exact"), ["same", "shifted"]);
}

/// Rock salt in its conventional cell of eight atoms.
fn rock_salt(a: f64) -> (Vec<u8>, Vec<Point>) {
    let corners = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]];
    let positions = corners
        .iter()
        .map(|f| f.map(|x: f64| x * a))
        .chain(corners.iter().map(|f| [(f[0] + 0.5) * a, f[1] * a, f[2] * a]))
        .collect();
    ([vec![11; 4], vec![17; 4]].concat(), positions)
}

#[test]
fn crystals_in_any_cell() {
    let home = tempfile::tempdir().unwrap();
    let a = 5.64;
    let cube = [[a, 0.0, 0.0], [0.0, a, 0.0], [0.0, 0.0, a]];
    let (numbers_8, positions_8) = rock_salt(a);
    write(
        &home.path().join("big"),
        &[crystal("cube", &numbers_8, &positions_8, cube), molecule("x", &[1, 1], &ANTI[..2])],
        &[("train", 0..2)],
    );
    let h = a / 2.0;
    let primitive = [[0.0, h, h], [h, 0.0, h], [h, h, 0.0]];
    let doubled: Vec<Point> = positions_8.iter().flat_map(|p| [*p, [p[0] + a, p[1], p[2]]]).collect();
    let doubled_numbers: Vec<u8> = numbers_8.iter().flat_map(|&z| [z, z]).collect();
    // Caesium chloride's arrangement of the same atoms.
    let b = 3.4;
    let other = [[b, 0.0, 0.0], [0.0, b, 0.0], [0.0, 0.0, b]];
    let origin = moved(&[0.0; 3]);
    let turn = |v: [Point; 3]| v.map(|p| std::array::from_fn(|k| moved(&p)[k] - origin[k]));
    let (wide_numbers, wide) = rock_salt(a * 1.05);
    let fine: Vec<Structure> = vec![
        crystal("primitive", &[17, 11], &[[0.0; 3], [h, h, h]], primitive),
        crystal("turned", &[11, 17], &[moved(&[0.0; 3]), moved(&[h, h, h])], turn(primitive)),
        crystal("doubled", &doubled_numbers, &doubled, [[2.0 * a, 0.0, 0.0], cube[1], cube[2]]),
        crystal("caesium chloride", &[11, 17], &[[0.0; 3], [b / 2.0; 3]], other),
        crystal("stretched", &wide_numbers, &wide, cube.map(|v| v.map(|x| x * 1.05))),
    ];
    write(&home.path().join("small"), &fine, &[("test", 0..5)]);
    let json = numbers(home.path(), &["--pretrain", "big", "--finetune", "small", "--by", "structure"]);
    let mask = mask(home.path(), "pretrain-finetune-structure-small-test.parquet");
    let found: Vec<&str> = mask.iter().filter(|m| m.1).map(|m| m.0.as_str()).collect();
    assert_eq!(found, ["primitive", "turned", "doubled"]);
    assert_eq!(json["comparisons"][0]["checked"][0]["against"][0]["reference_structures"], 1);
}
