use super::neighbors::{check_atoms, nearest, rank_key};
use super::symmetry::symmetrise;
use super::{Edges, Geometry, GraphError, GraphSpec, NONE, NeighborList};

/// The four graphs of one structure and what ties them together.
///
/// Triplets and quadruplets are not listed: every pair of edges that meet at an atom is one, apart from the few that
/// would visit an atom twice, so the edges in rows by target and those exceptions say it all.
/// [`Triplets`](super::Triplets) and [`Quadruplets`](super::Quadruplets) spell them out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StructureGraph {
    /// Edges that carry embeddings; symmetric.
    pub main: Edges,
    /// For each main edge, the number of its reverse.
    pub reverse: Vec<u32>,
    /// Edges of the atom-edge and the edge-atom interaction.
    pub atom_edge: Edges,
    /// For each atom-edge edge, the main edge between the same images, or [`NONE`].
    pub atom_edge_twin: Vec<u32>,
    /// Edges `b→a` in the middle of quadruplets, after the tag filter.
    pub quadruplet: Edges,
    /// For each quadruplet edge, the main edge between the same images, or [`NONE`].
    pub quadruplet_twin: Vec<u32>,
    /// Quadruplets `c→a←b←d` that `c = d` rules out: (quadruplet edge, main edge `c→a`, main edge `d→b`).
    pub closed: Vec<[u32; 3]>,
    /// Edges of the atom-atom interaction.
    pub atom_atom: Edges,
    /// Lattice vectors as rows, Å, which turn shifts into vectors; zero without a cell.
    pub cell: [[f64; 3]; 3],
}

impl StructureGraph {
    /// Finds neighbours and builds the graphs.
    ///
    /// # Errors
    /// As [`NeighborList::build`].
    pub fn build(geometry: &Geometry, spec: &GraphSpec) -> Result<Self, GraphError> {
        let neighbors = NeighborList::build(geometry, spec.cutoff, spec.atom_atom)?;
        Self::from_neighbors(geometry, spec, &neighbors)
    }

    /// Builds the graphs from a stored neighbour list, with the result of [`StructureGraph::build`] if the list was
    /// made from the same positions with at least the specification's cutoff and atom-atom neighbours.
    ///
    /// # Errors
    /// Non-finite positions, wrong number of tags, or a list that is not one of this structure.
    pub fn from_neighbors(
        geometry: &Geometry,
        spec: &GraphSpec,
        neighbors: &NeighborList,
    ) -> Result<Self, GraphError> {
        check_atoms(geometry)?;
        check_list(geometry, neighbors)?;
        let Selected { main, atom_edge, quadruplet, atom_atom } = select(geometry, spec, neighbors);
        let (main, reverse) = symmetrise(&main);
        let atom_edge_twin = twins(&atom_edge, &main);
        let quadruplet_twin = twins(&quadruplet, &main);
        let closed = closed(&quadruplet, &main);
        let cell = geometry.cell.unwrap_or_default();
        Ok(Self {
            main,
            reverse,
            atom_edge,
            atom_edge_twin,
            quadruplet,
            quadruplet_twin,
            closed,
            atom_atom,
            cell,
        })
    }

    /// Number of atoms.
    pub fn atoms(&self) -> usize {
        self.main.atoms()
    }
}

fn check_list(geometry: &Geometry, list: &NeighborList) -> Result<(), GraphError> {
    let atoms = geometry.positions.len();
    let stored = |what: String| Err(GraphError::Stored { what });
    if list.offsets.len() != atoms + 1 {
        return stored(format!("{} rows for {atoms} atoms", list.offsets.len().saturating_sub(1)));
    }
    if list.offsets[0] != 0 || !list.offsets.is_sorted() || list.offsets[atoms] as usize != list.source.len()
    {
        return stored("row offsets do not rise from 0 to the number of neighbours".into());
    }
    if list.shift.len() != list.source.len() {
        return stored(format!("{} shifts for {} neighbours", list.shift.len(), list.source.len()));
    }
    if let Some(s) = list.source.iter().find(|s| **s as usize >= atoms) {
        return stored(format!("neighbour {s} in a structure of {atoms} atoms"));
    }
    let mut rows = list.offsets.windows(2).map(|r| r[0] as usize + 1..r[1] as usize);
    let falls = |e: usize| (list.source[e - 1], list.shift[e - 1]) >= (list.source[e], list.shift[e]);
    if let Some(row) = rows.position(|mut row| row.any(falls)) {
        return stored(format!("row {row} is not sorted by (source, shift)"));
    }
    Ok(())
}

struct Selected {
    main: Edges,
    atom_edge: Edges,
    quadruplet: Edges,
    atom_atom: Edges,
}

/// Takes the four graphs from one list: each row's nearest, in the row's order.
fn select(geometry: &Geometry, spec: &GraphSpec, list: &NeighborList) -> Selected {
    let atoms = geometry.positions.len();
    let graph = |n: u32| Edges::with_capacity(atoms, list.len().min(atoms * n as usize));
    let (mut main, mut atom_edge) = (graph(spec.main), graph(spec.atom_edge));
    let (mut quadruplet, mut atom_atom) = (graph(spec.quadruplet), graph(spec.atom_atom));
    // Rounding must not lose a neighbour that the list's own search found at the cutoff.
    let cutoff2 = spec.cutoff * spec.cutoff * (1.0 + 1e-9);
    let widest = spec.main.max(spec.atom_edge).max(spec.quadruplet).min(spec.atom_atom) as usize;
    let in_quadruplets = |atom: usize| matches!(geometry.tag(atom), 1 | 2);
    let (mut distance2, mut order, mut rank) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..atoms {
        let row = list.offsets[t] as usize..list.offsets[t + 1] as usize;
        distance2.clear();
        distance2.extend(row.clone().map(|e| {
            let d = geometry.displacement(list.source[e] as usize, t, list.shift[e]);
            let d2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            if d2 <= cutoff2 { d2 } else { f64::INFINITY }
        }));
        rank_row(&distance2, spec.atom_atom as usize, widest, &mut order, &mut rank);
        let target_takes_part = in_quadruplets(t);
        for (i, e) in row.enumerate() {
            let rank = rank[i];
            if rank == NONE {
                continue;
            }
            let (s, o) = (list.source[e], list.shift[e]);
            atom_atom.push(s, o);
            if rank < spec.main {
                main.push(s, o);
            }
            if rank < spec.atom_edge {
                atom_edge.push(s, o);
            }
            if rank < spec.quadruplet && (target_takes_part || in_quadruplets(s as usize)) {
                quadruplet.push(s, o);
            }
        }
        main.end_row();
        atom_edge.end_row();
        quadruplet.end_row();
        atom_atom.end_row();
    }
    Selected { main, atom_edge, quadruplet, atom_atom }
}

/// For each neighbour of a row its rank by distance: exact for the `widest` nearest, `NONE` where it does not belong
/// to the `max` nearest or lies beyond the cutoff (infinite), and some rank ≥ `widest` else.
fn rank_row(distance2: &[f64], max: usize, widest: usize, order: &mut Vec<u64>, rank: &mut Vec<u32>) {
    rank.clear();
    let within = distance2.iter().filter(|d2| d2.is_finite()).count();
    if within > max {
        rank.resize(distance2.len(), NONE);
        nearest(distance2, max, order);
        for key in order.iter() {
            rank[(*key & u64::from(u32::MAX)) as usize] = NONE - 1;
        }
    } else {
        rank.extend(distance2.iter().map(|d2| if d2.is_finite() { NONE - 1 } else { NONE }));
    }
    nearest(distance2, widest.min(within), order);
    order.sort_unstable();
    for (r, key) in order.iter().enumerate() {
        rank[(*key & u64::from(u32::MAX)) as usize] = r as u32;
    }
    debug_assert!(order.first().is_none_or(|k| *k <= rank_key(f64::INFINITY, 0)));
}

/// For each edge of `graph`, the main edge of the same source, shift and target.
fn twins(graph: &Edges, main: &Edges) -> Vec<u32> {
    let mut twins = vec![NONE; graph.len()];
    for t in 0..graph.atoms() {
        let mut candidates = main.row(t).peekable();
        for e in graph.row(t) {
            let key = graph.key(e);
            while candidates.next_if(|m| main.key(*m) < key).is_some() {}
            if let Some(m) = candidates.peek()
                && main.key(*m) == key
            {
                twins[e] = *m as u32;
            }
        }
    }
    twins
}

/// All (quadruplet edge `b→a`, `c→a`, `d→b`) with `c` and `d` the same image: a merge of two sorted rows each.
fn closed(quadruplet: &Edges, main: &Edges) -> Vec<[u32; 3]> {
    let wide = |o: [i16; 3]| o.map(i32::from);
    let mut closed = Vec::new();
    for a in 0..quadruplet.atoms() {
        for q in quadruplet.row(a) {
            let (b, o_ba) = (quadruplet.source[q] as usize, wide(quadruplet.shift[q]));
            let mut from_b = main.row(b).peekable();
            let key_d = |d: usize| {
                let o = wide(main.shift[d]);
                (main.source[d], [o[0] + o_ba[0], o[1] + o_ba[1], o[2] + o_ba[2]])
            };
            for c in main.row(a) {
                let key = (main.source[c], wide(main.shift[c]));
                while from_b.next_if(|d| key_d(*d) < key).is_some() {}
                if let Some(d) = from_b.peek()
                    && key_d(*d) == key
                {
                    closed.push([q as u32, c as u32, *d as u32]);
                }
            }
        }
    }
    closed
}
