//! A made-up dataset whose numbers can be worked out by hand.

use std::collections::BTreeMap;
use std::path::Path;

use shards::graph::GraphSpec;
use shards::layout::{Layout, NeighborStorage};
use shards::manifest::DatasetHeader;
use shards::splits::SplitDefinition;
use shards::writer::{DatasetWriter, DuplicateIds, Plan, Reject};
use shards::{FloatWidth, Floats, RowSet, Structure};

/// Rows of the dataset; two more are rejected.
pub(crate) const ROWS: u64 = 23;
/// Rows of split `train`: the first ones.
pub(crate) const TRAIN: u64 = 15;

/// Molecule `i`: 3 to 7 atoms of H, C, O within 4 Å of one another.
pub(crate) fn molecule(i: u64) -> Structure {
    let n = 3 + (i % 5) as usize;
    let noise = |k: u64| ((i * 7919 + k * 104_729) % 1000) as f64 / 1000.0 - 0.5;
    let atomic_numbers: Vec<u8> = (0..n).map(|k| [6, 1, 8, 1, 1][(k + i as usize) % 5]).collect();
    let place = |k: u64| [k % 2, k / 2 % 2, k / 4].map(|g| 1.4 * g as f64);
    let positions = (0..n as u64)
        .flat_map(|k| {
            let [x, y, z] = place(k);
            [x + 0.2 * noise(3 * k), y + 0.2 * noise(3 * k + 1), z + 0.2 * noise(3 * k + 2)]
        })
        .collect();
    let energy = atomic_numbers.iter().map(|&z| -13.7 * f64::from(z) * f64::from(z)).sum::<f64>() + noise(99);
    let forces = (0..3 * n as u64).map(|k| if i == 4 { 0.0 } else { 2.0 * noise(200 + k) }).collect();
    Structure {
        energy: Some(energy),
        forces: Some(Floats::F64(forces)),
        ..Structure::new(format!("m{i}"), format!("g{}", i % 4), atomic_numbers, Floats::F64(positions))
    }
}

/// Writes the dataset in three parts, with splits `all`, `train` and `val`.
pub(crate) fn write(dir: &Path) {
    write_with(dir, TRAIN);
}

/// The same with the first `train` rows in split `train`.
pub(crate) fn write_with(dir: &Path, train: u64) {
    let header = DatasetHeader {
        name: "made-up <1>".into(),
        domain: "molecules".into(),
        level_of_theory: "arithmetic & noise".into(),
        licence: "CC0-1.0".into(),
        constants: None,
        source_units: None,
        choices: BTreeMap::new(),
    };
    let layout = Layout {
        float: FloatWidth::F64,
        targets: vec![],
        graph: GraphSpec::new(8.0, 30),
        neighbors: NeighborStorage::Full,
        row_group_rows: 4,
    };
    let bounds = [0, 9, 17, ROWS];
    let units = (0..3).map(|u| format!("u{u}")).collect();
    let plan = Plan { tool: "test".into(), header, layout, units, reference: None };
    let writer = DatasetWriter::create(dir, plan, false).unwrap();
    for unit in 0..3u32 {
        let mut out = writer.unit(unit).unwrap();
        let (from, to) = (bounds[unit as usize], bounds[unit as usize + 1]);
        (from..to).for_each(|i| out.push(&molecule(i)).unwrap());
        if unit == 1 {
            for id in ["bad1", "bad2"] {
                out.reject(Reject {
                    id: id.into(),
                    code: "nan".into(),
                    reason: "energy is not finite".into(),
                });
            }
        }
        out.finish(vec![]).unwrap();
    }
    let split = |name: &str, from: u64, to: u64| {
        SplitDefinition::new(name, &format!("rows {from} to {to}"), None, RowSet::from_range(from..to))
    };
    writer
        .finish(DuplicateIds::Refuse, |_| {
            Ok(vec![split("all", 0, ROWS)?, split("train", 0, train)?, split("val", train, ROWS)?])
        })
        .unwrap();
}

/// The metrics of a short run.
pub(crate) const METRICS: &str = r#"{"kind":"train","step":1,"epoch":0.5,"samples":8,"loss":2.5,"lr":0.001,"gradient_norm":3.0,"tasks":{"made-up":{"energy_loss":1.0,"force_loss":1.5,"structures":8}},"samples_per_second":10.0,"waiting":0.25}
{"kind":"train","step":2,"epoch":1.0,"samples":16,"loss":1.25,"lr":0.002,"tasks":{"made-up":{"energy_loss":0.5,"force_loss":0.75,"structures":8}},"samples_per_second":11.0}
{"kind":"validation","step":2,"metric":0.7,"tasks":{"made-up":{"structures":4,"energy_mae":0.25,"atoms":12,"force_mae":0.125}}}
{"kind":"finished","ending":"complete","step":2,"samples":16,"minutes":0.5,"samples_per_second":12.5}
"#;
