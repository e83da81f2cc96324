//! What looks wrong is counted and listed, partitions are put together, references are given.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod molecules;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow::array::AsArray as _;
use arrow::datatypes::UInt64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use shards::linear_reference::GivenReference;
use shards::splits::SplitDefinition;
use shards::writer::{DatasetWriter, DuplicateIds, Plan};
use shards::{Dataset, Floats, Manifest, RowSet, Structure};

use molecules::{layout, molecule, plan, write_unit};

fn all(dataset: &Dataset) -> Result<Vec<SplitDefinition>, shards::ShardError> {
    Ok(vec![SplitDefinition::new("all", "all rows", None, RowSet::from_range(0..dataset.rows()))?])
}

fn write(
    out: &Path,
    plan: Plan,
    structures: &[Structure],
    duplicates: DuplicateIds,
) -> Result<Manifest, shards::ShardError> {
    let writer = DatasetWriter::create(out, plan, true).unwrap();
    if writer.finished(0).unwrap().is_none() {
        write_unit(&writer, 0, structures);
    }
    writer.finish(duplicates, all)
}

/// `(row, id, check)` of `outliers.parquet`.
fn listed(out: &Path) -> Vec<(u64, String, String)> {
    let file = fs::File::open(out.join("outliers.parquet")).unwrap();
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let text =
            |name: &str, i: usize| batch.column_by_name(name).unwrap().as_string::<i32>().value(i).to_owned();
        let row = batch.column_by_name("row").unwrap().as_primitive::<UInt64Type>();
        rows.extend((0..row.len()).map(|i| (row.value(i), text("id", i), text("check", i))));
    }
    rows
}

#[test]
fn suspicious_structures_are_stored_counted_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let mut structures: Vec<Structure> = (0..60).map(molecule).collect();
    for (i, s) in structures.iter_mut().enumerate() {
        if let Floats::F64(positions) = &mut s.positions {
            positions[5] += 0.004 * i as f64;
        }
        // No net force.
        s.forces = s.forces.take().map(|f| {
            let f = f.to_f64();
            let mean: Vec<f64> = (0..3)
                .map(|k| f.iter().skip(k).step_by(3).sum::<f64>() / s.atomic_numbers.len() as f64)
                .collect();
            Floats::F64(f.iter().enumerate().map(|(i, f)| f - mean[i % 3]).collect())
        });
    }
    let plain =
        write(&dir.path().join("plain"), plan(layout(), 1), &structures, DuplicateIds::Refuse).unwrap();
    let counts = |m: &Manifest| m.checks.clone().unwrap().counts;
    assert_eq!(counts(&plain).values().sum::<u64>(), 0, "{:?}", counts(&plain));
    assert_eq!(counts(&plain).len(), 10);
    assert!(!dir.path().join("plain/outliers.parquet").exists());

    structures[7].energy = structures[7].energy.map(|e| e + 400.0);
    structures[11].forces = Some(Floats::F64({
        let mut f = vec![0.0; 3 * structures[11].atoms()];
        (f[0], f[3]) = (300.0, -300.0);
        f
    }));
    let mut shifted = structures[20].clone();
    shifted.id = "shifted".into();
    shifted.positions = Floats::F64(shifted.positions.to_f64().iter().map(|x| x + 2.0).collect());
    structures[33] = shifted;
    if let Floats::F64(p) = &mut structures[40].positions {
        (p[3], p[4], p[5]) = (p[0], p[1] + 0.3, p[2]);
    }
    let manifest = write(&out, plan(layout(), 1), &structures, DuplicateIds::Refuse).unwrap();
    let found: Vec<(String, u64)> = counts(&manifest).into_iter().filter(|c| c.1 > 0).collect();
    let one = |code: &str| (code.to_owned(), 1);
    assert_eq!(
        found,
        [one("close_atoms"), one("duplicate_structure"), one("energy_outlier"), one("force_outlier")]
    );
    let want = [
        (7, "m7", "energy_outlier"),
        (11, "m11", "force_outlier"),
        (33, "shifted", "duplicate_structure"),
        (40, "m40", "close_atoms"),
    ];
    assert_eq!(listed(&out), want.map(|(r, i, c)| (r, i.to_owned(), c.to_owned())));
    let report = shards::verify::verify(&out, |_| ()).unwrap();
    assert_eq!((report.findings, report.suspicions), (vec![], counts(&manifest)));
    let path = out.join("outliers.parquet");
    let mut bytes = fs::read(&path).unwrap();
    bytes[60] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(shards::verify::verify(&out, |_| ()).unwrap().findings.len(), 1);
    // A count that is not that of the rows.
    let mut told = manifest;
    told.checks.as_mut().unwrap().counts.insert("net_force".into(), 3);
    told.checks.as_mut().unwrap().outliers_blake3 = None;
    told.write(&out).unwrap();
    let findings = shards::verify::verify(&out, |_| ()).unwrap().findings;
    assert!(findings[0].problem.contains("check net_force: expected 3 structures, found 0"), "{findings:?}");
}

#[test]
fn an_id_that_comes_twice_is_refused_or_listed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let mut structures: Vec<Structure> = (0..20).map(molecule).collect();
    structures[13].id = "m4".into();
    let error = write(&out, plan(layout(), 1), &structures, DuplicateIds::Refuse).unwrap_err().to_string();
    assert!(error.contains("1 rows have the id of an earlier row, such as `m4` in rows 4 and 13"), "{error}");
    assert!(!out.join("manifest.json").exists());
    // Nothing has to be written again.
    let manifest = write(&out, plan(layout(), 1), &[], DuplicateIds::Allow).unwrap();
    assert_eq!(manifest.checks.unwrap().counts["duplicate_id"], 1);
    assert!(listed(&out).contains(&(13, "m4".to_owned(), "duplicate_id".to_owned())));
}

#[test]
fn partitions_merge_into_the_bytes_of_one_job() {
    let dir = tempfile::tempdir().unwrap();
    let units: Vec<Vec<Structure>> =
        (0..7).map(|u| (0..5 + u).map(|i| molecule(20 * u + i)).collect()).collect();
    let one = dir.path().join("one");
    molecules::write(&one, &layout(), &units, 2);
    for n in [1, 2, 3, 7] {
        let part = |i: usize| dir.path().join(format!("part-{n}-{i}"));
        for i in 0..n {
            let writer = DatasetWriter::create(part(i), plan(layout(), 7), false).unwrap();
            (0..7).filter(|u| u % n == i).for_each(|u| drop(write_unit(&writer, u as u32, &units[u])));
        }
        let out = dir.path().join(format!("merged-{n}"));
        let writer = DatasetWriter::create(&out, plan(layout(), 7), true).unwrap();
        (0..7).for_each(|u| writer.adopt(&part(u % n), u as u32).unwrap());
        molecules::finish(writer);
        assert!(molecules::tree(&one) == molecules::tree(&out), "{n} partitions");
    }
    let writer = DatasetWriter::create(dir.path().join("x"), plan(layout(), 7), true).unwrap();
    let error = writer.adopt(&dir.path().join("part-3-0"), 1).unwrap_err().to_string();
    assert!(error.contains("unit 1 is not finished in this partition"), "{error}");
    let broken = dir.path().join("part-3-0/data/part-00003.parquet");
    let mut bytes = fs::read(&broken).unwrap();
    bytes[99] ^= 1;
    fs::write(&broken, bytes).unwrap();
    let error = writer.adopt(&dir.path().join("part-3-0"), 3).unwrap_err().to_string();
    assert!(error.contains("part-00003.parquet: BLAKE3: expected"), "{error}");
}

#[test]
fn a_given_reference_is_used_for_every_split() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let structures: Vec<Structure> = (0..40).map(molecule).collect();
    let coefficients = BTreeMap::from([(1, -13.0), (6, -500.0), (8, -900.0)]);
    let reference =
        GivenReference { file: "ref.npz".into(), blake3: "x".into(), coefficients: coefficients.clone() };
    let plan = Plan { reference: Some(reference), ..plan(layout(), 1) };
    let manifest = write(&out, plan.clone(), &structures, DuplicateIds::Refuse).unwrap();
    let some = SplitDefinition::new("some", "rows", None, RowSet::from_range(3..30)).unwrap();
    shards::splits::add(&out, vec![some]).unwrap();
    let added = Dataset::open(&out).unwrap().manifest().clone();
    for (manifest, split, rows) in [(&manifest, "all", 0..40), (&added, "some", 3..30)] {
        let label = &manifest.splits[split].statistics.labels["energy"];
        assert_eq!((&label.reference.coefficients, label.reference.rank), (&coefficients, None));
        let residuals: Vec<f64> = structures[rows]
            .iter()
            .map(|s| s.energy.unwrap() - s.atomic_numbers.iter().map(|z| coefficients[z]).sum::<f64>())
            .collect();
        let n = residuals.len() as f64;
        let mean = residuals.iter().sum::<f64>() / n;
        let mae = residuals.iter().map(|r| r.abs()).sum::<f64>() / n;
        assert!(
            (label.referenced.mean - mean).abs() < 1e-8 && (label.referenced.mae - mae).abs() < 1e-8,
            "{split}"
        );
    }
    let mut lacking = plan;
    lacking.reference.as_mut().unwrap().coefficients.remove(&8);
    let error =
        write(&dir.path().join("no"), lacking, &structures, DuplicateIds::Refuse).unwrap_err().to_string();
    assert!(error.contains("element O (Z = 8) is absent from the linear reference `ref.npz`"), "{error}");
}
