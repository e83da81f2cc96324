/// A directed graph of one structure: edges in rows by target, each row sorted by (source, shift).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edges {
    /// Where the row of a target begins, `[atoms + 1]`.
    pub offsets: Vec<u32>,
    /// Source atom of each edge.
    pub source: Vec<u32>,
    /// Cell shift of the source: displacement = `pos[s] − pos[t] + shift·cell`.
    pub shift: Vec<[i16; 3]>,
}

impl Edges {
    pub(super) fn with_capacity(atoms: usize, edges: usize) -> Self {
        let mut offsets = Vec::with_capacity(atoms + 1);
        offsets.push(0);
        Self { offsets, source: Vec::with_capacity(edges), shift: Vec::with_capacity(edges) }
    }

    pub(super) fn push(&mut self, source: u32, shift: [i16; 3]) {
        self.source.push(source);
        self.shift.push(shift);
    }

    pub(super) fn end_row(&mut self) {
        self.offsets.push(self.source.len() as u32);
    }

    /// Number of edges.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether no atom has a neighbour.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Number of atoms, whether or not they have neighbours.
    pub fn atoms(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Edge numbers of the row of a target.
    pub fn row(&self, target: usize) -> std::ops::Range<usize> {
        self.offsets[target] as usize..self.offsets[target + 1] as usize
    }

    /// Number of edges that point at an atom.
    pub fn degree(&self, target: usize) -> usize {
        self.row(target).len()
    }

    /// Target of each edge, in order.
    pub fn targets(&self) -> Vec<u32> {
        let mut targets = Vec::with_capacity(self.len());
        for t in 0..self.atoms() {
            targets.resize(self.offsets[t + 1] as usize, t as u32);
        }
        targets
    }

    /// What rows are sorted by.
    pub(super) fn key(&self, edge: usize) -> (u32, [i16; 3]) {
        (self.source[edge], self.shift[edge])
    }
}
