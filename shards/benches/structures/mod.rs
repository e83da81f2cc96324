//! Seeded structures to measure with: slabs, bulk cells and molecules, the same on every machine.

use std::f64::consts::PI;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use shards::graph::Geometry;

/// Structures of one kind and what their graphs are to hold.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Å.
    pub(crate) cutoff: f64,
    /// Neighbours an atom keeps in the main graph.
    pub(crate) main: u32,
    /// Largest number of structures of one batch.
    pub(crate) batch: usize,
    pub(crate) structures: Vec<Sample>,
}

/// One structure, Å.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) cell: Option<[[f64; 3]; 3]>,
    pub(crate) pbc: [bool; 3],
    pub(crate) positions: Vec<[f64; 3]>,
    pub(crate) tags: Vec<u8>,
}

impl Sample {
    pub(crate) fn geometry(&self) -> Geometry<'_> {
        Geometry { positions: &self.positions, cell: self.cell, pbc: self.pbc, tags: Some(&self.tags) }
    }
}

/// All cases, from one seed.
pub(crate) fn cases() -> Vec<Case> {
    let mut random = Random(ChaCha8Rng::seed_from_u64(20_240_607));
    let mut case = |name: &str, count: usize, make: &mut dyn FnMut(&mut Random) -> Sample| Case {
        name: name.into(),
        cutoff: if name.starts_with("molecule") { 8.0 } else { 12.0 },
        main: 30,
        batch: if name.starts_with("molecule") { 8 } else { 2 },
        structures: (0..count).map(|_| make(&mut random)).collect(),
    };
    vec![
        case("slab73", 40, &mut |random| slab(73, random)),
        case("slab70", 40, &mut |random| slab(70, random)),
        case("bulk200", 10, &mut |random| bulk(200, random)),
        case("bulk1000", 4, &mut |random| bulk(1000, random)),
        case("molecule14", 400, &mut |random| molecule(14, random)),
    ]
}

struct Random(ChaCha8Rng);

impl Random {
    /// Uniform in [low, high).
    fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// About normal, with the given standard deviation: the sum of twelve uniform numbers.
    fn noise(&mut self, deviation: f64) -> f64 {
        deviation * ((0..12).map(|_| self.within(0.0, 1.0)).sum::<f64>() - 6.0)
    }
}

/// Four close-packed layers under 12 Å of vacuum and an adsorbate of up to eight atoms, periodic along all directions;
/// the in-plane angle is 60°, 90° or between. Some atoms lie outside the cell.
fn slab(atoms: usize, random: &mut Random) -> Sample {
    const LAYERS: usize = 4;
    let adsorbate = 1 + random.within(0.0, 8.0) as usize;
    let metal = atoms - adsorbate;
    let per_layer = metal.div_ceil(LAYERS);
    let angle = match random.within(0.0, 4.0) as usize {
        0 | 1 => PI / 2.0,
        2 => PI / 3.0,
        _ => random.within(PI / 3.0, PI / 2.0),
    };
    let height = LAYERS as f64 * 2.3;
    let area = metal as f64 / (0.055 * height);
    let a = (area / angle.sin()).sqrt() * random.within(0.85, 1.18);
    let b = area / angle.sin() / a;
    let cell = [[a, 0.0, 0.0], [b * angle.cos(), b * angle.sin(), 0.0], [0.0, 0.0, height + 12.0]];
    let columns = (per_layer as f64).sqrt().round().max(1.0) as usize;
    let lines = per_layer.div_ceil(columns);
    let (mut positions, mut tags) = (Vec::with_capacity(atoms), Vec::with_capacity(atoms));
    for i in 0..metal {
        let (layer, slot) = (i / per_layer, i % per_layer);
        let offset = if layer % 2 == 0 { 0.0 } else { 0.5 };
        let f = ((slot % columns) as f64 + offset) / columns as f64;
        let g = ((slot / columns) as f64 + offset) / lines as f64;
        let p = [f * cell[0][0] + g * cell[1][0], g * cell[1][1], layer as f64 * 2.3];
        positions.push(p.map(|x| x + random.noise(0.1)));
        tags.push(u8::from(layer == LAYERS - 1));
    }
    let top = [random.within(0.0, a), random.within(0.0, b * angle.sin()), height];
    positions.extend(chain(adsorbate, top, random));
    tags.resize(atoms, 2);
    Sample { cell: Some(cell), pbc: [true; 3], positions, tags }
}

/// Atoms on a shaken grid, 0.05 an Å³, in a slightly skewed cell.
fn bulk(atoms: usize, random: &mut Random) -> Sample {
    let edge = (atoms as f64 / 0.05).cbrt();
    let along = (atoms as f64).cbrt().ceil() as usize;
    let mut skew = || random.within(-0.15, 0.15) * edge;
    let cell = [[edge, skew(), 0.0], [0.0, edge, skew()], [skew(), 0.0, edge]];
    let positions = (0..atoms)
        .map(|i| {
            let f = [i % along, i / along % along, i / along / along].map(|n| n as f64 / along as f64);
            [0, 1, 2].map(|x| (0..3).map(|k| f[k] * cell[k][x]).sum::<f64>() + random.noise(0.15))
        })
        .collect();
    Sample { cell: Some(cell), pbc: [true; 3], positions, tags: vec![2; atoms] }
}

/// A random chain of atoms, not periodic.
fn molecule(atoms: usize, random: &mut Random) -> Sample {
    Sample { cell: None, pbc: [false; 3], positions: chain(atoms, [0.0; 3], random), tags: vec![2; atoms] }
}

/// Atoms bound to one of the four before, 1.0–1.5 Å away, and no two closer than 0.9 Å.
fn chain(atoms: usize, start: [f64; 3], random: &mut Random) -> Vec<[f64; 3]> {
    let distance = |p: [f64; 3], q: [f64; 3]| (0..3).map(|k| (p[k] - q[k]).powi(2)).sum::<f64>().sqrt();
    let mut chain = vec![start];
    while chain.len() < atoms {
        let from = chain.len() - 1 - (random.within(0.0, 4.0) as usize).min(chain.len() - 1);
        let step = [0; 3].map(|_| random.noise(1.0));
        let scale = random.within(1.0, 1.5) / distance(step, [0.0; 3]);
        let next: [f64; 3] = std::array::from_fn(|k| chain[from][k] + step[k] * scale);
        if chain.iter().all(|p| distance(*p, next) > 0.9) {
            chain.push(next);
        }
    }
    chain
}
