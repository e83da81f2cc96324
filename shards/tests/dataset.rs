//! A dataset written, read back, damaged and resumed.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod molecules;

use std::fs;

use shards::layout::{Layout, NeighborStorage, Target};
use shards::splits::SplitDefinition;
use shards::targets::TargetTransform;
use shards::writer::{DatasetWriter, Reject};
use shards::{Dataset, FloatWidth, Floats, RowSet, Structure};

use molecules::{layout, molecule, write};

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let layout = Layout { targets: vec![target("gap", false)], float: FloatWidth::F32, ..layout() };
    let structures: Vec<Structure> = (0..23).map(full).collect();
    write(&out, &layout, &[structures[..10].to_vec(), structures[10..].to_vec()], 1);
    let dataset = Dataset::open(&out).unwrap();
    assert_eq!(dataset.rows(), 23);
    for (row, expected) in structures.iter().enumerate() {
        assert_eq!(&dataset.structure(row as u64).unwrap(), expected, "row {row}");
    }
    assert_eq!(dataset.find("m17").unwrap(), Some(17));
    assert_eq!(dataset.find("m99").unwrap(), None);
}

fn target(name: &str, referenced: bool) -> Target {
    Target { name: name.into(), unit: "eV".into(), meaning: "made up".into(), referenced }
}

/// A structure with every optional column, or with none, by turns.
fn full(i: u64) -> Structure {
    let mut s = molecule(i);
    s.targets = vec![(!i.is_multiple_of(3)).then_some(i as f64)];
    s.positions = Floats::F32(s.positions.to_f64().iter().map(|&x| x as f32).collect());
    s.forces = s.forces.map(|f| Floats::F32(f.to_f64().iter().map(|&x| x as f32).collect()));
    if i.is_multiple_of(2) {
        s.cell = Some([9.0, 0.5, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0]);
        s.pbc = [true, false, i.is_multiple_of(4)];
        s.tags = Some((0..s.atoms()).map(|k| (k % 3) as u8).collect());
        s.fixed = Some((0..s.atoms()).map(|k| k % 2 == 0).collect());
        s.charge = Some(-1.0);
        s.spin = Some(2.0);
        s.stress = Some([0.1, 0.2, 0.3, 0.4, 0.5, i as f64]);
        s.energy = None;
        s.forces = None;
    }
    s
}

#[test]
fn stored_neighbours_are_the_computed_ones() {
    let dir = tempfile::tempdir().unwrap();
    let structures: Vec<Structure> = (0..8).map(full).map(|s| Structure { targets: vec![], ..s }).collect();
    let out = dir.path().join("set");
    write(&out, &layout(), std::slice::from_ref(&structures), 1);
    let dataset = Dataset::open(&out).unwrap();
    let spec = dataset.layout().graph;
    let block = dataset.read(&dataset.row_groups()[0], shards::reader::Columns::all()).unwrap();
    for index in 0..block.rows() {
        let row = block.row(index);
        let (stored, used) = shards::batch::graph_of_row(&row, &spec, true, None).unwrap();
        let (computed, not_used) = shards::batch::graph_of_row(&row, &spec, false, None).unwrap();
        assert!(used && !not_used);
        assert_eq!(stored, computed);
        assert_eq!(block.counts(index).unwrap(), shards::graph::GraphCounts::of(&computed));
    }
}

#[test]
fn bytes_do_not_depend_on_the_order_of_units_or_on_threads() {
    let dir = tempfile::tempdir().unwrap();
    let units: Vec<Vec<Structure>> =
        (0..5).map(|u| (0..7 + u).map(|i| molecule(10 * u + i)).collect()).collect();
    let trees: Vec<_> = [1, 4]
        .into_iter()
        .enumerate()
        .map(|(run, threads)| {
            let out = dir.path().join(run.to_string());
            write(&out, &layout(), &units, threads);
            molecules::tree(&out)
        })
        .collect();
    assert!(trees[0].len() > 6);
    assert_eq!(trees[0], trees[1]);
}

#[test]
fn resume_ends_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let units: Vec<Vec<Structure>> = (0..3).map(|u| (0..6).map(|i| molecule(10 * u + i)).collect()).collect();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    write(&whole, &layout(), &units, 1);
    let create = |resume| DatasetWriter::create(&broken, molecules::plan(layout(), 3), resume);
    let writer = create(false).unwrap();
    molecules::write_unit(&writer, 1, &units[1]);
    // A unit cut off in the middle leaves a temporary file and no record.
    let mut half = writer.unit(0).unwrap();
    half.push(&units[0][0]).unwrap();
    drop(half);
    drop(writer);
    assert!(Dataset::open(&broken).unwrap_err().to_string().contains("not a finished dataset"));
    assert!(create(false).unwrap_err().to_string().contains("--resume"));
    let writer = create(true).unwrap();
    assert!(writer.finished(1).unwrap().is_some() && writer.finished(0).unwrap().is_none());
    for u in [0, 2] {
        molecules::write_unit(&writer, u, &units[u as usize]);
    }
    molecules::finish(writer);
    assert_eq!(molecules::tree(&whole), molecules::tree(&broken));
    assert!(create(true).unwrap_err().to_string().contains("finished dataset already"));
}

#[test]
fn every_flipped_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    write(&out, &layout(), &[(0..6).map(molecule).collect(), (6..9).map(molecule).collect()], 1);
    assert_eq!(shards::verify::verify(&out, |_| ()).unwrap().findings, []);
    for (name, bytes) in molecules::tree(&out) {
        let path = out.join(&name);
        let step = (bytes.len() / 60).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let found = shards::verify::verify(&out, |_| ()).map(|r| !r.findings.is_empty());
            assert!(!matches!(found, Ok(false)), "{name}: byte {at} of {} went unnoticed", bytes.len());
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn a_damaged_row_group_is_named_when_read() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    write(&out, &layout(), &[(0..6).map(molecule).collect()], 1);
    let part = out.join("data/part-00000.parquet");
    let mut bytes = fs::read(&part).unwrap();
    bytes[200] ^= 4;
    fs::write(&part, &bytes).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let error =
        dataset.read(&dataset.row_groups()[0], shards::reader::Columns::all()).unwrap_err().to_string();
    assert!(error.contains("part-00000.parquet: checksum of row group 0: expected"), "{error}");
}

#[test]
fn bad_structures_are_refused_and_the_unit_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let writer = DatasetWriter::create(&out, molecules::plan(layout(), 1), false).unwrap();
    let mut unit = writer.unit(0).unwrap();
    unit.push(&molecule(0)).unwrap();
    let bad = Structure { energy: Some(f64::NAN), ..molecule(1) };
    let error = unit.push(&bad).unwrap_err();
    assert_eq!(error.to_string(), "structure `m1`: `energy`: value 0 is NaN or infinite");
    unit.reject(Reject { id: "m1".into(), code: "non_finite".into(), reason: error.to_string() });
    unit.push(&molecule(2)).unwrap();
    unit.finish(vec![]).unwrap();
    let manifest = molecules::finish(writer);
    assert_eq!((manifest.rows, manifest.rejects["non_finite"]), (2, 1));
    assert!(out.join("rejects.parquet").exists());
}

#[test]
fn splits_are_added_and_measured() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    write(&out, &layout(), &[(0..20).map(molecule).collect()], 1);
    let rows = shards::splits::random(&RowSet::from_range(0..20), 42, &[15, 5]).unwrap();
    let named = ["train", "val"].into_iter().zip(rows);
    let definitions = named.map(|(n, r)| SplitDefinition::new(n, "random", Some(42), r).unwrap()).collect();
    shards::splits::add(&out, definitions).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let (train, val) = (dataset.split("train").unwrap(), dataset.split("val").unwrap());
    assert_eq!((train.len(), val.len()), (15, 5));
    assert!(train.iter().all(|r| !val.contains(r)));
    let again = SplitDefinition::new("train", "x", None, RowSet::from_range(0..1)).unwrap();
    let error = shards::splits::add(&out, vec![again]).unwrap_err().to_string();
    assert!(error.contains("has a split of that name"), "{error}");
    let error = dataset.split("tset").unwrap_err().to_string();
    assert!(error.contains("no split `tset`; it has all, train, val"), "{error}");
}

#[test]
fn statistics_equal_plain_arithmetic() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let structures: Vec<Structure> = (0..30).map(molecule).collect();
    write(&out, &layout(), &[structures[..17].to_vec(), structures[17..].to_vec()], 2);
    let dataset = Dataset::open(&out).unwrap();
    let got = &dataset.manifest().splits["all"].statistics;
    let energies: Vec<f64> = structures.iter().filter_map(|s| s.energy).collect();
    let mean = energies.iter().sum::<f64>() / energies.len() as f64;
    let std = (energies.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / energies.len() as f64).sqrt();
    let forces: Vec<f64> = structures.iter().flat_map(|s| s.forces.as_ref().unwrap().to_f64()).collect();
    let rms = (forces.iter().map(|f| f * f).sum::<f64>() / forces.len() as f64).sqrt();
    let label = &got.labels["energy"];
    assert!((label.mean - mean).abs() < 1e-9 * mean.abs() && (label.std - std).abs() < 1e-9 * std);
    assert!((got.forces.as_ref().unwrap().rms - rms).abs() < 1e-10);
    assert_eq!(got.atoms as usize, forces.len() / 3);
    // The residual of the fit is orthogonal to every element's counts (the normal equations).
    for z in [1u8, 6, 8] {
        let moment: f64 = structures
            .iter()
            .map(|s| {
                let count = f64::from(s.atomic_numbers.iter().map(|&a| u32::from(a == z)).sum::<u32>());
                count * (s.energy.unwrap() - label.reference.of(&s.atomic_numbers).unwrap())
            })
            .sum();
        assert!(moment.abs() < 1e-6, "{z}: {moment}");
    }
}

#[test]
fn neighbours_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let layout = Layout { neighbors: NeighborStorage::None, ..layout() };
    write(&out, &layout, &[(0..3).map(molecule).collect()], 1);
    assert_eq!(Dataset::open(&out).unwrap().structure(2).unwrap(), molecule(2));
}

#[test]
fn a_killed_start_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    for sub in ["data", "splits", ".progress"] {
        fs::create_dir_all(out.join(sub)).unwrap();
    }
    fs::write(out.join(".progress/plan.tmp"), "half").unwrap();
    write(&out, &layout(), &[(0..3).map(molecule).collect()], 1);
    assert_eq!(Dataset::open(&out).unwrap().rows(), 3);
    let other = dir.path().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("thesis.tex"), "mine").unwrap();
    let error = DatasetWriter::create(&other, molecules::plan(layout(), 1), true).unwrap_err();
    assert!(error.to_string().contains("holds other files"), "{error}");
}

#[test]
fn a_second_writer_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let create = || DatasetWriter::create(dir.path().join("set"), molecules::plan(layout(), 1), true);
    let first = create().unwrap();
    assert!(create().unwrap_err().to_string().contains("another jmp-ingest is writing here"));
    drop(first);
    create().unwrap();
}

#[test]
fn damaged_parts_of_an_interrupted_conversion_are_converted_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let create = || DatasetWriter::create(&out, molecules::plan(layout(), 1), true).unwrap();
    let writer = create();
    molecules::write_unit(&writer, 0, &[molecule(0), molecule(1)]);
    drop(writer);
    assert!(create().finished(0).unwrap().is_some());
    let part = out.join("data/part-00000.parquet");
    let mut bytes = fs::read(&part).unwrap();
    bytes[50] ^= 1;
    fs::write(&part, bytes).unwrap();
    assert!(create().finished(0).unwrap().is_none());
}

#[test]
fn rejects_are_covered_by_a_hash() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let writer = DatasetWriter::create(&out, molecules::plan(layout(), 1), false).unwrap();
    let mut unit = writer.unit(0).unwrap();
    unit.push(&molecule(0)).unwrap();
    unit.reject(Reject { id: "x".into(), code: "length".into(), reason: "too short".into() });
    unit.finish(vec![]).unwrap();
    molecules::finish(writer);
    let path = out.join("rejects.parquet");
    let bytes = fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 16;
        fs::write(&path, damaged).unwrap();
        assert_eq!(shards::verify::verify(&out, |_| ()).unwrap().findings.len(), 1, "byte {at}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(shards::verify::verify(&out, |_| ()).unwrap().findings.len(), 1);
}

#[test]
fn a_lying_manifest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let manifest = write(&out, &layout(), &[(0..6).map(molecule).collect()], 1);
    let lies: [fn(&mut shards::Manifest); 5] = [
        |m| m.rows += 1,
        |m| m.layout.row_group_rows = 0,
        |m| m.parts[0].file = "../../etc/passwd".into(),
        |m| m.parts[0].rows = u64::MAX,
        |m| m.atoms = 0,
    ];
    for (k, lie) in lies.iter().enumerate() {
        let mut told = manifest.clone();
        lie(&mut told);
        told.write(&out).unwrap();
        let error = Dataset::open(&out).unwrap_err().to_string();
        assert!(error.contains("manifest.json") && error.contains("expected"), "lie {k}: {error}");
    }
    let mut told = manifest.clone();
    told.layout.row_group_rows = 3;
    told.write(&out).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let error =
        dataset.read(&dataset.row_groups()[0], shards::reader::Columns::all()).unwrap_err().to_string();
    assert!(error.contains("row groups: expected 2 of 3 rows"), "{error}");
}

#[test]
fn scalar_targets_are_measured_split_by_split() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("set");
    let layout = Layout { targets: vec![target("gap", false), target("u0", true)], ..layout() };
    // u0 is a sum over atoms and a ripple; every fourth molecule has no gap, and no molecule has an energy.
    let value = |i: u64, s: &Structure| -> f64 {
        s.atomic_numbers.iter().map(|&z| -30.0 * f64::from(z)).sum::<f64>() + 0.01 * (i % 3) as f64
    };
    let gap = |i: u64| (!i.is_multiple_of(4)).then_some(0.5 + i as f64);
    let structures: Vec<Structure> = (0..40)
        .map(|i| {
            let s = molecule(i);
            Structure { targets: vec![gap(i), Some(value(i, &s))], energy: None, forces: None, ..s }
        })
        .collect();
    write(&out, &layout, std::slice::from_ref(&structures), 1);
    let sets = [("train", 0..30u64), ("val", 30..40)];
    let definitions = sets
        .clone()
        .map(|(name, rows)| SplitDefinition::new(name, "by hand", None, RowSet::from_range(rows)).unwrap());
    shards::splits::add(&out, definitions.to_vec()).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let (manifest, dir) = (dataset.manifest(), dataset.dir());
    for (name, rows) in sets {
        let labels = &manifest.split(dir, name).unwrap().statistics.labels;
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["gap", "u0"], "no energy, no statistics of it");
        let gaps: Vec<f64> = rows.clone().filter_map(gap).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let std = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert_eq!(labels["gap"].count, gaps.len() as u64);
        assert!((labels["gap"].mean - mean).abs() < 1e-9 && (labels["gap"].std - std).abs() < 1e-9);
        let u0 = &labels["u0"];
        assert!(u0.referenced.max_abs < 0.02 && u0.std > 100.0, "{u0:?}");
        assert!(u0.reference.coefficients.iter().all(|(&z, c)| (c + 30.0 * f64::from(z)).abs() < 0.02));
        let transform = |label| TargetTransform::of_label(manifest, dir, name, label).unwrap();
        let (plain, referenced) = (transform("gap"), transform("u0"));
        assert_eq!((plain.reference, plain.mean, plain.std), (None, labels["gap"].mean, labels["gap"].std));
        assert_eq!(referenced.reference.as_ref(), Some(&u0.reference));
        assert_eq!((referenced.mean, referenced.std), (u0.referenced.mean, u0.referenced.std));
    }
    let refused =
        |split, label| TargetTransform::of_label(manifest, dir, split, label).unwrap_err().to_string();
    assert!(refused("train", "g4p").ends_with("has no label `g4p`; it has energy, gap, u0"));
    assert!(refused("train", "energy").contains("no structure of split `train` has the label `energy`"));
    let block = dataset.read(&dataset.row_groups()[0], shards::reader::Columns::energies()).unwrap();
    assert_eq!((block.row(1).target(0), block.row(0).target(0)), (Some(1.5), None));
    assert_eq!(&dataset.structure(7).unwrap(), &structures[7]);
}
