//! `jmp-ingest convert` on fixtures of every format it reads: the right numbers, and the same bytes every time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::least_squares;
use crate::programs::{assert_same_tree, copy_tree, fixture, ingest};
use crate::rows::{Row, manifest, rows, splits};

/// Dataset name and input of each source that is read.
const SOURCES: [(&str, &str); 5] = [
    ("ani1x", "ani1x/ani1x-release.h5"),
    ("oc20", "oc20/s2ef_pyg2"),
    ("oc20", "oc20/s2ef_pyg1"),
    ("oc22", "oc22/s2ef-total/train"),
    ("rmd17", "rmd17/rmd17/npz_data/rmd17_ethanol.npz"),
];

pub(crate) fn convert(dataset: &str, input: &Path, output: &Path, jobs: &str) -> crate::programs::Ended {
    ingest(&[&"convert", &"--dataset", &dataset, &"--input", &input, &"--output", &output, &"--jobs", &jobs])
}

/// A converted fixture and the folder that holds it.
fn converted(dataset: &str, input: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("shards");
    convert(dataset, &fixture(input), &out, "2").ok();
    (dir, out)
}

fn truth(dataset: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(dataset).join("truth.json")).unwrap()).unwrap()
}

#[test]
fn twice_and_with_more_jobs_gives_the_same_bytes() {
    for (dataset, input) in SOURCES {
        let dir = tempfile::tempdir().unwrap();
        let outs = ["one", "again", "two"].map(|name| dir.path().join(name));
        for (out, jobs) in outs.iter().zip(["1", "1", "2"]) {
            convert(dataset, &fixture(input), out, jobs).ok();
        }
        assert_same_tree(&outs[0], &outs[1]);
        assert_same_tree(&outs[0], &outs[2]);
    }
}

#[test]
fn what_was_converted_verifies() {
    for (dataset, input) in SOURCES {
        let (_dir, out) = converted(dataset, input);
        ingest(&[&"verify", &out]).ok();
    }
}

/// Compares a row with an entry of truth.json; `factor` is between the constants used and the truth's.
#[track_caller]
fn assert_row(row: &Row, entry: &Value, factor: f64, tolerance: f64) {
    let flat = |key: &str| -> Vec<f64> {
        entry[key]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|v| v.as_array().unwrap())
            .map(|x| x.as_f64().unwrap())
            .collect()
    };
    let numbers: Vec<u8> =
        entry["numbers"].as_array().unwrap().iter().map(|z| z.as_u64().unwrap() as u8).collect();
    assert_eq!(row.numbers, numbers);
    assert_close(&row.positions, &flat("positions_ang"), 1.0, 1e-6);
    assert_close(&[row.energy.unwrap()], &[entry["energy_ev"].as_f64().unwrap()], factor, tolerance);
    assert_close(row.forces.as_ref().unwrap(), &flat("forces_ev_per_ang"), factor, 1e-5);
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64], factor: f64, tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let want = w * factor;
        assert!((g - want).abs() <= tolerance * want.abs().max(1.0), "entry {i}: got {g}, want {want}");
    }
}

#[test]
fn ani1x_has_the_true_values_without_the_smallest_formulas() {
    let (_dir, out) = converted("ani1x", "ani1x/ani1x-release.h5");
    let (rows, truth) = (rows(&out), truth("ani1x"));
    let truth = &truth["ani1x-release.h5"];
    let mut by_formula: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        by_formula.entry(&row.group).or_default().push(row);
    }
    let kept: Vec<&str> =
        truth["kept_groups_ge4_atoms"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(by_formula.keys().copied().collect::<Vec<_>>(), kept);
    for (formula, rows) in by_formula {
        assert_eq!(rows.len() as u64, truth["frames_per_group"][formula].as_u64().unwrap());
        let group = &truth["groups"][formula];
        assert_row(rows[0], &group["first"], 1.0, 1e-10);
        assert_row(rows[rows.len() - 1], &group["last"], 1.0, 1e-10);
    }
}

#[test]
fn ani1x_leaves_out_rows_without_a_finite_label_and_counts_them() {
    let (_dir, out) = converted("ani1x", "ani1x/ani1x-nan.h5");
    let truth = truth("ani1x");
    let truth = &truth["ani1x-nan.h5"];
    let kept = truth["kept_groups_ge4_atoms"].as_array().unwrap();
    let valid: usize =
        kept.iter().map(|f| truth["valid_rows"][f.as_str().unwrap()].as_array().unwrap().len()).sum();
    let all: u64 =
        kept.iter().map(|f| truth["frames_per_group"][f.as_str().unwrap()].as_u64().unwrap()).sum();
    let rows = rows(&out);
    assert_eq!(rows.len(), valid);
    assert!((valid as u64) < all, "the fixture has such rows");
    assert!(rows.iter().all(|row| row.energy.unwrap().is_finite()));
}

#[test]
fn oc22_has_the_true_values() {
    let (_dir, out) = converted("oc22", "oc22/s2ef-total/train");
    let (rows, truth) = (rows(&out), truth("oc22"));
    assert_eq!(rows.len() as u64, truth["counts"]["train"].as_u64().unwrap());
    assert_row(&rows[0], &truth["train_first"], 1.0, 1e-12);
    assert_row(&rows[rows.len() - 1], &truth["train_last"], 1.0, 1e-12);
    let energies: Vec<f64> = rows.iter().map(|row| row.energy.unwrap()).collect();
    let want: Vec<f64> =
        truth["all_train_energy_ev"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_close(&energies, &want, 1.0, 1e-12);
}

#[test]
fn rmd17_has_the_true_values_in_the_constants_its_manifest_names() {
    let (_dir, out) = converted("rmd17", "rmd17/rmd17/npz_data/rmd17_ethanol.npz");
    let (rows, truth) = (rows(&out), truth("rmd17"));
    let ethanol = &truth["molecules"]["ethanol"];
    assert_eq!(rows.len() as u64, ethanol["frames"].as_u64().unwrap());
    // The truth is in ASE's kcal/mol (CODATA 2014); JMP's own factor is 2e-5 away.
    let used = manifest(&out)["dataset"]["constants"]["kcal_mol_ev"].as_f64().unwrap();
    let factor = used / truth["units"]["constants_ase"]["kcalmol_ev"].as_f64().unwrap();
    assert!((factor - 1.0).abs() < 3e-5, "{used} eV is no kcal/mol");
    assert_row(&rows[0], &ethanol["first"], factor, 1e-10);
    assert_row(&rows[rows.len() - 1], &ethanol["last"], factor, 1e-10);
}

#[test]
fn linear_references_equal_independent_least_squares() {
    for (dataset, input) in [("ani1x", "ani1x/ani1x-release.h5"), ("oc22", "oc22/s2ef-total/train")] {
        let (_dir, out) = converted(dataset, input);
        let (rows, manifest) = (rows(&out), manifest(&out));
        for (name, members) in splits(&out) {
            let energy = &manifest["splits"][&name]["statistics"]["labels"]["energy"];
            let reference = &energy["reference"];
            let coefficients: BTreeMap<u8, f64> =
                reference["coefficients"].as_object().map_or_else(BTreeMap::new, |c| {
                    c.iter().map(|(z, v)| (z.parse().unwrap(), v.as_f64().unwrap())).collect()
                });
            let elements: Vec<u8> = coefficients.keys().copied().collect();
            if members.is_empty() || reference["rank"].as_u64() != Some(elements.len() as u64) {
                continue; // Rank-deficient fits are the Python oracle's matter (numpy gives the least norm).
            }
            let members: Vec<&Row> = members.iter().map(|&row| &rows[row as usize]).collect();
            let counts = |row: &Row| -> Vec<f64> {
                elements
                    .iter()
                    .map(|z| row.numbers.iter().map(|n| f64::from(u8::from(n == z))).sum())
                    .collect()
            };
            let matrix: Vec<Vec<f64>> = members.iter().map(|row| counts(row)).collect();
            let target: Vec<f64> = members.iter().map(|row| row.energy.unwrap()).collect();
            let want = least_squares::solve(&matrix, &target);
            let got: Vec<f64> = coefficients.into_values().collect();
            let scale = want.iter().fold(1.0_f64, |a, b| a.max(b.abs()));
            for (g, w) in got.iter().zip(&want) {
                assert!((g - w).abs() <= 1e-8 * scale, "{dataset}, split {name}: {got:?} against {want:?}");
            }
            let residual: Vec<f64> = matrix
                .iter()
                .zip(&target)
                .map(|(x, y)| y - x.iter().zip(&want).map(|(a, b)| a * b).sum::<f64>())
                .collect();
            let mean = residual.iter().sum::<f64>() / residual.len() as f64;
            let std =
                (residual.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / residual.len() as f64).sqrt();
            let told = energy["referenced"]["std"].as_f64().unwrap();
            assert!(
                (told - std).abs() <= 1e-7 * std.max(1.0),
                "{dataset}, split {name}: std {told} against {std}"
            );
        }
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let (dir, out) = converted("oc22", "oc22/s2ef-total/val_id");
    let broken = dir.path().join("broken");
    copy_tree(&out, &broken);
    for (name, content) in crate::programs::tree(&out) {
        // Some bytes of each file, its first and last among them.
        let step = (content.len() / 7).max(1);
        let places = (0..content.len()).step_by(step).chain([content.len() - 1]);
        for place in places {
            let mut flipped = content.clone();
            flipped[place] ^= 0x10;
            fs::write(broken.join(&name), &flipped).unwrap();
            let ended = ingest(&[&"verify", &broken]);
            assert!(
                matches!(ended.code, Some(1 | 2)),
                "byte {place} of {name} was flipped unnoticed: {ended:#?}"
            );
            assert!(!ended.stderr.contains("panicked"), "byte {place} of {name}: {ended:#?}");
        }
        fs::write(broken.join(&name), &content).unwrap();
    }
    ingest(&[&"verify", &broken]).ok();
}

#[test]
fn rows_are_stored_once_and_splits_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("oc22");
    let named = |split: &str| format!("{split}={}", fixture(&format!("oc22/s2ef-total/{split}")).display());
    ingest(&[
        &"convert",
        &"--dataset",
        &"oc22",
        &"--input",
        &named("train"),
        &"--input",
        &named("val_id"),
        &"--output",
        &out,
    ])
    .ok();
    let (rows, splits) = (rows(&out), splits(&out));
    assert_eq!(rows.len(), 32);
    assert_eq!(splits["train"].len(), 24);
    assert_eq!(splits["val_id"].len(), 8);
    let mut all: Vec<u64> = splits["train"].iter().chain(&splits["val_id"]).copied().collect();
    all.sort_unstable();
    assert_eq!(all, (0..32).collect::<Vec<u64>>());
}
