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
        let graphs: Vec<&StructureGraph> = graphs.iter().map(Borrow::borrow).collect();
        let mut batch = Self::default();
        for (g, graph) in graphs.iter().enumerate() {
            batch.natoms.push(graph.atoms() as i64);
            batch.structure.resize(batch.structure.len() + graph.atoms(), g as i64);
        }
        batch.main = main(&graphs);
        batch.atom_edge = join(&graphs, |graph| &graph.atom_edge);
        batch.quadruplet.edges = join(&graphs, |graph| &graph.quadruplet);
        batch.atom_atom = pairs(&graphs);
        let mut first = Firsts::default();
        for graph in &graphs {
            batch.exclude(graph, first);
            first = first.after(graph);
        }
        batch.receive();
        batch
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

fn main(graphs: &[&StructureGraph]) -> MainEdges {
    let edges = join(graphs, |graph| &graph.main);
    let mut reverse = Vec::with_capacity(edges.source.len());
    let mut per_structure = Vec::with_capacity(graphs.len());
    for graph in graphs {
        let first = reverse.len() as i64;
        reverse.extend(graph.reverse.iter().map(|r| first + i64::from(*r)));
        per_structure.push(graph.main.len() as i64);
    }
    MainEdges { edges, reverse, per_structure }
}

fn join<'a>(graphs: &[&'a StructureGraph], of: impl Fn(&'a StructureGraph) -> &'a Edges) -> BatchEdges {
    let (atoms, edges) = (graphs.iter().map(|g| g.atoms()).sum(), graphs.iter().map(|g| of(g).len()).sum());
    let mut batch = BatchEdges {
        source: Vec::with_capacity(edges),
        target: Vec::with_capacity(edges),
        shift: Vec::with_capacity(3 * edges),
        degree: Vec::with_capacity(atoms),
        ..BatchEdges::default()
    };
    for graph in graphs {
        append(of(graph), &graph.cell, &mut batch);
    }
    batch.width = batch.degree.iter().copied().max().unwrap_or(0) as usize;
    batch.rows = vec![0; atoms * batch.width];
    batch.place = Vec::with_capacity(edges);
    for (t, degree) in batch.degree.iter().enumerate() {
        for rank in 0..*degree as usize {
            let place = t * batch.width + rank;
            batch.rows[place] = batch.place.len() as i64;
            batch.place.push(place as i64);
        }
    }
    batch
}

fn append(edges: &Edges, cell: &[[f64; 3]; 3], batch: &mut BatchEdges) {
    let first = batch.degree.len() as i64;
    for t in 0..edges.atoms() {
        let row = edges.row(t);
        batch.degree.push(row.len() as i64);
        batch.target.resize(batch.target.len() + row.len(), first + t as i64);
    }
    batch.source.extend(edges.source.iter().map(|s| first + i64::from(*s)));
    append_shifts(edges, cell, &mut batch.shift);
}

fn append_shifts(edges: &Edges, cell: &[[f64; 3]; 3], shift: &mut Vec<f64>) {
    let first = shift.len();
    shift.resize(first + 3 * edges.len(), 0.0);
    for (v, o) in shift[first..].as_chunks_mut::<3>().0.iter_mut().zip(&edges.shift) {
        let o = o.map(f64::from);
        *v = [0, 1, 2].map(|x| o[0] * cell[0][x] + o[1] * cell[1][x] + o[2] * cell[2][x]);
    }
}

fn pairs(graphs: &[&StructureGraph]) -> PairEdges {
    let edges = graphs.iter().map(|g| g.atom_atom.len()).sum();
    let mut batch = PairEdges {
        source: Vec::with_capacity(edges),
        target: Vec::with_capacity(edges),
        shift: Vec::with_capacity(3 * edges),
        pair: Vec::with_capacity(edges),
        ..PairEdges::default()
    };
    for graph in graphs {
        let first = batch.degree.len() as i64;
        for t in 0..graph.atoms() {
            let sources = &graph.atom_atom.source[graph.atom_atom.row(t)];
            let before = batch.pair_source.len();
            for images in sources.chunk_by(|s, r| s == r) {
                let pair = batch.pair_source.len() as i64;
                batch.pair_source.push(first + i64::from(images[0]));
                batch.pair.resize(batch.pair.len() + images.len(), pair);
            }
            batch.target.resize(batch.target.len() + sources.len(), first + t as i64);
            batch.degree.push((batch.pair_source.len() - before) as i64);
        }
        batch.source.extend(graph.atom_atom.source.iter().map(|s| first + i64::from(*s)));
        append_shifts(&graph.atom_atom, &graph.cell, &mut batch.shift);
    }
    batch.width = batch.degree.iter().copied().max().unwrap_or(0) as usize;
    let mut next = 0;
    batch.rows = vec![0; batch.degree.len() * batch.width];
    for (t, degree) in batch.degree.iter().enumerate() {
        for rank in 0..*degree as usize {
            batch.rows[t * batch.width + rank] = next;
            next += 1;
        }
    }
    batch
}
