use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use super::triplets::back_edge;
use super::{Edges, NONE, StructureGraph};

/// A graph of several structures: flat edges by target, and the same edges as padded rows of equal width.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BatchEdges {
    /// Source atom of each edge, `[e]`.
    pub source: Vec<i64>,
    /// Target atom of each edge, ascending, `[e]`.
    pub target: Vec<i64>,
    /// What the source's cell shift adds to the displacement, Å, `[3e]`.
    pub shift: Vec<f64>,
    /// Number of edges that point at each atom, `[n]`.
    pub degree: Vec<i64>,
    /// Largest degree.
    pub width: usize,
    /// Edge numbers in rows by target, padded with edge 0, `[n · width]`.
    pub rows: Vec<i64>,
    /// Place of each edge in `rows`, `[e]`.
    pub place: Vec<i64>,
}

/// The main graph of a batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MainEdges {
    /// Its edges; symmetric.
    pub edges: BatchEdges,
    /// For each edge, the number of its reverse, `[e]`.
    pub reverse: Vec<i64>,
    /// Number of edges of each structure, `[g]`.
    pub per_structure: Vec<i64>,
}

/// The atom-atom graph of a batch; images of one neighbour share a *pair* (target atom, source atom).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PairEdges {
    /// Source atom of each edge, `[e]`.
    pub source: Vec<i64>,
    /// Target atom of each edge, ascending, `[e]`.
    pub target: Vec<i64>,
    /// What the source's cell shift adds to the displacement, Å, `[3e]`.
    pub shift: Vec<f64>,
    /// Pair that each edge belongs to, ascending, `[e]`.
    pub pair: Vec<i64>,
    /// Source atom of each pair, `[p]`.
    pub pair_source: Vec<i64>,
    /// Number of pairs of each target, `[n]`.
    pub degree: Vec<i64>,
    /// Largest number of pairs of a target.
    pub width: usize,
    /// Pair numbers in rows by target, padded with pair 0, `[n · width]`.
    pub rows: Vec<i64>,
}

/// The quadruplet graph of a batch and the chains `c→a←b←d` that its edges `b→a` do not stand for.
///
/// With `k` the main graph's width, every chain is a place in `[q, k, k]`: quadruplet edge, rank of `c→a` in the main
/// row of `a`, rank of `d→b` in the main row of `b`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QuadrupletEdges {
    /// Its edges, after the tag filter.
    pub edges: BatchEdges,
    /// Places in `[q, k]` of `c→a` where `c = b`.
    pub same_output: Vec<i64>,
    /// Places in `[q, k]` of `d→b` where `d = a`.
    pub same_input: Vec<i64>,
    /// Places in `[q, k, k]` where `c = d`.
    pub closed: Vec<i64>,
    /// Main edges whose target has a quadruplet edge: those that receive something, ascending, `[x]`.
    pub receiving: Vec<i64>,
    /// For each receiving edge the quadruplet edges of its target, padded with 0, `[x · width]`.
    pub receiving_middle: Vec<i64>,
    /// The same as places in `[q, k]`: (quadruplet edge, rank of the receiving edge), `[x · width]`.
    pub receiving_place: Vec<i64>,
    /// Number of quadruplet edges of each receiving edge, `[x]`.
    pub receiving_degree: Vec<i64>,
}

/// All index arrays that a forward pass reads; plain vectors with offsets of atoms and edges added.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GraphBatch {
    /// Number of atoms of each structure, `[g]`.
    pub natoms: Vec<i64>,
    /// Structure of each atom, `[n]`.
    pub structure: Vec<i64>,
    /// Main graph.
    pub main: MainEdges,
    /// Atom-edge graph.
    pub atom_edge: BatchEdges,
    /// Places in `[n, main width, atom-edge width]` where both edges join the same images.
    pub atom_edge_same: Vec<i64>,
    /// Quadruplet graph.
    pub quadruplet: QuadrupletEdges,
    /// Atom-atom graph.
    pub atom_atom: PairEdges,
}

impl GraphBatch {
    /// Joins graphs in order. Structures without edges, triplets or quadruplets, and no structures at all, are fine.
    pub fn collate<G: Borrow<StructureGraph>>(graphs: &[G]) -> Self {
        let mut batch = Self::default();
        batch.refill(graphs);
        batch
    }

    /// As [`GraphBatch::collate`], into the memory of a batch that is no longer wanted.
    pub fn refill<G: Borrow<StructureGraph>>(&mut self, graphs: &[G]) {
        let graphs: Vec<&StructureGraph> = graphs.iter().map(Borrow::borrow).collect();
        self.natoms.clear();
        self.structure.clear();
        for (g, graph) in graphs.iter().enumerate() {
            self.natoms.push(graph.atoms() as i64);
            self.structure.resize(self.structure.len() + graph.atoms(), g as i64);
        }
        self.main.refill(&graphs);
        self.atom_edge.refill(&graphs, |graph| &graph.atom_edge);
        self.quadruplet.edges.refill(&graphs, |graph| &graph.quadruplet);
        self.atom_atom.refill(&graphs);
        self.atom_edge_same.clear();
        self.quadruplet.clear_places();
        let mut first = Firsts::default();
        for graph in &graphs {
            self.exclude(graph, first);
            first = first.after(graph);
        }
        self.receive();
    }

    /// Number of atoms.
    pub fn atoms(&self) -> usize {
        self.structure.len()
    }

    /// Number of structures.
    pub fn structures(&self) -> usize {
        self.natoms.len()
    }

    /// Adds the places of one structure at which an atom would be visited twice.
    fn exclude(&mut self, graph: &StructureGraph, first: Firsts) {
        let main = &self.main.edges;
        let rank = |edge: usize, target: usize| main.place[edge] - (target * main.width) as i64;
        let (narrow, wide) = (self.atom_edge.width as i64, main.width as i64);
        for (e, twin) in graph.atom_edge_twin.iter().enumerate().filter(|(_, twin)| **twin != NONE) {
            let m = first.main + *twin as usize;
            let other = self.atom_edge.place[first.atom_edge + e] % narrow;
            self.atom_edge_same.push(main.place[m] * narrow + other);
        }
        for q in 0..graph.quadruplet.len() {
            let back = back_edge(graph, q);
            if back == NONE {
                continue;
            }
            let row = (first.quadruplet + q) as i64 * wide;
            let (m, back) = (first.main + graph.quadruplet_twin[q] as usize, first.main + back as usize);
            self.quadruplet.same_output.push(row + main.place[m] % wide);
            self.quadruplet.same_input.push(row + main.place[back] % wide);
        }
        for [q, c, d] in &graph.closed {
            let (c, d) = (first.main + *c as usize, first.main + *d as usize);
            let (a, b) = (main.target[c] as usize, main.target[d] as usize);
            let row = ((first.quadruplet + *q as usize) as i64 * wide + rank(c, a)) * wide;
            self.quadruplet.closed.push(row + rank(d, b));
        }
    }

    /// Fills in which main edges receive quadruplets, and through which edges.
    fn receive(&mut self) {
        let (main, wide) = (&self.main.edges, self.main.edges.width as i64);
        let quadruplet = &mut self.quadruplet;
        let width = quadruplet.edges.width;
        for (e, target) in main.target.iter().enumerate() {
            let target = *target as usize;
            let degree = quadruplet.edges.degree[target];
            if degree == 0 {
                continue;
            }
            let rank = main.place[e] % wide;
            quadruplet.receiving.push(e as i64);
            quadruplet.receiving_degree.push(degree);
            for q in &quadruplet.edges.rows[target * width..(target + 1) * width] {
                quadruplet.receiving_middle.push(*q);
                quadruplet.receiving_place.push(q * wide + rank);
            }
        }
    }
}

/// Numbers of the first atom and edges of a structure in the batch.
#[derive(Debug, Clone, Copy, Default)]
struct Firsts {
    main: usize,
    atom_edge: usize,
    quadruplet: usize,
}

impl Firsts {
    fn after(self, graph: &StructureGraph) -> Self {
        Self {
            main: self.main + graph.main.len(),
            atom_edge: self.atom_edge + graph.atom_edge.len(),
            quadruplet: self.quadruplet + graph.quadruplet.len(),
        }
    }
}

impl MainEdges {
    fn refill(&mut self, graphs: &[&StructureGraph]) {
        self.edges.refill(graphs, |graph| &graph.main);
        empty(&mut self.reverse, self.edges.source.len());
        empty(&mut self.per_structure, graphs.len());
        for graph in graphs {
            let first = self.reverse.len() as i64;
            self.reverse.extend(graph.reverse.iter().map(|r| first + i64::from(*r)));
            self.per_structure.push(graph.main.len() as i64);
        }
    }
}

impl QuadrupletEdges {
    /// Empties all but the edges.
    fn clear_places(&mut self) {
        self.same_output.clear();
        self.same_input.clear();
        self.closed.clear();
        self.receiving.clear();
        self.receiving_middle.clear();
        self.receiving_place.clear();
        self.receiving_degree.clear();
    }
}

impl BatchEdges {
    fn refill<'a>(&mut self, graphs: &[&'a StructureGraph], of: impl Fn(&'a StructureGraph) -> &'a Edges) {
        let atoms: usize = graphs.iter().map(|g| g.atoms()).sum();
        let edges: usize = graphs.iter().map(|g| of(g).len()).sum();
        empty(&mut self.source, edges);
        empty(&mut self.target, edges);
        empty(&mut self.shift, 3 * edges);
        empty(&mut self.degree, atoms);
        for graph in graphs {
            self.append(of(graph), &graph.cell);
        }
        self.width = self.degree.iter().copied().max().unwrap_or(0) as usize;
        empty(&mut self.rows, atoms * self.width);
        empty(&mut self.place, edges);
        for (t, degree) in self.degree.iter().enumerate() {
            let (row, first) = (t * self.width, self.place.len() as i64);
            self.rows.extend(first..first + degree);
            self.rows.resize(row + self.width, 0);
            self.place.extend(row as i64..row as i64 + degree);
        }
    }

    fn append(&mut self, edges: &Edges, cell: &[[f64; 3]; 3]) {
        let first = self.degree.len() as i64;
        for t in 0..edges.atoms() {
            let row = edges.row(t);
            self.degree.push(row.len() as i64);
            self.target.resize(self.target.len() + row.len(), first + t as i64);
        }
        self.source.extend(edges.source.iter().map(|s| first + i64::from(*s)));
        append_shifts(edges, cell, &mut self.shift);
    }
}

/// Empties a vector and gives it room.
pub(crate) fn empty<T>(vector: &mut Vec<T>, room: usize) {
    vector.clear();
    vector.reserve_exact(room);
}

fn append_shifts(edges: &Edges, cell: &[[f64; 3]; 3], shift: &mut Vec<f64>) {
    shift.extend(edges.shift.iter().flat_map(|o| {
        let o = o.map(f64::from);
        [0, 1, 2].map(|x| o[0] * cell[0][x] + o[1] * cell[1][x] + o[2] * cell[2][x])
    }));
}

impl PairEdges {
    fn refill(&mut self, graphs: &[&StructureGraph]) {
        let edges = graphs.iter().map(|g| g.atom_atom.len()).sum();
        empty(&mut self.source, edges);
        empty(&mut self.target, edges);
        empty(&mut self.shift, 3 * edges);
        empty(&mut self.pair, edges);
        self.pair_source.clear();
        self.degree.clear();
        for graph in graphs {
            self.append(graph);
        }
        self.width = self.degree.iter().copied().max().unwrap_or(0) as usize;
        empty(&mut self.rows, self.degree.len() * self.width);
        let mut next = 0;
        for (t, degree) in self.degree.iter().enumerate() {
            self.rows.extend(next..next + degree);
            self.rows.resize((t + 1) * self.width, 0);
            next += degree;
        }
    }

    fn append(&mut self, graph: &StructureGraph) {
        let first = self.degree.len() as i64;
        for t in 0..graph.atoms() {
            let sources = &graph.atom_atom.source[graph.atom_atom.row(t)];
            let before = self.pair_source.len();
            for images in sources.chunk_by(|s, r| s == r) {
                let pair = self.pair_source.len() as i64;
                self.pair_source.push(first + i64::from(images[0]));
                self.pair.resize(self.pair.len() + images.len(), pair);
            }
            self.target.resize(self.target.len() + sources.len(), first + t as i64);
            self.degree.push((self.pair_source.len() - before) as i64);
        }
        self.source.extend(graph.atom_atom.source.iter().map(|s| first + i64::from(*s)));
        append_shifts(&graph.atom_atom, &graph.cell, &mut self.shift);
    }
}
