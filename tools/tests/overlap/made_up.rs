//! Datasets of given structures.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use shards::graph::GraphSpec;
use shards::layout::{Layout, NeighborStorage};
use shards::manifest::DatasetHeader;
use shards::splits::SplitDefinition;
use shards::writer::{DatasetWriter, DuplicateIds, Plan};
use shards::{FloatWidth, Floats, RowSet, Structure};

/// A molecule.
pub(crate) fn molecule(id: &str, numbers: &[u8], positions: &[[f64; 3]]) -> Structure {
    let flat = Floats::F64(positions.as_flattened().to_vec());
    Structure::new(id.into(), id.into(), numbers.to_vec(), flat)
}

/// A crystal.
pub(crate) fn crystal(id: &str, numbers: &[u8], positions: &[[f64; 3]], cell: [[f64; 3]; 3]) -> Structure {
    let mut flat = [0.0; 9];
    flat.copy_from_slice(cell.as_flattened());
    Structure { cell: Some(flat), pbc: [true; 3], ..molecule(id, numbers, positions) }
}

/// Writes structures in two parts, with row groups of three rows, and the given splits.
pub(crate) fn write(dir: &Path, structures: &[Structure], splits: &[(&str, Range<u64>)]) {
    let header = DatasetHeader {
        name: "made-up".into(),
        domain: "any".into(),
        level_of_theory: "none".into(),
        licence: "CC0-1.0".into(),
        constants: None,
        source_units: None,
        choices: BTreeMap::new(),
    };
    let layout = Layout {
        float: FloatWidth::F64,
        targets: vec![],
        graph: GraphSpec::new(5.0, 30),
        neighbors: NeighborStorage::None,
        row_group_rows: 3,
    };
    let units = vec!["a".to_string(), "b".into()];
    let plan = Plan { tool: "test".into(), header, layout, units, reference: None };
    let writer = DatasetWriter::create(dir, plan, false).unwrap();
    let half = structures.len() / 2;
    for (unit, part) in [&structures[..half], &structures[half..]].into_iter().enumerate() {
        let mut out = writer.unit(unit as u32).unwrap();
        part.iter().for_each(|s| out.push(s).unwrap());
        out.finish(vec![]).unwrap();
    }
    let split = |(name, rows): &(&str, Range<u64>)| {
        SplitDefinition::new(name, "given", None, RowSet::from_range(rows.clone()))
    };
    writer.finish(DuplicateIds::Refuse, |_| splits.iter().map(split).collect()).unwrap();
}
