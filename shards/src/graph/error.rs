use thiserror::Error;

/// Why a structure has no graph.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A coordinate is NaN or infinite.
    #[error("atom {atom}: position {position:?} is not finite; remove the structure or repair its source")]
    Position {
        /// Index of the atom.
        atom: usize,
        /// What was found, Å.
        position: [f64; 3],
    },
    /// Periodic directions without a usable cell.
    #[error(
        "periodic along {pbc:?}, but the cell {cell:?} has no volume there; expected linearly independent lattice vectors"
    )]
    Cell {
        /// The cell as given.
        cell: Option<[[f64; 3]; 3]>,
        /// The directions asked for.
        pbc: [bool; 3],
    },
    /// A cutoff that is not a positive, finite number.
    #[error("cutoff {cutoff} Å: expected a positive, finite number")]
    Cutoff {
        /// What was found, Å.
        cutoff: f64,
    },
    /// One tag per atom was expected.
    #[error("{found} tags for {atoms} atoms: expected one each, or none at all")]
    Tags {
        /// Number of tags given.
        found: usize,
        /// Number of atoms.
        atoms: usize,
    },
    /// A neighbour lies more lattice translations away than a shift can hold.
    #[error(
        "atom {atom} lies so far outside the cell, or the cell is so small, that a shift of {shift} cells is needed; at most 32767 fit; wrap the positions"
    )]
    Shift {
        /// Index of the source atom.
        atom: usize,
        /// The translation that did not fit.
        shift: f64,
    },
    /// The list would be larger than 32-bit offsets reach.
    #[error("more than {limit} neighbours within {cutoff} Å; reduce the cutoff or the number of neighbours")]
    TooMany {
        /// Largest possible number.
        limit: u64,
        /// Cutoff asked for, Å.
        cutoff: f64,
    },
    /// A cell so small, or so flat, that a search would not end.
    #[error(
        "more than {limit} periodic images may lie within {cutoff} Å of the atoms: the cell is far too small or flat; expected lattice vectors in Å"
    )]
    Images {
        /// Largest number that is looked at.
        limit: u64,
        /// Cutoff asked for, Å.
        cutoff: f64,
    },
    /// A stored list that does not belong to this structure or specification.
    #[error(
        "stored neighbour list: {what}; expected one built from these positions; run `jmp-ingest verify`"
    )]
    Stored {
        /// What contradicts.
        what: String,
    },
}
