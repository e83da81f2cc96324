use super::keys::{KeyFiles, KeyWriter};
use super::*;
use crate::structure::Floats;

fn molecule(positions: &[[f64; 3]]) -> Structure {
    Structure {
        energy: Some(-1000.0 * positions.len() as f64),
        forces: Some(Floats::F64(vec![0.0; 3 * positions.len()])),
        ..Structure::new("m".into(), "g".into(), vec![6; positions.len()], Floats::F64(positions.concat()))
    }
}

fn codes(structure: &Structure) -> Vec<&'static str> {
    examine(structure).iter().map(|s| s.check.code()).collect()
}

/// The least distance over all images within two cells.
fn brute_force(s: &Structure) -> f64 {
    let cell = s.cell.unwrap_or_default();
    let reach = |k: usize| if s.pbc[k] { -2..=2 } else { 0..=0 };
    let mut least = f64::INFINITY;
    for i in 0..s.atoms() {
        for j in 0..s.atoms() {
            for a in reach(0) {
                for b in reach(1) {
                    for c in reach(2) {
                        if (i, a, b, c) == (j, 0, 0, 0) {
                            continue;
                        }
                        let square: f64 = (0..3)
                            .map(|x| {
                                let shift = f64::from(a) * cell[x]
                                    + f64::from(b) * cell[3 + x]
                                    + f64::from(c) * cell[6 + x];
                                (s.positions.get(3 * i + x) - s.positions.get(3 * j + x) + shift).powi(2)
                            })
                            .sum();
                        least = least.min(square.sqrt());
                    }
                }
            }
        }
    }
    least
}

#[test]
fn the_closest_pair_is_that_of_brute_force() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut close, mut apart) = (0, 0);
    for case in 0..400 {
        let positions: Vec<[f64; 3]> =
            (0..3 + case % 9).map(|_| [0; 3].map(|_| 9.0 * random() - 3.0)).collect();
        let mut s = molecule(&positions);
        if case % 4 != 0 {
            let mut noise = || 2.4 * (random() - 0.5);
            s.cell = Some([5.0, noise(), noise(), noise(), 4.0, noise(), noise(), noise(), 6.0]);
            s.pbc = [case % 4 != 2, true, case % 4 != 3];
        }
        let expected = brute_force(&s);
        if let Some(found) = closest_pair(&s, 1.0) {
            close += 1;
            assert!((found - expected).abs() < 1e-9, "case {case}: {found}, expected {expected}");
        } else {
            apart += 1;
            assert!(expected >= 1.0, "case {case}: missed {expected}");
        }
    }
    assert!(close > 50 && apart > 50, "{close} {apart}");
}

#[test]
fn each_suspicion_is_raised_by_its_fault_alone() {
    let good = molecule(&[[0.0; 3], [0.0, 0.0, 1.2], [0.0, 1.1, 0.0]]);
    assert!(codes(&good).is_empty(), "{:?}", codes(&good));
    assert_eq!(codes(&molecule(&[[0.0; 3], [0.0, 0.0, 0.4]])), ["close_atoms"]);
    assert_eq!(codes(&molecule(&[[0.0; 3], [0.0, 0.0, 0.0]])), ["close_atoms", "overlapping_atoms"]);
    let mut pushed = good.clone();
    pushed.forces = Some(Floats::F64(vec![0.06, 0.0, 0.0, 0.06, 0.0, 0.0, 0.0, 0.0, 0.0]));
    assert_eq!(codes(&pushed), ["net_force"]);
    pushed.fixed = Some(vec![true, false, false]);
    assert!(codes(&pushed).is_empty());
    // Carbon: all its electrons bind by 1,030 eV. As kcal/mol that is 23,700; with the wrong sign it is no energy at all.
    for energy in [-3.0 * 23_700.0, 3.0 * 1030.0] {
        assert_eq!(codes(&Structure { energy: Some(energy), ..good.clone() }), ["energy_range"]);
    }
    for energy in [-3.0 * 1037.0, -3.0 * 9.2, 1.0] {
        assert!(codes(&Structure { energy: Some(energy), ..good.clone() }).is_empty());
    }
    let crystal = |cell| Structure { cell: Some(cell), pbc: [true; 3], ..good.clone() };
    assert!(codes(&crystal([3.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 3.0])).is_empty());
    assert_eq!(codes(&crystal([3.0, 0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 3.0, 0.0])), ["left_handed_cell"]);
    assert_eq!(
        codes(&crystal([1.6, 0.0, 0.0, 0.0, 1.6, 0.0, 0.0, 0.0, 1.6])),
        ["close_atoms", "cell_volume"]
    );
}

#[test]
fn energies_follow_forces_along_a_trajectory() {
    // Two atoms on a spring, E = ½ k (x − 1)².
    let frame = |x: f64, sign: f64, unit: f64| {
        let mut s = molecule(&[[0.0; 3], [0.0, 0.0, x]]);
        s.energy = Some(10.0 * (x - 1.0) * (x - 1.0));
        let f = sign * unit * 20.0 * (x - 1.0);
        s.forces = Some(Floats::F64(vec![0.0, 0.0, f, 0.0, 0.0, -f]));
        s
    };
    let judge = |sign, unit| {
        let (mut previous, mut sums) = (Previous::default(), ConsistencySums::default());
        (0..30).for_each(|i| previous.follow(&frame(0.8 + 0.02 * f64::from(i), sign, unit), &mut sums));
        sums.finish().unwrap()
    };
    let right = judge(1.0, 1.0);
    assert_eq!((right.pairs, right.fault()), (29, None));
    assert!((right.slope - 1.0).abs() < 1e-9 && (right.correlation - 1.0).abs() < 1e-9, "{right:?}");
    assert!(judge(-1.0, 1.0).fault().unwrap().contains("gradients"));
    assert!(judge(1.0, 1.0 / 27.2).fault().unwrap().contains("27.2"));
}

#[test]
fn repeats_are_found_in_any_number_of_passes() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for part in 0..3u64 {
        let path = dir.path().join(format!("{part}.keys"));
        let mut keys = KeyWriter::create(path.clone()).unwrap();
        for i in 0..20u64 {
            let row = 20 * part + i;
            // Every seventh structure is the same, but for a shift; one id comes twice.
            let shift = row as f64 * 0.37;
            let length = if row.is_multiple_of(7) { 1.5 } else { 1.6 + 0.01 * row as f64 };
            let mut s = molecule(&[[shift; 3], [shift, shift, shift + length]]);
            s.id = format!("m{}", if row == 33 { 5 } else { row });
            keys.push(&s).unwrap();
        }
        keys.finish().unwrap();
        files.push((path, 20));
    }
    let sevens: Vec<(u64, u64)> = (1..9).map(|k| (7 * k, 0)).collect();
    for held in [1, 7, 1000] {
        let [ids, structures] = KeyFiles::new(files.clone()).holding(held).repeats(100).unwrap();
        assert_eq!((ids.count, ids.listed), (1, vec![(33, 5)]), "{held}");
        assert_eq!((structures.count, structures.listed), (8, sevens.clone()), "{held}");
    }
    files[1].1 = 21;
    assert!(KeyFiles::new(files).repeats(9).unwrap_err().to_string().contains("expected 756, found 720"));
}
