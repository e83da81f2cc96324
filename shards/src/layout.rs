//! What a dataset's rows hold: the part of the manifest that fixes the columns.

use serde::{Deserialize, Serialize};

use crate::graph::GraphSpec;
use crate::structure::FloatWidth;

/// Columns, counts and neighbour lists of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Width of positions and forces.
    pub float: FloatWidth,
    /// Scalar targets, one f64 column each, in column order.
    pub targets: Vec<Target>,
    /// The graphs that the count columns were counted for.
    pub graph: GraphSpec,
    /// Which neighbours are stored.
    pub neighbors: NeighborStorage,
    /// Rows of a row group, the unit of reading: about 1,000 slabs or 5,000 molecules.
    pub row_group_rows: u32,
}

/// A scalar target beside the energy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Column name.
    pub name: String,
    /// Unit, in words that a person understands.
    pub unit: String,
    /// What it is.
    pub meaning: String,
    /// Whether models learn it after its linear reference is subtracted, as the energy: sums over atoms such as QM9's `U_0`
    /// do, intensive properties do not.
    #[serde(default)]
    pub referenced: bool,
}

/// Which neighbour list the rows carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeighborStorage {
    /// All within the graph's cutoff, at most its `atom_atom` nearest an atom.
    Full,
    /// The `k` nearest within the cutoff. Serves models without atom-atom interaction and edge dropout.
    Nearest(u32),
    /// None: the reader computes them.
    None,
}

impl NeighborStorage {
    /// How many neighbours an atom keeps, or `None` when nothing is stored.
    pub fn limit(self, graph: &GraphSpec) -> Option<u32> {
        match self {
            Self::Full => Some(graph.atom_atom),
            Self::Nearest(k) => Some(k),
            Self::None => None,
        }
    }
}

impl std::str::FromStr for NeighborStorage {
    type Err = String;

    /// `full`, `nearest:K` or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("nearest:")) {
            ("full", _) => Ok(Self::Full),
            ("none", _) => Ok(Self::None),
            (_, Some(k)) => k
                .parse()
                .ok()
                .filter(|&k| k > 0)
                .map(Self::Nearest)
                .ok_or_else(|| format!("nearest:{k}: expected a positive number of neighbours")),
            _ => Err(format!("`{text}`: expected full, nearest:K or none")),
        }
    }
}
