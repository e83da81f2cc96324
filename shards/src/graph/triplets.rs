use super::{Edges, GraphCounts, NONE, StructureGraph};

/// Pairs of edges that meet at one atom, spelled out and sorted by the receiving edge.
///
/// The model reads them from rows of edges instead; this is the plain definition, for checks and statistics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Triplets {
    /// Edge `b→a` (of the input graph) that sends.
    pub input: Vec<u32>,
    /// Edge `c→a` (of the output graph) that receives.
    pub output: Vec<u32>,
}

impl Triplets {
    /// Main edges `b→a`, `c→a` with different edge numbers: two images of one neighbour are a triplet.
    pub fn edge_to_edge(graph: &StructureGraph) -> Self {
        Self::meeting(&graph.main, &graph.main, |input, output| input != output)
    }

    /// Atom-edge edge into main edge, not between the same images.
    pub fn atom_to_edge(graph: &StructureGraph) -> Self {
        Self::meeting(&graph.atom_edge, &graph.main, |i, o| graph.atom_edge_twin[i] != o as u32)
    }

    /// Main edge into atom-edge edge, not between the same images.
    pub fn edge_to_atom(graph: &StructureGraph) -> Self {
        Self::meeting(&graph.main, &graph.atom_edge, |i, o| graph.atom_edge_twin[o] != i as u32)
    }

    /// `c→a←b`: quadruplet edge `b→a` into main edge `c→a`, not between the same images.
    pub fn of_quadruplet_output(graph: &StructureGraph) -> Self {
        Self::meeting(&graph.quadruplet, &graph.main, |i, o| graph.quadruplet_twin[i] != o as u32)
    }

    /// `d→b→a`: main edge `d→b` into quadruplet edge `b→a`, without `d = a`.
    pub fn of_quadruplet_input(graph: &StructureGraph) -> Self {
        let mut triplets = Self::default();
        for q in 0..graph.quadruplet.len() {
            let back = back_edge(graph, q);
            for d in graph.main.row(graph.quadruplet.source[q] as usize) {
                if d as u32 != back {
                    triplets.input.push(d as u32);
                    triplets.output.push(q as u32);
                }
            }
        }
        triplets
    }

    fn meeting(input: &Edges, output: &Edges, keep: impl Fn(usize, usize) -> bool) -> Self {
        let mut triplets = Self::default();
        for a in 0..output.atoms() {
            for o in output.row(a) {
                for i in input.row(a) {
                    if keep(i, o) {
                        triplets.input.push(i as u32);
                        triplets.output.push(o as u32);
                    }
                }
            }
        }
        triplets
    }

    /// Number of triplets.
    pub fn len(&self) -> usize {
        self.input.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }
}

/// Chains `c→a←b←d`, sorted by the receiving edge `c→a`; `a`, `b` and their neighbours are four different images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quadruplets {
    /// Main edge `d→b` that sends.
    pub input: Vec<u32>,
    /// Quadruplet edge `b→a` in between.
    pub middle: Vec<u32>,
    /// Main edge `c→a` that receives.
    pub output: Vec<u32>,
}

impl Quadruplets {
    /// Lists them.
    pub fn of(graph: &StructureGraph) -> Self {
        let (main, quadruplet) = (&graph.main, &graph.quadruplet);
        let total = GraphCounts::of(graph).quadruplets as usize;
        let mut chains = Self {
            input: Vec::with_capacity(total),
            middle: Vec::with_capacity(total),
            output: Vec::with_capacity(total),
        };
        for a in 0..graph.atoms() {
            for c in main.row(a) {
                for q in quadruplet.row(a).filter(|q| graph.quadruplet_twin[*q] != c as u32) {
                    let into_b = main.row(quadruplet.source[q] as usize);
                    let key = [q as u32, c as u32, 0];
                    let at = graph.closed.partition_point(|chain| *chain < key);
                    // Images differ, so at most one `d` is the image that `c` is.
                    let same =
                        graph.closed.get(at).filter(|chain| chain[..2] == key[..2]).map(|chain| chain[2]);
                    extend_except(&mut chains.input, into_b, [back_edge(graph, q), same.unwrap_or(NONE)]);
                    chains.middle.resize(chains.input.len(), q as u32);
                    chains.output.resize(chains.input.len(), c as u32);
                }
            }
        }
        chains
    }

    /// Number of quadruplets.
    pub fn len(&self) -> usize {
        self.input.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }
}

/// Appends a range without two of its numbers; numbers outside it leave nothing out.
fn extend_except(list: &mut Vec<u32>, range: std::ops::Range<usize>, mut except: [u32; 2]) {
    except.sort_unstable();
    let (mut next, end) = (range.start as u32, range.end as u32);
    for x in except {
        if (next..end).contains(&x) {
            list.extend(next..x);
            next = x + 1;
        }
    }
    list.extend(next..end);
}

/// The main edge `a→b` that runs against quadruplet edge `b→a`, or [`NONE`].
pub(super) fn back_edge(graph: &StructureGraph, quadruplet: usize) -> u32 {
    match graph.quadruplet_twin[quadruplet] {
        NONE => NONE,
        twin => graph.reverse[twin as usize],
    }
}
