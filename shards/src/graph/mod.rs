//! Pure geometry: which atoms see which, and which pairs of edges meet. No libtorch, no file formats.
//!
//! One neighbour list gives the four graphs of GemNet-OC (arXiv:2204.02782, section 4): *main* (edge embeddings,
//! symmetrised), *atom-edge*, *quadruplet* and *atom-atom*. An edge `c→a` points at its target `a`; its cell shift `o`
//! belongs to the source, so that its displacement is `pos[c] − pos[a] + o·cell` with cell vectors as rows.
//!
//! ```text
//! Geometry ── NeighborList::build ──► NeighborList ── StructureGraph::from_neighbors ──► StructureGraph
//!                                     (stored in shards)                                  │ GraphCounts::of
//!                                                                                         ▼
//!                                                                    GraphBatch::collate(&[StructureGraph])
//! ```

mod batch;
mod counts;
mod edges;
mod error;
mod images;
mod lattice;
mod nearest;
mod neighbors;
mod search;
mod sieve;
mod structure;
mod symmetry;
#[cfg(test)]
mod tests;
mod triplets;

pub(crate) use batch::empty;
pub use batch::{BatchEdges, GraphBatch, MainEdges, PairEdges, QuadrupletEdges};
pub use counts::GraphCounts;
pub use edges::Edges;
pub use error::GraphError;
pub use neighbors::NeighborList;
pub use structure::StructureGraph;
pub use triplets::{Quadruplets, Triplets};

use serde::{Deserialize, Serialize};

/// Marks "no such edge" in index arrays of a [`StructureGraph`].
pub const NONE: u32 = u32::MAX;

/// Cutoff and numbers of neighbours of the four graphs. All four share one cutoff.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphSpec {
    /// Largest distance of two neighbours, Å.
    pub cutoff: f64,
    /// Neighbours an atom keeps in the main graph, before symmetrisation.
    pub main: u32,
    /// Neighbours an atom keeps in the atom-edge and edge-atom graph.
    pub atom_edge: u32,
    /// Neighbours an atom keeps in the quadruplet graph, before the tag filter.
    pub quadruplet: u32,
    /// Neighbours an atom keeps in the atom-atom graph, which the other three are taken from.
    pub atom_atom: u32,
    /// Fewer neighbours in large structures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large: Option<LargeStructures>,
}

/// Up to two sizes from which on structures have fewer neighbours, as JMP's "conditional" limits of MatBench and QMOF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LargeStructures {
    /// More atoms than this have `neighbors` main neighbours, and the other graphs' in proportion.
    pub above: u32,
    /// Main neighbours of such structures.
    pub neighbors: u32,
    /// The same for still larger ones: atoms, neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<(u32, u32)>,
}

impl GraphSpec {
    /// JMP's rule: `n` main neighbours give `⌊20n/30⌋`, `⌊8n/30⌋` and `⌊1000n/30⌋` of the other graphs.
    pub fn new(cutoff: f64, n: u32) -> Self {
        let share = |k: u64| u32::try_from(u64::from(n) * k / 30).unwrap_or(u32::MAX);
        Self {
            cutoff,
            main: n,
            atom_edge: share(20),
            quadruplet: share(8),
            atom_atom: share(1000),
            large: None,
        }
    }

    /// The numbers that hold for a structure of so many atoms.
    #[must_use]
    pub fn of(&self, atoms: usize) -> Self {
        let Some(LargeStructures { above, neighbors, then }) = self.large else { return *self };
        let larger = then.filter(|(above, _)| atoms > *above as usize).map(|(_, n)| n);
        match larger.or((atoms > above as usize).then_some(neighbors)) {
            Some(n) => Self::new(self.cutoff, n),
            None => Self { large: None, ..*self },
        }
    }
}

/// Atoms and cell of one structure, as the graph functions read them.
#[derive(Debug, Clone, Copy)]
pub struct Geometry<'a> {
    /// Cartesian positions, Å, one per atom; they may lie outside the cell.
    pub positions: &'a [[f64; 3]],
    /// Lattice vectors as rows, Å; `None` only when no direction is periodic.
    pub cell: Option<[[f64; 3]; 3]>,
    /// Which lattice directions repeat.
    pub pbc: [bool; 3],
    /// 0 sub-surface, 1 surface, 2 adsorbate, one per atom; absent tags act as 2 everywhere.
    pub tags: Option<&'a [u8]>,
}

impl Geometry<'_> {
    /// Tag of an atom; 2 where tags are absent.
    pub fn tag(&self, atom: usize) -> u8 {
        self.tags.map_or(2, |tags| tags[atom])
    }
}
