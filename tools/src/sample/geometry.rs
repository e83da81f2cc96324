//! Distances, neighbours and cells.

use std::collections::BTreeMap;

use serde::Serialize;
use shards::graph::{self, GraphError, GraphSpec, NeighborList};
use shards::reader::RowView;

use crate::distribution::{Grid, RealDistribution};
use crate::histogram::Histogram;
use crate::mass;

/// Step of the grid of distances, Å.
const DISTANCE_STEP: f64 = 0.01;

/// Distances, neighbours and cells of the sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Geometry {
    /// Distance of each atom's nearest neighbour, Å.
    pub nearest: Option<RealDistribution>,
    /// Atoms without a neighbour within the graph's cutoff.
    pub isolated: u64,
    /// Neighbours of each atom within the graph's cutoff, at most as many as its atom-atom graph keeps.
    pub neighbors: Neighbors,
    /// Fully periodic cells.
    pub cells: Option<Cells>,
}

/// Neighbours of each atom.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Neighbors {
    /// Atoms looked at.
    pub atoms: u64,
    /// Mean.
    pub mean: f64,
    /// Most.
    pub max: u64,
    /// The distribution.
    pub histogram: Histogram,
}

/// Cells that are periodic in all directions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cells {
    /// Volume, Å³.
    pub volume: RealDistribution,
    /// Volume over atoms, Å³.
    pub volume_per_atom: RealDistribution,
    /// Mass density, g/cm³; a slab's vacuum counts.
    pub density: RealDistribution,
}

/// What is counted while structures go by.
pub(super) struct GeometryTally {
    nearest: Grid,
    isolated: u64,
    neighbors: BTreeMap<u64, u64>,
    volumes: Vec<f64>,
    volumes_per_atom: Vec<f64>,
    densities: Vec<f64>,
}

impl Default for GeometryTally {
    fn default() -> Self {
        Self {
            nearest: Grid::new(DISTANCE_STEP),
            isolated: 0,
            neighbors: BTreeMap::new(),
            volumes: vec![],
            volumes_per_atom: vec![],
            densities: vec![],
        }
    }
}

impl GeometryTally {
    pub(super) fn add(&mut self, row: &RowView, spec: &GraphSpec) -> Result<(), GraphError> {
        let positions: Vec<[f64; 3]> = row.positions.iter().collect();
        let flat = row.cell();
        let cell = flat.map(|c| [[c[0], c[1], c[2]], [c[3], c[4], c[5]], [c[6], c[7], c[8]]]);
        let list = if let Some(stored) = row.neighbors() {
            stored.to_list()
        } else {
            let spec = spec.of(positions.len());
            let geometry = graph::Geometry { positions: &positions, cell, pbc: row.pbc(), tags: None };
            NeighborList::build(&geometry, spec.cutoff, spec.atom_atom)?
        };
        self.neighbors(&positions, cell.unwrap_or_default(), &list);
        if let Some(cell) = cell.filter(|_| row.pbc() == [true; 3]) {
            let volume = volume(cell);
            self.volumes.push(volume);
            self.volumes_per_atom.push(volume / positions.len() as f64);
            self.densities.push(mass::density(row.atomic_numbers, volume));
        }
        Ok(())
    }

    fn neighbors(&mut self, positions: &[[f64; 3]], cell: [[f64; 3]; 3], list: &NeighborList) {
        for (target, place) in positions.iter().enumerate() {
            let row = list.offsets[target] as usize..list.offsets[target + 1] as usize;
            *self.neighbors.entry(row.len() as u64).or_default() += 1;
            let square = |e: usize| -> f64 {
                let (source, shift) = (positions[list.source[e] as usize], list.shift[e].map(f64::from));
                let along =
                    |x: usize| source[x] - place[x] + (0..3).map(|k| shift[k] * cell[k][x]).sum::<f64>();
                (0..3).map(|x| along(x).powi(2)).sum()
            };
            match row.map(square).min_by(f64::total_cmp) {
                Some(least) => self.nearest.add(least.sqrt()),
                None => self.isolated += 1,
            }
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.nearest.merge(&other.nearest);
        self.isolated += other.isolated;
        for (neighbors, atoms) in other.neighbors {
            *self.neighbors.entry(neighbors).or_default() += atoms;
        }
        self.volumes.extend(other.volumes);
        self.volumes_per_atom.extend(other.volumes_per_atom);
        self.densities.extend(other.densities);
    }

    pub(super) fn finish(self) -> Geometry {
        let atoms: u64 = self.neighbors.values().sum();
        let relations: u64 = self.neighbors.iter().map(|(neighbors, atoms)| neighbors * atoms).sum();
        let cells = RealDistribution::of(self.volumes)
            .zip(RealDistribution::of(self.volumes_per_atom))
            .zip(RealDistribution::of(self.densities));
        Geometry {
            nearest: self.nearest.distribution(),
            isolated: self.isolated,
            neighbors: Neighbors {
                atoms,
                mean: relations as f64 / atoms.max(1) as f64,
                max: self.neighbors.keys().next_back().copied().unwrap_or(0),
                histogram: Histogram::of_integers(&self.neighbors),
            },
            cells: cells.map(|((volume, volume_per_atom), density)| Cells {
                volume,
                volume_per_atom,
                density,
            }),
        }
    }
}

/// Volume of a cell, Å³.
fn volume([a, b, c]: [[f64; 3]; 3]) -> f64 {
    let cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    (a[0] * cross[0] + a[1] * cross[1] + a[2] * cross[2]).abs()
}
