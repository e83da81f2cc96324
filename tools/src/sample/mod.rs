//! What only decoded structures tell, over a seeded sample of a dataset: distances, neighbours, cells, force components,
//! and energies after the linear reference.

mod energies;
mod geometry;

use rayon::prelude::*;
use serde::Serialize;
use shards::reader::Columns;
use shards::{Dataset, LinearReference, NeighborStorage};

pub use energies::{CompositionResidual, ElementResidual, Energies};
pub use geometry::{Cells, Geometry};

use crate::distribution::{Grid, RealDistribution};
use crate::error::ReportError;
use crate::sampling::{self, Chosen};

use energies::EnergyTally;
use geometry::GeometryTally;

/// Step of the grid of force components, eV/Å.
const FORCE_STEP: f64 = 0.01;

/// Some structures of a dataset, decoded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// What chose the structures.
    pub seed: u64,
    /// Structures read.
    pub structures: u64,
    /// Row groups that they come from.
    pub row_groups: usize,
    /// Whether these are all structures.
    pub complete: bool,
    /// Distances, neighbours and cells.
    pub geometry: Geometry,
    /// Components of the forces, eV/Å.
    pub force_components: Option<RealDistribution>,
    /// Energies before and after the linear reference.
    pub energies: Option<Energies>,
}

/// Decodes about `limit` structures. Referenced energies are there if a `reference` is given.
pub fn gather(
    dataset: &Dataset,
    reference: Option<&LinearReference>,
    limit: u64,
    seed: u64,
) -> Result<Sample, ReportError> {
    let chosen = sampling::choose(dataset.row_groups(), limit, seed);
    let parts: Vec<Tally> =
        chosen.par_iter().map(|chosen| read(dataset, reference, chosen)).collect::<Result<_, _>>()?;
    // In the order of the rows, so that sums do not depend on the threads.
    let tally = parts.into_iter().fold(Tally::default(), Tally::merged);
    Ok(Sample {
        seed,
        structures: tally.structures,
        row_groups: chosen.len(),
        complete: tally.structures == dataset.rows(),
        geometry: tally.geometry.finish(),
        force_components: tally.forces.distribution(),
        energies: tally.energies.finish(),
    })
}

/// What is counted while structures go by.
struct Tally {
    structures: u64,
    geometry: GeometryTally,
    forces: Grid,
    energies: EnergyTally,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            structures: 0,
            geometry: GeometryTally::default(),
            forces: Grid::new(FORCE_STEP),
            energies: EnergyTally::default(),
        }
    }
}

impl Tally {
    fn merged(mut self, other: Self) -> Self {
        self.structures += other.structures;
        self.geometry.merge(other.geometry);
        self.forces.merge(&other.forces);
        self.energies.merge(other.energies);
        self
    }
}

fn read(
    dataset: &Dataset,
    reference: Option<&LinearReference>,
    chosen: &Chosen,
) -> Result<Tally, ReportError> {
    let layout = dataset.layout();
    let stored = layout.neighbors == NeighborStorage::Full;
    let block = dataset.read(&chosen.group, Columns::training(stored))?;
    let table = reference.map(LinearReference::table);
    let mut tally = Tally::default();
    for &index in &chosen.rows {
        let row = block.row(index);
        tally.structures += 1;
        tally.geometry.add(&row, &layout.graph).map_err(|problem| ReportError::Structure {
            dir: dataset.dir().to_path_buf(),
            id: row.id.to_string(),
            problem: problem.to_string(),
        })?;
        for component in row.forces.iter().flat_map(|forces| forces.iter()).flatten() {
            tally.forces.add(component);
        }
        if let Some(energy) = row.energy {
            tally.energies.add(row.atomic_numbers, energy, table.as_ref());
        }
    }
    Ok(tally)
}
