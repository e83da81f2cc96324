//! One golden file: its structures as graphs, and its arrays.

use std::collections::BTreeMap;
use std::path::Path;

use shards::graph::{Geometry, GraphSpec, StructureGraph};

use crate::npz::{self, Array};

pub(crate) struct Case {
    /// File name without extension: `{tiny,small,large}_{pt,ft}_{structures}`.
    pub(crate) name: String,
    pub(crate) arrays: BTreeMap<String, Array>,
    pub(crate) positions: Vec<[f64; 3]>,
    pub(crate) numbers: Vec<i64>,
    pub(crate) graphs: Vec<StructureGraph>,
}

impl Case {
    pub(crate) fn read(path: &Path) -> Self {
        let arrays = npz::read(path);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let column = |key: &str| &arrays[key].data;
        let triples = |key: &str| -> Vec<[f64; 3]> {
            column(key).chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect()
        };
        let (positions, cells) = (triples("pos"), triples("cell"));
        let tags: Vec<u8> = column("tags").iter().map(|t| *t as u8).collect();
        let mut graphs = Vec::new();
        let mut first = 0;
        for (g, natoms) in column("natoms").iter().enumerate() {
            let end = first + *natoms as usize;
            let periodic = column("pbc")[g] != 0.0;
            let geometry = Geometry {
                positions: &positions[first..end],
                cell: Some([cells[3 * g], cells[3 * g + 1], cells[3 * g + 2]]),
                pbc: [periodic; 3],
                tags: Some(&tags[first..end]),
            };
            let spec = GraphSpec::new(column("cutoff")[g], column("max_neighbors")[g] as u32);
            graphs.push(StructureGraph::build(&geometry, &spec).unwrap());
            first = end;
        }
        let numbers = column("atomic_numbers").iter().map(|z| *z as i64).collect();
        Self { name, arrays, positions, numbers, graphs }
    }

    /// `tiny`, `small` or `large`.
    pub(crate) fn size(&self) -> &str {
        self.name.split('_').next().unwrap()
    }

    /// Whether the file was made with pre-training heads and direct forces.
    pub(crate) fn pretraining(&self) -> bool {
        self.name.contains("_pt_")
    }

    /// Whether some quadruplets have three colinear atoms, which the reference treats by a clamp.
    pub(crate) fn colinear(&self) -> bool {
        let case = self.name.splitn(3, '_').nth(2).unwrap();
        !(case.starts_with("mols") || case.starts_with("slab"))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Array> {
        self.arrays.get(key)
    }
}
