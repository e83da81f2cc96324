use serde::{Deserialize, Serialize};

use super::{Edges, NONE, StructureGraph};

/// How large a structure's graphs are: what cost, memory and batch budgets are reckoned from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphCounts {
    /// Edges of the main graph, after symmetrisation.
    pub main: u32,
    /// Edges of the atom-edge graph.
    pub atom_edge: u32,
    /// Edges of the quadruplet graph, after the tag filter.
    pub quadruplet_edges: u32,
    /// Edges of the atom-atom graph.
    pub atom_atom: u32,
    /// Pairs of main edges at one atom (e2e).
    pub triplets: u64,
    /// Atom-edge edge into main edge (a2e).
    pub triplets_atom_edge: u64,
    /// Main edge into atom-edge edge (e2a); equals a2e, as the same pairs are read the other way.
    pub triplets_edge_atom: u64,
    /// Quadruplets `c→a←b←d`.
    pub quadruplets: u64,
}

impl GraphCounts {
    /// Counts without listing any triplet or quadruplet.
    pub fn of(graph: &StructureGraph) -> Self {
        let degree = |edges: &Edges, t: usize| edges.degree(t) as u64;
        let twins = |list: &[u32]| list.iter().filter(|twin| **twin != NONE).count() as u64;
        let (mut triplets, mut mixed, mut quadruplets) = (0, 0, 0);
        for t in 0..graph.atoms() {
            let main = degree(&graph.main, t);
            triplets += main * main.saturating_sub(1);
            mixed += main * degree(&graph.atom_edge, t);
            for q in graph.quadruplet.row(t) {
                let same = u64::from(graph.quadruplet_twin[q] != NONE);
                let into_b = degree(&graph.main, graph.quadruplet.source[q] as usize);
                quadruplets += (main - same) * (into_b - same);
            }
        }
        let mixed = mixed - twins(&graph.atom_edge_twin);
        Self {
            main: graph.main.len() as u32,
            atom_edge: graph.atom_edge.len() as u32,
            quadruplet_edges: graph.quadruplet.len() as u32,
            atom_atom: graph.atom_atom.len() as u32,
            triplets,
            triplets_atom_edge: mixed,
            triplets_edge_atom: mixed,
            quadruplets: quadruplets - graph.closed.len() as u64,
        }
    }
}
