//! ANI-1x as released: one HDF5 group a molecular formula.
//!
//! Energies are in hartree, forces in hartree/Å (not per bohr) and are forces, not gradients. NaN marks what was not computed
//! at a level of theory; such rows are left out and counted.

use std::collections::{BTreeMap, BTreeSet};

use shards::legacy_shuffle::LegacyRng;
use shards::units::Constants;
use shards::{FloatWidth, Floats, Structure};

use super::hdf5_units::{Part, cut};
use super::{Format, Options, description};
use crate::error::{IngestError, input_error};
use crate::hdf5::{Dataset, Group, Hdf5, Numbers};
use crate::input::{Input, files};
use crate::source::{Description, Members, Sink, Source, SplitPlan};

/// Fewest atoms of a formula that JMP uses.
const MIN_ATOMS: usize = 4;
/// A unit is closed by the group that brings it to this many rows.
const UNIT_ROWS: u64 = 10_000;

/// The opened file.
pub(super) struct Ani1x {
    description: Description,
    /// Groups of each unit.
    members: Vec<Vec<Formula>>,
    hartree_ev: f64,
    level: String,
}

/// A group that is read.
struct Formula {
    name: String,
    rows: u64,
    group: Group,
}

impl Ani1x {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &["h5", "hdf5"])?;
        let [file] = found.as_slice() else {
            let names: Vec<String> = found.iter().map(|f| f.path.display().to_string()).collect();
            return Err(input_error(
                &inputs[0].path,
                format!("ANI-1x is one HDF5 file, found {}", names.join(", ")),
            ));
        };
        let hdf5 = Hdf5::open(&file.path)?;
        let (kept, all_rows, float) = formulas(&hdf5, options)?;
        if kept.is_empty() {
            return Err(input_error(
                &file.path,
                "no group with at least four atoms; --keep-small keeps smaller ones",
            ));
        }
        let splits = match &file.split {
            Some(name) => vec![whole(name, &kept)],
            None => formula_splits(&kept, all_rows, options.seed),
        };
        let constants = Constants::of(options.constants);
        let mut header = description::header(Format::Ani1x, Some(options.constants));
        if options.level != "wb97x_dz" {
            header.level_of_theory.clone_from(&options.level);
        }
        header.choices = BTreeMap::from([
            ("level".to_owned(), options.level.clone()),
            (
                "formulas_below_4_atoms".to_owned(),
                if options.keep_small { "kept" } else { "left out" }.to_owned(),
            ),
        ]);
        let (units, members) = cut(kept, &file.path, UNIT_ROWS);
        let float = if options.narrow { FloatWidth::F32 } else { float };
        let layout = description::layout(Format::Ani1x, float);
        Ok(Self {
            description: Description { header, layout, units, splits },
            members,
            hartree_ev: constants.hartree_ev,
            level: options.level.clone(),
        })
    }

    fn read_formula(&self, formula: &Formula, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let (energy_key, forces_key) = (format!("{}.energy", self.level), format!("{}.forces", self.level));
        let group = &formula.group;
        let [numbers, positions, energies] = group.require(["atomic_numbers", "coordinates", &energy_key])?;
        let atomic_numbers = numbers.atomic_numbers()?;
        let (rows, atoms) = (formula.rows as usize, atomic_numbers.len());
        expect_shape(&positions, &[rows, atoms, 3])?;
        expect_shape(&energies, &[rows])?;
        let positions = floats(&positions)?;
        let energies = energies.numbers()?.into_f64();
        let forces = if has_forces(&self.level) {
            let [forces] = group.require([&forces_key as &str])?;
            expect_shape(&forces, &[rows, atoms, 3])?;
            Some(floats(&forces)?.scaled(self.hartree_ev))
        } else {
            None
        };
        for (row, energy) in energies.into_iter().enumerate() {
            let id = format!("{}/{row}", formula.name);
            let forces = forces.as_ref().map(|f| slice(f, row, 3 * atoms));
            if energy.is_nan() || forces.as_ref().is_some_and(has_nan) {
                sink.leave_out(
                    &id,
                    "not_computed",
                    &format!("energy or forces are NaN at the level {}", self.level),
                );
                continue;
            }
            sink.structure(Structure {
                energy: Some(energy * self.hartree_ev),
                forces,
                ..Structure::new(
                    id,
                    formula.name.clone(),
                    atomic_numbers.clone(),
                    slice(&positions, row, 3 * atoms),
                )
            })?;
        }
        Ok(())
    }
}

impl Source for Ani1x {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        self.members[unit].iter().try_for_each(|formula| self.read_formula(formula, sink))
    }
}

/// Only the two density-functional levels have forces in the release.
fn has_forces(level: &str) -> bool {
    level.starts_with("wb97x")
}

/// The groups to read, the rows of all groups, and the width of the coordinates.
fn formulas(hdf5: &Hdf5, options: &Options) -> Result<(Vec<Formula>, u64, FloatWidth), IngestError> {
    let energy_key = format!("{}.energy", options.level);
    let (mut kept, mut all_rows, mut float) = (Vec::new(), 0, FloatWidth::F32);
    for (name, group) in hdf5.root().groups()? {
        let [numbers, positions, energies] = group.require(["atomic_numbers", "coordinates", &energy_key])?;
        let rows = energies.shape()?.first().copied().unwrap_or(0) as u64;
        all_rows += rows;
        if !positions.is_f32()? {
            float = FloatWidth::F64;
        }
        let atoms = numbers.shape()?.iter().product::<usize>();
        if rows > 0 && (options.keep_small || atoms >= MIN_ATOMS) {
            kept.push(Formula { name, rows, group });
        }
    }
    Ok((kept, all_rows, float))
}

/// JMP's split: formulas in random order; the first that together reach a tenth of all rows are `test`, the next `val`, the rest
/// `train`. A tenth of the released file's rows is the 495 600 of JMP's script, which shuffles without a seed.
fn formula_splits(kept: &[Formula], all_rows: u64, seed: u32) -> Vec<SplitPlan> {
    let mut order: Vec<&Formula> = kept.iter().collect();
    LegacyRng::new(seed).shuffle(&mut order);
    let target = (all_rows / 10).max(1);
    // Too few formulas to hold any out.
    let held_out: &[&str] = if kept.len() < 3 { &[] } else { &["test", "val"] };
    let mut rest = order.into_iter();
    let mut splits = Vec::new();
    for name in held_out {
        let (mut rows, mut groups) = (0, BTreeSet::new());
        while rows < target {
            let Some(formula) = rest.next() else { break };
            rows += formula.rows;
            groups.insert(formula.name.clone());
        }
        splits.push(((*name).to_owned(), groups));
    }
    splits.push(("train".to_owned(), rest.map(|f| f.name.clone()).collect()));
    let algorithm = format!(
        "formulas in bytewise order, shuffled by numpy's RandomState({seed}); the first to reach {target} rows are test, the next val, \
         the rest train"
    );
    splits
        .into_iter()
        .map(|(name, groups)| SplitPlan {
            name,
            algorithm: algorithm.clone(),
            seed: Some(u64::from(seed)),
            members: Members::Groups(groups),
        })
        .collect()
}

fn whole(name: &str, kept: &[Formula]) -> SplitPlan {
    SplitPlan {
        name: name.to_owned(),
        algorithm: "all rows of the file given under this name".to_owned(),
        seed: None,
        members: Members::Groups(kept.iter().map(|f| f.name.clone()).collect()),
    }
}

impl Part for Formula {
    fn name(&self) -> &str {
        &self.name
    }

    fn rows(&self) -> u64 {
        self.rows
    }
}

fn expect_shape(dataset: &Dataset, expected: &[usize]) -> Result<(), IngestError> {
    let found = dataset.shape()?;
    if found == expected {
        return Ok(());
    }
    Err(dataset.malformed(&format!("shape {expected:?}"), &format!("{found:?}")))
}

fn floats(dataset: &Dataset) -> Result<Floats, IngestError> {
    Ok(match dataset.numbers()? {
        Numbers::F32(v) => Floats::F32(v),
        other => Floats::F64(other.into_f64()),
    })
}

fn slice(all: &Floats, row: usize, width: usize) -> Floats {
    let range = row * width..(row + 1) * width;
    match all {
        Floats::F32(v) => Floats::F32(v[range].to_vec()),
        Floats::F64(v) => Floats::F64(v[range].to_vec()),
    }
}

fn has_nan(values: &Floats) -> bool {
    match values {
        Floats::F32(v) => v.iter().any(|x| x.is_nan()),
        Floats::F64(v) => v.iter().any(|x| x.is_nan()),
    }
}
