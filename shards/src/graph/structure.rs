use super::nearest::Nearest;
use super::neighbors::check_atoms;
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
        let spec = spec.of(geometry.positions.len());
        let neighbors = NeighborList::build(geometry, spec.cutoff, spec.atom_atom)?;
        Ok(Self::of_valid(geometry, &spec, &neighbors))
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
        Ok(Self::of_valid(geometry, &spec.of(geometry.positions.len()), neighbors))
    }

    fn of_valid(geometry: &Geometry, spec: &GraphSpec, neighbors: &NeighborList) -> Self {
        let Selected { main, atom_edge, quadruplet, atom_atom } = select(geometry, spec, neighbors);
        let (main, reverse) = symmetrise(&main);
        let atom_edge_twin = twins(&atom_edge, &main);
        let quadruplet_twin = twins(&quadruplet, &main);
        let closed = closed(&quadruplet, &main);
        let cell = geometry.cell.unwrap_or_default();
        Self {
            main,
            reverse,
            atom_edge,
            atom_edge_twin,
            quadruplet,
            quadruplet_twin,
            closed,
            atom_atom,
            cell,
        }
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
    let falls = |e: usize| {
        let (before, source) = (list.source[e - 1], list.source[e]);
        before > source || (before == source && list.shift[e - 1] >= list.shift[e])
    };
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
    let graph = |max: u32| Edges::with_capacity(atoms, list.len().min(atoms * max as usize));
    let mut selected = Selected {
        main: graph(spec.main),
        atom_edge: graph(spec.atom_edge),
        quadruplet: graph(spec.quadruplet),
        atom_atom: graph(spec.atom_atom),
    };
    let mut rows = Rows::new(geometry, spec);
    for t in 0..atoms {
        let row = list.offsets[t] as usize..list.offsets[t + 1] as usize;
        let (source, shift) = (&list.source[row.clone()], &list.shift[row]);
        let within = rows.measure(t, source, shift);
        rows.atom_atom(within, source, shift, &mut selected.atom_atom);
        rows.nearest(t, within, source, shift, &mut selected);
        for edges in
            [&mut selected.main, &mut selected.atom_edge, &mut selected.quadruplet, &mut selected.atom_atom]
        {
            edges.end_row();
        }
    }
    selected
}

/// Picks the edges of one row after the other; keeps its scratch space between rows.
struct Rows<'a> {
    geometry: &'a Geometry<'a>,
    spec: &'a GraphSpec,
    /// Squared cutoff, Å². A stored list may have a larger one; rounding must not lose what the list's own search found.
    cutoff2: f64,
    /// Largest number of neighbours of main, atom-edge and quadruplet graph.
    widest: usize,
    /// Squared distances of the row, Å²; infinite beyond the cutoff.
    distance2: Vec<f64>,
    nearest: Nearest,
    /// Places in the row above, ranks by distance below.
    ranked: Vec<u64>,
}

impl<'a> Rows<'a> {
    fn new(geometry: &'a Geometry<'a>, spec: &'a GraphSpec) -> Self {
        Self {
            geometry,
            spec,
            cutoff2: spec.cutoff * spec.cutoff * (1.0 + 1e-9),
            widest: spec.main.max(spec.atom_edge).max(spec.quadruplet).min(spec.atom_atom) as usize,
            distance2: Vec::new(),
            nearest: Nearest::default(),
            ranked: Vec::new(),
        }
    }

    /// Computes the distances of a row and returns how many are within the cutoff.
    fn measure(&mut self, t: usize, source: &[u32], shift: &[[i16; 3]]) -> usize {
        let (cell, positions) = (self.geometry.cell.unwrap_or_default(), self.geometry.positions);
        let target = positions[t];
        let mut within = 0;
        self.distance2.clear();
        self.distance2.extend(source.iter().zip(shift).map(|(s, o)| {
            let (p, o) = (positions[*s as usize], o.map(f64::from));
            let along =
                |x: usize| p[x] - target[x] + (o[0] * cell[0][x] + o[1] * cell[1][x] + o[2] * cell[2][x]);
            let d = [along(0), along(1), along(2)];
            let d2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            let is = d2 <= self.cutoff2;
            within += usize::from(is);
            if is { d2 } else { f64::INFINITY }
        }));
        within
    }

    fn atom_atom(&mut self, within: usize, source: &[u32], shift: &[[i16; 3]], edges: &mut Edges) {
        let max = self.spec.atom_atom as usize;
        if within == source.len() && within <= max {
            edges.source.extend_from_slice(source);
            edges.shift.extend_from_slice(shift);
            return;
        }
        self.rank(within.min(max));
        for key in &self.ranked {
            let i = (key >> 32) as usize;
            edges.push(source[i], shift[i]);
        }
    }

    /// Appends to the three graphs of few neighbours.
    fn nearest(
        &mut self,
        t: usize,
        within: usize,
        source: &[u32],
        shift: &[[i16; 3]],
        selected: &mut Selected,
    ) {
        let takes_part = |atom: usize| matches!(self.geometry.tag(atom), 1 | 2);
        let target_takes_part = takes_part(t);
        let spec = self.spec;
        self.rank(self.widest.min(within));
        for key in &self.ranked {
            let (i, rank) = ((key >> 32) as usize, *key as u32);
            let (s, o) = (source[i], shift[i]);
            if rank < spec.main {
                selected.main.push(s, o);
            }
            if rank < spec.atom_edge {
                selected.atom_edge.push(s, o);
            }
            if rank < spec.quadruplet && (target_takes_part || takes_part(s as usize)) {
                selected.quadruplet.push(s, o);
            }
        }
    }

    /// Ranks the `max` nearest of the row, in the row's order.
    fn rank(&mut self, max: usize) {
        self.ranked.clear();
        let nearest = self.nearest.of(&self.distance2, max).enumerate();
        self.ranked.extend(nearest.map(|(rank, i)| (i as u64) << 32 | rank as u64));
        self.ranked.sort_unstable();
    }
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
