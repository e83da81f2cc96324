//! Real samples, where `JMP_REAL_DATA` names their folder (its PROVENANCE.md tells where the checked values are from).

use super::convert::convert;
use crate::programs::{ingest, real_data};
use crate::rows::rows;

/// Dataset, sample, number of structures, and the first one's energy in eV where it is known from elsewhere.
const SAMPLES: [(&str, &str, usize, Option<f64>); 7] = [
    // −559.96732665 Ha, 8 conformers of 5 formulas, all with at least 4 atoms.
    ("ani1x", "ani1x/ani1_n5.hdf5", 8, None),
    ("oc22", "oc22/s2ef-total/train/data.0000.lmdb", 16, Some(-566.622_888_64)),
    ("ani1x", "ani1x/lmdb/train/data.0000.lmdb", 16, Some(-7_222.384_567_385_502)),
    ("transition1x", "transition1x/lmdb/train/data.0000.lmdb", 16, Some(-7_762.637_212_807_026)),
    // −97079.92222179, −97082.38717603 and −406273.74559918 kcal/mol, at ASE's 0.0433641039… eV.
    ("rmd17", "rmd17/rmd17_ethanol_train_01.npz", 1000, Some(-97_079.922_221_79 * 0.043_364_103_900_593_22)),
    ("rmd17", "rmd17/rmd17_ethanol_test_01.npz", 1000, None),
    ("rmd17", "rmd17/rmd17_aspirin_train_01.npz", 1000, Some(-406_273.745_599_18 * 0.043_364_103_900_593_22)),
];

#[test]
fn real_samples_convert_and_verify() {
    let Some(data) = real_data("real_samples_convert_and_verify") else { return };
    for (dataset, sample, structures, first) in SAMPLES {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        convert(dataset, &data.join(sample), &out, "2").ok();
        ingest(&[&"verify", &out]).ok();
        let rows = rows(&out);
        assert_eq!(rows.len(), structures, "{sample}");
        if let Some(want) = first {
            let got = rows[0].energy.unwrap();
            assert!(
                (got - want).abs() < 1e-7 * want.abs(),
                "{sample}: the first energy is {got}, not {want}"
            );
        }
        for row in &rows {
            // Isolated molecules do not push themselves (slabs have fixed atoms and periodic images).
            let forces = row.forces.as_ref().unwrap();
            let net = [0, 1, 2].map(|axis| forces.iter().skip(axis).step_by(3).sum::<f64>().abs());
            let allowed = if dataset == "oc22" { f64::INFINITY } else { 0.05 };
            assert!(net.iter().all(|&f| f <= allowed), "{sample}, {}: net force {net:?} eV/Å", row.id);
        }
    }
}
