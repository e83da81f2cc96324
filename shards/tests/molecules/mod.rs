//! Made-up molecules and datasets of them.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use shards::graph::GraphSpec;
use shards::layout::{Layout, NeighborStorage};
use shards::manifest::DatasetHeader;
use shards::splits::SplitDefinition;
use shards::writer::{DatasetWriter, DuplicateIds, Plan, UnitRecord};
use shards::{FloatWidth, Floats, Manifest, RowSet, Structure};

/// Molecule number `i`: 4 to 8 atoms of H, C and O on a jittered grid, with made-up labels.
pub(crate) fn molecule(i: u64) -> Structure {
    let n = 4 + (i % 5) as usize;
    let noise = |k: u64| ((i * 7919 + k * 104_729) % 1000) as f64 / 1000.0 - 0.5;
    let atomic_numbers: Vec<u8> = (0..n).map(|k| [6, 1, 8, 1, 1][(k + i as usize) % 5]).collect();
    let mut positions = vec![];
    for k in 0..n as u64 {
        let grid = [k % 2, k / 2 % 2, k / 4];
        positions
            .extend(grid.iter().enumerate().map(|(x, &g)| 1.3 * g as f64 + 0.3 * noise(3 * k + x as u64)));
    }
    let energy = atomic_numbers.iter().map(|&z| -13.7 * f64::from(z) * f64::from(z)).sum::<f64>() + noise(99);
    Structure {
        energy: Some(energy),
        forces: Some(Floats::F64((0..3 * n as u64).map(|k| 2.0 * noise(200 + k)).collect())),
        ..Structure::new(format!("m{i}"), format!("g{}", i % 4), atomic_numbers, Floats::F64(positions))
    }
}

pub(crate) fn header() -> DatasetHeader {
    DatasetHeader {
        name: "made-up".into(),
        domain: "molecules".into(),
        level_of_theory: "none".into(),
        licence: "CC0-1.0".into(),
        constants: None,
        source_units: None,
        choices: BTreeMap::new(),
    }
}

/// A plan of units `u0`, `u1`, ….
pub(crate) fn plan(layout: Layout, units: usize) -> Plan {
    let units = (0..units).map(|u| format!("u{u}")).collect();
    Plan { tool: "test".into(), header: header(), layout, units, reference: None }
}

pub(crate) fn layout() -> Layout {
    Layout {
        float: FloatWidth::F64,
        targets: vec![],
        graph: GraphSpec::new(8.0, 30),
        neighbors: NeighborStorage::Full,
        row_group_rows: 4,
    }
}

pub(crate) fn write_unit(writer: &DatasetWriter, unit: u32, structures: &[Structure]) -> UnitRecord {
    let mut out = writer.unit(unit).unwrap();
    structures.iter().for_each(|s| out.push(s).unwrap());
    out.finish(vec![]).unwrap()
}

/// Finishes with one split, `all`.
pub(crate) fn finish(writer: DatasetWriter) -> Manifest {
    let all = |d: &shards::Dataset| {
        Ok(vec![SplitDefinition::new("all", "all rows", None, RowSet::from_range(0..d.rows()))?])
    };
    writer.finish(DuplicateIds::Refuse, all).unwrap()
}

/// Writes units, on several threads in reverse order when asked.
pub(crate) fn write(out: &Path, layout: &Layout, units: &[Vec<Structure>], threads: usize) -> Manifest {
    let writer = DatasetWriter::create(out, plan(layout.clone(), units.len()), false).unwrap();
    std::thread::scope(|scope| {
        for t in 0..threads {
            let writer = &writer;
            scope.spawn(move || {
                for u in (0..units.len()).rev().filter(|u| u % threads == t) {
                    write_unit(writer, u as u32, &units[u]);
                }
            });
        }
    });
    finish(writer)
}

/// All files below a directory with their bytes.
pub(crate) fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for sub in ["", "data", "splits"] {
        for entry in fs::read_dir(dir.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}
