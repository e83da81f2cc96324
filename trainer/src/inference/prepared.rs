//! From a structure to what a model takes, or why it cannot be taken.

use shards::ShardError;
use shards::Structure;
use shards::checks::closest_pair;
use shards::element::symbol;
use shards::graph::{Geometry, GraphBatch, GraphError, GraphSpec, StructureGraph};
use shards::structure::Fault;
use shards::targets::TargetTransform;
use tch::{Device, Kind};
use thiserror::Error;

use crate::batch::Batch;

/// Atoms closer than this are one atom written twice, Å.
const SAME_PLACE: f64 = 0.01;

/// Why a model can say nothing of a structure.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Impossible {
    /// A broken rule of structures.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It has no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An atom that sees nothing.
    #[error(
        "atom {atom} ({element}) has no neighbour within {cutoff} Å, the model's cutoff, and a model of interactions says \
         nothing of it; take the atom out, or look at the units (Å are expected) and the cell"
    )]
    Alone {
        /// Index of the atom.
        atom: usize,
        /// Its symbol.
        element: &'static str,
        /// Å.
        cutoff: f64,
    },
    /// Two atoms where one can be.
    #[error("atoms {first} and {second} are {distance:.4} Å apart; expected Å, and no atom twice")]
    SamePlace {
        /// Index of the first.
        first: usize,
        /// Index of the second; the same for an image of itself.
        second: usize,
        /// Å.
        distance: f64,
    },
    /// An element without a reference energy.
    #[error(transparent)]
    Reference(ShardError),
}

/// A structure with its graph.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Atomic numbers, `[n]`.
    pub numbers: Vec<u8>,
    /// Positions, Å, `[n]`.
    pub positions: Vec<[f64; 3]>,
    /// Its graphs.
    pub graph: StructureGraph,
    /// What composition alone gives: added to the scaled output, in the unit of the label.
    pub offset: f64,
}

/// How structures are prepared for one task of a model.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The graphs it was trained on.
    pub graph: GraphSpec,
    /// References and scales.
    pub transform: TargetTransform,
}

impl Rule {
    /// Builds the graph and looks up the references.
    ///
    /// # Errors
    /// When the structure is none, an atom has no neighbour or lies on another one, or an element has no reference.
    pub fn prepare(&self, structure: &Structure) -> Result<Prepared, Impossible> {
        structure.check()?;
        let offset = self.transform.offset(&structure.atomic_numbers).map_err(Impossible::Reference)?;
        check_places(structure)?;
        let prepared = Prepared { offset, ..graph_of(structure, &self.graph)? };
        check_neighbors(&prepared, self.graph.cutoff)?;
        Ok(prepared)
    }
}

/// A valid structure with its graph, however odd; the offset is 0.
///
/// # Errors
/// As [`StructureGraph::build`].
pub(super) fn graph_of(structure: &Structure, spec: &GraphSpec) -> Result<Prepared, GraphError> {
    let flat = structure.positions.to_f64();
    let positions: Vec<[f64; 3]> = flat.as_chunks::<3>().0.to_vec();
    let geometry = Geometry {
        positions: &positions,
        cell: structure.cell.map(|c| [[c[0], c[1], c[2]], [c[3], c[4], c[5]], [c[6], c[7], c[8]]]),
        pbc: structure.pbc,
        tags: structure.tags.as_deref(),
    };
    let graph = StructureGraph::build(&geometry, spec)?;
    Ok(Prepared { numbers: structure.atomic_numbers.clone(), positions, graph, offset: 0.0 })
}

/// Atoms on one another have no edge, since they have no direction; so graphs do not tell.
fn check_places(structure: &Structure) -> Result<(), Impossible> {
    let Some(distance) = closest_pair(structure, SAME_PLACE) else { return Ok(()) };
    let (first, second) = closest_atoms(structure);
    Err(Impossible::SamePlace { first, second, distance })
}

/// The two atoms that are closest, images in the cells around counted; the same twice where a cell vector is shorter.
fn closest_atoms(structure: &Structure) -> (usize, usize) {
    let flat = structure.positions.to_f64();
    let positions = flat.as_chunks::<3>().0;
    let cell = structure.cell.unwrap_or_default();
    let reach = |k: usize| if structure.pbc[k] { -1..=1 } else { 0..=0 };
    let shifts: Vec<[f64; 3]> = reach(0)
        .flat_map(|a| {
            reach(1).flat_map(move |b| reach(2).map(move |c| [f64::from(a), f64::from(b), f64::from(c)]))
        })
        .map(|[a, b, c]| std::array::from_fn(|x| a * cell[x] + b * cell[3 + x] + c * cell[6 + x]))
        .collect();
    let mut least = (f64::INFINITY, 0, 0);
    for first in 0..positions.len() {
        for second in first..positions.len() {
            for shift in shifts.iter().filter(|shift| first != second || **shift != [0.0; 3]) {
                let along = |x: usize| positions[second][x] - positions[first][x] + shift[x];
                let square = (0..3).map(|x| along(x).powi(2)).sum::<f64>();
                if square < least.0 {
                    least = (square, first, second);
                }
            }
        }
    }
    (least.1, least.2)
}

fn check_neighbors(prepared: &Prepared, cutoff: f64) -> Result<(), Impossible> {
    let Prepared { graph, numbers, .. } = prepared;
    let alone = numbers.iter().enumerate().find(|(atom, _)| graph.main.degree(*atom) == 0);
    match alone {
        Some((atom, number)) => Err(Impossible::Alone { atom, element: symbol(*number), cutoff }),
        None => Ok(()),
    }
}

/// Several structures as one batch without labels, all of one task.
pub(super) fn collate<'p>(
    prepared: impl Iterator<Item = &'p Prepared> + Clone,
    task: usize,
    (kind, device): (Kind, Device),
) -> Batch {
    let graphs: Vec<&StructureGraph> = prepared.clone().map(|p| &p.graph).collect();
    let numbers: Vec<i64> = prepared.clone().flat_map(|p| &p.numbers).map(|z| i64::from(*z)).collect();
    let positions: Vec<[f64; 3]> = prepared.flat_map(|p| &p.positions).copied().collect();
    let graph = GraphBatch::collate(&graphs);
    Batch::unlabelled(&positions, &numbers, &vec![task; graphs.len()], &graph, (kind, device))
}

#[cfg(test)]
mod tests {
    use shards::Floats;

    use super::*;

    fn structure(numbers: &[u8], positions: &[f64]) -> Structure {
        Structure::new(String::new(), String::new(), numbers.to_vec(), Floats::F64(positions.to_vec()))
    }

    fn refusal(structure: &Structure) -> String {
        let transform = TargetTransform {
            label: "energy".into(),
            reference: None,
            mean: 0.0,
            std: 1.0,
            force_std: 1.0,
            average_atoms: 1.0,
        };
        Rule { graph: GraphSpec::new(5.0, 8), transform }.prepare(structure).unwrap_err().to_string()
    }

    #[test]
    fn impossible_structures_are_told_by_atom() {
        let far = structure(&[1, 1, 8], &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 90.0, 0.0, 0.0]);
        assert!(refusal(&far).starts_with("atom 2 (O) has no neighbour within 5 Å"), "{}", refusal(&far));
        let twice = structure(&[1, 8, 1], &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.001, 0.0]);
        assert!(refusal(&twice).starts_with("atoms 0 and 2 are 0.0010 Å apart"), "{}", refusal(&twice));
        let alone = structure(&[2], &[0.0; 3]);
        assert!(refusal(&alone).starts_with("atom 0 (He) has no neighbour"));
        let periodic = Structure { pbc: [true; 3], ..alone };
        assert_eq!(refusal(&periodic), "periodic along some direction, but there is no cell");
        assert_eq!(refusal(&structure(&[], &[])), "there are no atoms");
    }

    #[test]
    fn an_atom_sees_its_own_images() {
        let transform = TargetTransform {
            label: "energy".into(),
            reference: None,
            mean: 2.0,
            std: 1.0,
            force_std: 1.0,
            average_atoms: 1.0,
        };
        let rule = Rule { graph: GraphSpec::new(5.0, 8), transform };
        let cell = Some([2.5, 0.0, 0.0, 0.0, 2.5, 0.0, 0.0, 0.0, 2.5]);
        let copper = Structure { cell, pbc: [true; 3], ..structure(&[29], &[0.0; 3]) };
        assert_eq!(rule.prepare(&copper).unwrap().offset, 2.0);
        let flat = Structure { cell: Some([2.5, 0.0, 0.0, 0.0, 2.5, 0.0, 0.0, 0.0, 0.005]), ..copper };
        assert!(matches!(
            rule.prepare(&flat),
            Err(Impossible::SamePlace { first: 0, second: 0, .. } | Impossible::Graph(_))
        ));
    }
}
