//! Numbers of the report against arithmetic on the structures themselves.

use std::collections::BTreeMap;

use serde_json::Value;
use shards::reader::Columns;
use shards::{Dataset, Structure};

use crate::made_up::{ROWS, TRAIN, molecule};
use crate::report;

fn close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap_or(f64::NAN);
    let error = (found - expected).abs();
    assert!(error <= 1e-9 * expected.abs().max(1.0), "found {found}, expected {expected}");
}

fn all() -> Vec<Structure> {
    (0..ROWS).map(molecule).collect()
}

fn energy(s: &Structure) -> f64 {
    s.energy.unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn std(values: &[f64]) -> f64 {
    let centre = mean(values);
    mean(&values.iter().map(|v| (v - centre).powi(2)).collect::<Vec<_>>()).sqrt()
}

fn bins(histogram: &Value) -> Vec<(f64, f64, u64)> {
    let number = |bin: &Value, key: &str| bin[key].as_f64().unwrap();
    let bins = histogram["bins"].as_array().unwrap().iter();
    bins.map(|b| (number(b, "low"), number(b, "high"), b["count"].as_u64().unwrap())).collect()
}

#[test]
fn sizes_and_elements_are_counted() {
    let home = tempfile::tempdir().unwrap();
    let (json, _) = report(home.path(), &["--json"]);
    let d = &json["datasets"][0];
    assert_eq!(d["rows"], ROWS);
    assert_eq!(d["atoms"], all().iter().map(|s| s.atomic_numbers.len() as u64).sum::<u64>());
    let mut sizes: BTreeMap<usize, u64> = BTreeMap::new();
    let mut atoms: BTreeMap<u8, u64> = BTreeMap::new();
    for s in all() {
        *sizes.entry(s.atomic_numbers.len()).or_default() += 1;
        s.atomic_numbers.iter().for_each(|&z| *atoms.entry(z).or_default() += 1);
    }
    let expected: Vec<_> = sizes.iter().map(|(&n, &count)| (n as f64, n as f64 + 1.0, count)).collect();
    assert_eq!(bins(&d["sizes"]), expected);
    let elements = d["elements"].as_array().unwrap();
    assert_eq!(elements.len(), 3);
    for e in elements {
        let z = e["atomic_number"].as_u64().unwrap() as u8;
        let structures = all().iter().filter(|s| s.atomic_numbers.contains(&z)).count();
        assert_eq!((&e["atoms"], &e["structures"]), (&atoms[&z].into(), &structures.into()), "{z}");
    }
    let train = &d["splits"][1];
    assert_eq!((&train["name"], &train["rows"]), (&"train".into(), &TRAIN.into()));
    close(
        &train["atoms_mean"],
        mean(&all()[..TRAIN as usize].iter().map(|s| s.atomic_numbers.len() as f64).collect::<Vec<_>>()),
    );
    assert_eq!((&d["overview_split"], &d["training_split"]), (&"all".into(), &"train".into()));
    assert_eq!((&d["rejects"]["nan"], &d["first_rejects"][1][0]), (&2.into(), &"bad2".into()));
}

#[test]
fn energies_before_and_after_the_reference() {
    let home = tempfile::tempdir().unwrap();
    let (json, _) = report(home.path(), &[]);
    let d = &json["datasets"][0];
    let per_atom: Vec<f64> = all().iter().map(|s| energy(s) / s.atomic_numbers.len() as f64).collect();
    let found = &d["energy_per_atom"];
    close(&found["mean"], mean(&per_atom));
    close(&found["std"], std(&per_atom));
    close(&found["min"], per_atom.iter().copied().fold(f64::INFINITY, f64::min));
    let counted = bins(&found["histogram"]);
    assert_eq!(counted.iter().map(|b| b.2).sum::<u64>(), ROWS);
    for (low, high, count) in counted {
        // An energy on an edge may be counted on either side of it.
        let inside =
            |slack: f64| per_atom.iter().filter(|&&e| e >= low - slack && e <= high + slack).count() as u64;
        assert!(inside(-1e-9) <= count && count <= inside(1e-9), "{low} to {high}: {count}");
    }
    let coefficients: BTreeMap<u8, f64> = d["elements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["atomic_number"].as_u64().unwrap() as u8, e["reference"].as_f64().unwrap()))
        .collect();
    let residual = |s: &Structure| energy(s) - s.atomic_numbers.iter().map(|z| coefficients[z]).sum::<f64>();
    let train: Vec<Structure> = all().into_iter().take(TRAIN as usize).collect();
    // Least squares: the residuals are orthogonal to each element's counts.
    for z in coefficients.keys() {
        let count = |s: &Structure| s.atomic_numbers.iter().map(|n| f64::from(u8::from(n == z))).sum::<f64>();
        let product: f64 = train.iter().map(|s| count(s) * residual(s)).sum();
        assert!(product.abs() < 1e-6, "element {z}: {product}");
    }
    let residuals: Vec<f64> = train.iter().map(residual).collect();
    let label = &d["splits"][1]["labels"]["energy"];
    let absolute: Vec<f64> = residuals.iter().map(|r| r.abs()).collect();
    close(&label["referenced_std"], std(&residuals));
    close(&label["referenced_mae"], mean(&absolute));
    close(&label["mean"], mean(&train.iter().map(energy).collect::<Vec<_>>()));
    assert_eq!((&label["rank"], &label["elements"]), (&3.into(), &3.into()));
    let energies = &d["sample"]["energies"];
    let each: Vec<f64> = all().iter().map(|s| residual(s) / s.atomic_numbers.len() as f64).collect();
    close(&energies["referenced_per_atom"]["mean"], mean(&each));
    close(&energies["referenced_per_atom"]["std"], std(&each));
    close(&energies["referenced"]["mean"], mean(&all().iter().map(residual).collect::<Vec<_>>()));
    close(&energies["total"]["std"], std(&all().iter().map(energy).collect::<Vec<_>>()));
    assert_eq!(d["sample"]["complete"], true);
    // What is left in structures with oxygen, and of the composition that is fitted worst.
    let with = |z: u8| -> Vec<f64> {
        all().iter().zip(&each).filter(|(s, _)| s.atomic_numbers.contains(&z)).map(|(_, &r)| r).collect()
    };
    let oxygen = energies["by_element"].as_array().unwrap().iter().find(|e| e["symbol"] == "O").unwrap();
    assert_eq!(oxygen["structures"], with(8).len());
    close(&oxygen["mean"], mean(&with(8)));
    close(&oxygen["std"], std(&with(8)));
    let mut by_formula: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (s, &r) in all().iter().zip(&each) {
        by_formula.entry(shards::element::hill_formula(&s.atomic_numbers)).or_default().push(r);
    }
    let means = by_formula.iter().map(|(formula, values)| (formula, mean(values)));
    let worst = means.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
    assert_eq!(&energies["by_composition"][0]["formula"], worst.0);
    close(&energies["by_composition"][0]["mean"], worst.1);
}

#[test]
fn distances_neighbours_and_force_components() {
    let home = tempfile::tempdir().unwrap();
    let (json, _) = report(home.path(), &[]);
    let sample = &json["datasets"][0]["sample"];
    let distance = |s: &Structure, i: usize, j: usize| -> f64 {
        (0..3).map(|k| (s.positions.get(3 * i + k) - s.positions.get(3 * j + k)).powi(2)).sum::<f64>().sqrt()
    };
    let (mut nearest, mut neighbors) = (vec![], 0);
    for s in all() {
        for i in 0..s.atomic_numbers.len() {
            let others = (0..s.atomic_numbers.len()).filter(|&j| j != i).map(|j| distance(&s, i, j));
            neighbors += others.clone().filter(|&d| d < 8.0).count();
            nearest.push(others.fold(f64::INFINITY, f64::min));
        }
    }
    let found = &sample["geometry"]["nearest"];
    assert_eq!((&found["count"], &sample["geometry"]["isolated"]), (&nearest.len().into(), &0.into()));
    close(&found["mean"], mean(&nearest));
    close(&found["min"], nearest.iter().copied().fold(f64::INFINITY, f64::min));
    let counted = bins(&found["histogram"]);
    assert_eq!(
        counted.iter().map(|b| b.2).sum::<u64>() + found["beyond"].as_u64().unwrap(),
        nearest.len() as u64
    );
    for (low, high, count) in counted {
        let inside =
            |slack: f64| nearest.iter().filter(|&&d| d >= low - slack && d < high + slack).count() as u64;
        assert!(inside(-1e-9) <= count && count <= inside(1e-9), "{low} to {high}: {count}");
    }
    close(&sample["geometry"]["neighbors"]["mean"], neighbors as f64 / nearest.len() as f64);
    assert_eq!(sample["geometry"]["cells"], Value::Null);
    let components: Vec<f64> =
        all().iter().flat_map(|s| s.forces.clone().unwrap().iter().collect::<Vec<_>>()).collect();
    assert_eq!(sample["force_components"]["count"], components.len());
    close(&sample["force_components"]["mean"], mean(&components));
    close(&sample["force_components"]["std"], std(&components));
}

#[test]
fn memory_is_counts_times_sizes() {
    let home = tempfile::tempdir().unwrap();
    let (json, _) = report(home.path(), &[]);
    let d = &json["datasets"][0];
    let mean_of = |column: &str| {
        d["counts"].as_array().unwrap().iter().find(|c| c["column"] == column).unwrap()["mean"]
            .as_f64()
            .unwrap()
    };
    let large = &d["memory"][1];
    assert_eq!(large["model"], "JMP-L");
    let edges = 4.0 * 1024.0 * mean_of("edges_main");
    let triplets =
        4.0 * 64.0 * (mean_of("triplets") + mean_of("triplets_atom_edge") + mean_of("triplets_edge_atom"));
    close(&large["edges"], edges);
    close(&large["mean"], edges + triplets + 4.0 * 64.0 * mean_of("quadruplets"));
}

#[test]
fn a_sample_is_said_to_be_one() {
    let home = tempfile::tempdir().unwrap();
    let (json, page) = report(home.path(), &["--sample", "9"]);
    let sample = &json["datasets"][0]["sample"];
    assert_eq!((&sample["complete"], &sample["structures"]), (&false.into(), &9.into()));
    assert!(page.contains("A sample of 9 structures from ") && page.contains("seed 0"), "{sample}");
    let (other, _) = report(home.path(), &["--sample", "9", "--seed", "5"]);
    let mean = |json: &Value| json["datasets"][0]["sample"]["energies"]["total"]["mean"].as_f64().unwrap();
    assert!(mean(&json) != mean(&other), "the seed chooses the structures");
}

#[test]
fn forces_and_graphs() {
    let home = tempfile::tempdir().unwrap();
    let (json, _) = report(home.path(), &[]);
    let d = &json["datasets"][0];
    let norms: Vec<f64> = all()
        .iter()
        .flat_map(|s| {
            s.forces
                .clone()
                .unwrap()
                .iter()
                .collect::<Vec<_>>()
                .chunks(3)
                .map(|f| f.iter().map(|x| x * x).sum::<f64>().sqrt())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(d["zero_forces"], norms.iter().filter(|&&n| n == 0.0).count());
    for (low, high, count) in bins(&d["force_norms"]) {
        assert_eq!(count, norms.iter().filter(|&&n| n >= low && n < high).count() as u64, "{low} to {high}");
    }
    close(&d["splits"][0]["forces"]["mean_norm"], mean(&norms));
    // All atoms of a molecule are neighbours: ordered pairs, and ordered pairs at each atom.
    let count = |column: &str| {
        d["counts"].as_array().unwrap().iter().find(|c| c["column"] == column).unwrap().clone()
    };
    let sizes: Vec<u64> = all().iter().map(|s| s.atomic_numbers.len() as u64).collect();
    let (edges, triplets) = (count("edges_main"), count("triplets"));
    assert_eq!(edges["total"], sizes.iter().map(|n| n * (n - 1)).sum::<u64>());
    assert_eq!((&edges["min"], &edges["max"]), (&6.into(), &42.into()));
    assert_eq!(triplets["total"], sizes.iter().map(|n| n * (n - 1) * (n - 2)).sum::<u64>());
    let mut sorted = sizes.clone();
    sorted.sort_unstable();
    let at = |share: f64| sorted[(ROWS as f64 * share).ceil() as usize - 1];
    assert_eq!(
        (&edges["median"], &edges["p95"]),
        (&(at(0.5) * (at(0.5) - 1)).into(), &(at(0.95) * (at(0.95) - 1)).into())
    );
    // Quadruplets: the shards' own reader against polars.
    let dataset = Dataset::open(home.path().join("dataset")).unwrap();
    let quadruplets = dataset.row_groups().iter().map(|group| {
        let block = dataset.read(group, Columns::counts()).unwrap();
        (0..block.rows()).map(|row| block.counts(row).unwrap().quadruplets).sum::<u64>()
    });
    assert_eq!(count("quadruplets")["total"], quadruplets.sum::<u64>());
}

#[test]
fn the_mix_follows_the_temperature() {
    let home = tempfile::tempdir().unwrap();
    let (dataset, second) = (home.path().join("dataset"), home.path().join("second"));
    crate::made_up::write(&dataset);
    // The second is trained on all its 23 rows, the first on 15.
    crate::made_up::write_with(&second, ROWS);
    let output = home.path().join("r.html");
    let path = |p: &std::path::Path| p.display().to_string();
    let done =
        crate::stats(&[path(&dataset), path(&second), "--output".into(), path(&output), "--json".into()]);
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    let drawn = |t: usize| {
        let of = |d: usize| json["mix"][t]["datasets"][d]["drawn"].as_u64().unwrap();
        (of(0), of(1))
    };
    // n · (n_max / n)^(1 − 1/T): unchanged, by the square root, alike.
    let (small, large) = (TRAIN as f64, ROWS as f64);
    assert_eq!(drawn(0), (TRAIN, ROWS));
    assert_eq!(drawn(1), ((small * (large / small).sqrt()).ceil() as u64, ROWS));
    assert_eq!(drawn(2), (ROWS, ROWS));
    let temperatures: Vec<&Value> = (0..3).map(|t| &json["mix"][t]["temperature"]).collect();
    assert_eq!(temperatures, ["1", "2", "inf"]);
}
