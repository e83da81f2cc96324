//! What a structure's graphs weigh in a model: the embeddings that one interaction block reads, at the published sizes.

use serde::Serialize;

use crate::counts::CountDistribution;

/// Sizes of a published model's embeddings (paper, Table 17), in 32-bit numbers.
struct Sizes {
    model: &'static str,
    edge: f64,
    triplet: f64,
    quadruplet: f64,
}

const MODELS: [Sizes; 2] = [
    Sizes { model: "JMP-S", edge: 512.0, triplet: 64.0, quadruplet: 32.0 },
    Sizes { model: "JMP-L", edge: 1024.0, triplet: 64.0, quadruplet: 64.0 },
];

/// Bytes of a 32-bit number.
const NUMBER: f64 = 4.0;

/// What the graphs of a structure weigh in one interaction block, bytes, if every edge, triplet and quadruplet has its
/// embedding. A step holds several such blocks and their intermediate results; kernels that sum as they go hold less.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GraphMemory {
    /// The model.
    pub model: String,
    /// Mean a structure: edges.
    pub edges: f64,
    /// Mean a structure: triplets of all three kinds.
    pub triplets: f64,
    /// Mean a structure: quadruplets.
    pub quadruplets: f64,
    /// The sum of these means.
    pub mean: f64,
    /// At most: the largest count of each kind together.
    pub max: f64,
}

/// The memory that the graphs of a mean and of the largest structure imply.
pub fn of(counts: &[CountDistribution]) -> Vec<GraphMemory> {
    let sum = |columns: &[&str], of: &dyn Fn(&CountDistribution) -> f64| -> f64 {
        counts.iter().filter(|c| columns.contains(&c.column.as_str())).map(of).sum()
    };
    let weigh = |sizes: &Sizes, of: &dyn Fn(&CountDistribution) -> f64| {
        let triplets = ["triplets", "triplets_atom_edge", "triplets_edge_atom"];
        [
            sum(&["edges_main"], of) * sizes.edge * NUMBER,
            sum(&triplets, of) * sizes.triplet * NUMBER,
            sum(&["quadruplets"], of) * sizes.quadruplet * NUMBER,
        ]
    };
    let memory = |sizes: &Sizes| {
        let mean = weigh(sizes, &|c| c.mean);
        let [edges, triplets, quadruplets] = mean;
        let max = weigh(sizes, &|c| c.max as f64).iter().sum();
        GraphMemory { model: sizes.model.into(), edges, triplets, quadruplets, mean: mean.iter().sum(), max }
    };
    if counts.is_empty() { vec![] } else { MODELS.iter().map(memory).collect() }
}
