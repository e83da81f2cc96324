//! SPICE 1 and 2: one HDF5 group a molecule or cluster, all subsets in one file or one subset by itself.
//!
//! Lengths are in bohr, energies in hartree; the file holds the *gradient*, so that forces are its negative. `energy` is the
//! DFT total energy, the target `formation_energy` that minus the isolated atoms and ions. Ids are JMP's, `<group>__<conformer>`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use shards::units::Constants;
use shards::{FloatWidth, Floats, Structure, Target};

use super::hdf5_units::{Part, cut};
use super::{Format, Options, description, spice_splits};
use crate::error::{IngestError, input_error};
use crate::hdf5::{Dataset, Group, Hdf5, Numbers};
use crate::input::{Input, files};
use crate::source::{Description, Sink, Source};

/// A unit is closed by the group that brings it to this many conformers.
const UNIT_ROWS: u64 = 10_000;
/// From SPICE 1.1 on, conformers with a larger gradient component (hartree/bohr) are left out by its authors.
const LARGE_GRADIENT: f64 = 1.0;

/// The opened file.
pub(super) struct Spice {
    description: Description,
    /// Groups of each unit.
    members: Vec<Vec<Molecule>>,
    constants: Constants,
    /// Conformers with a larger gradient component (hartree/bohr) are left out.
    max_gradient: Option<f64>,
    large_gradients: AtomicU64,
}

/// A group that is read.
pub(super) struct Molecule {
    pub(super) name: String,
    pub(super) rows: u64,
    /// The words of its subset.
    pub(super) subset: Option<String>,
    group: Group,
}

impl Spice {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &["hdf5", "h5"])?;
        let [file] = found.as_slice() else {
            let names: Vec<String> = found.iter().map(|f| f.path.display().to_string()).collect();
            let problem = format!("SPICE is one HDF5 file, found {}", names.join(", "));
            return Err(input_error(&inputs[0].path, problem));
        };
        let hdf5 = Hdf5::open(&file.path)?;
        let mut kept = molecules(&hdf5)?;
        let subsets: BTreeSet<String> = kept.iter().filter_map(|m| m.subset.clone()).collect();
        if let Some(wanted) = &options.subset {
            let wanted = spice_splits::words(wanted);
            kept.retain(|m| m.subset.as_ref().is_some_and(|s| spice_splits::matches(s, &wanted)));
            if kept.is_empty() {
                let there: Vec<String> = subsets.into_iter().collect();
                let there = if there.is_empty() { "none at all".to_owned() } else { there.join("; ") };
                return Err(input_error(
                    &file.path,
                    format!("no subset of the words `{wanted}`; there is {there}"),
                ));
            }
        }
        if kept.is_empty() {
            return Err(input_error(&file.path, "no group with conformers"));
        }
        let float = if options.narrow || all_f32(&kept)? { FloatWidth::F32 } else { FloatWidth::F64 };
        let mut layout = description::layout(Format::Spice, float);
        layout.targets = vec![Target {
            name: "formation_energy".to_owned(),
            unit: "eV".to_owned(),
            meaning: "total energy minus that of the isolated atoms and ions".to_owned(),
            referenced: false,
        }];
        let splits = match &file.split {
            Some(name) => vec![spice_splits::whole(name, &kept)],
            None => spice_splits::all(&kept, options.seed),
        };
        let (units, members) = cut(kept, &file.path, UNIT_ROWS);
        Ok(Self {
            description: Description { header: header(options), layout, units, splits },
            members,
            constants: Constants::of(options.constants),
            max_gradient: options.max_gradient,
            large_gradients: AtomicU64::new(0),
        })
    }

    fn read_molecule(&self, molecule: &Molecule, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let group = &molecule.group;
        let [numbers, positions, energies, gradients] =
            group.require(["atomic_numbers", "conformations", "dft_total_energy", "dft_total_gradient"])?;
        let [formation] = group.find(["formation_energy"])?;
        let atomic_numbers = numbers.atomic_numbers()?;
        let (rows, atoms) = (molecule.rows as usize, atomic_numbers.len());
        check(&positions, &[rows, atoms, 3], "bohr")?;
        check(&gradients, &[rows, atoms, 3], "hartree/bohr")?;
        for dataset in [Some(&energies), formation.as_ref()].into_iter().flatten() {
            check(dataset, &[rows], "hartree")?;
        }
        let energies = energies.numbers()?.into_f64();
        let formation = formation.map(|f| Ok::<_, IngestError>(f.numbers()?.into_f64())).transpose()?;
        let gradients = floats(&gradients)?;
        let largest: Vec<f64> = (0..rows).map(|row| largest(&gradients, row, 3 * atoms)).collect();
        let positions = floats(&positions)?.scaled(self.constants.bohr_angstrom);
        let forces = gradients.scaled(-self.constants.hartree_per_bohr());
        let charge = group.text("smiles")?.and_then(|smiles| spice_splits::charge(&smiles));
        for row in 0..rows {
            let id = format!("{}__{row}", molecule.name);
            if let Some(limit) = self.max_gradient.filter(|limit| largest[row] > *limit) {
                let reason =
                    format!("a gradient component of {:.4} hartree/bohr, more than {limit}", largest[row]);
                sink.leave_out(&id, "large_gradient", &reason);
                continue;
            }
            if largest[row] > LARGE_GRADIENT {
                self.large_gradients.fetch_add(1, Ordering::Relaxed);
            }
            sink.structure(Structure {
                charge,
                energy: Some(energies[row] * self.constants.hartree_ev),
                forces: Some(slice(&forces, row, 3 * atoms)),
                targets: vec![formation.as_ref().map(|f| f[row] * self.constants.hartree_ev)],
                ..Structure::new(
                    id,
                    molecule.name.clone(),
                    atomic_numbers.clone(),
                    slice(&positions, row, 3 * atoms),
                )
            })?;
        }
        Ok(())
    }
}

impl Source for Spice {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        self.members[unit].iter().try_for_each(|molecule| self.read_molecule(molecule, sink))
    }

    fn warnings(&self) -> Vec<String> {
        match self.large_gradients.load(Ordering::Relaxed) {
            0 => vec![],
            n => vec![format!(
                "{n} conformers have a gradient component above {LARGE_GRADIENT} hartree/bohr (51 eV/Å): wrong outliers of SPICE 1.0, \
                 which later versions lack; --max-gradient {LARGE_GRADIENT} leaves them out"
            )],
        }
    }
}

fn header(options: &Options) -> shards::DatasetHeader {
    let mut header = description::header(Format::Spice, Some(options.constants));
    let mut choices = BTreeMap::new();
    if let Some(subset) = &options.subset {
        let words = spice_splits::words(subset);
        header.name = format!("spice-{}", words.replace(' ', "-"));
        choices.insert("subset".to_owned(), words);
    }
    if let Some(limit) = options.max_gradient {
        choices.insert("largest gradient component".to_owned(), format!("{limit} hartree/bohr"));
    }
    header.choices = choices;
    header
}

/// All groups with conformers, in bytewise order of their names, as JMP flattens them.
fn molecules(hdf5: &Hdf5) -> Result<Vec<Molecule>, IngestError> {
    let mut molecules = Vec::new();
    for (name, group) in hdf5.root().groups()? {
        let [energies] = group.require(["dft_total_energy"])?;
        let rows = energies.shape()?.first().copied().unwrap_or(0) as u64;
        let subset = group.text("subset")?.map(|s| spice_splits::words(&s));
        if rows > 0 {
            molecules.push(Molecule { name, rows, subset, group });
        }
    }
    Ok(molecules)
}

/// Whether coordinates and gradients are all in single precision, as in the releases; the first group stands for all.
fn all_f32(molecules: &[Molecule]) -> Result<bool, IngestError> {
    let Some(first) = molecules.first() else { return Ok(false) };
    let [positions, gradients] = first.group.require(["conformations", "dft_total_gradient"])?;
    Ok(positions.is_f32()? && gradients.is_f32()?)
}

impl Part for Molecule {
    fn name(&self) -> &str {
        &self.name
    }

    fn rows(&self) -> u64 {
        self.rows
    }
}

/// Refuses a dataset of another shape, or that says another unit.
fn check(dataset: &Dataset, shape: &[usize], unit: &str) -> Result<(), IngestError> {
    let found = dataset.shape()?;
    if found != shape {
        return Err(dataset.malformed(&format!("shape {shape:?}"), &format!("{found:?}")));
    }
    match dataset.units()? {
        Some(found) if found.trim() != unit => {
            Err(dataset.malformed(&format!("units `{unit}`"), &format!("`{found}`")))
        }
        _ => Ok(()),
    }
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

/// The largest component; NaN counts as none, since storing it is refused later.
fn largest(all: &Floats, row: usize, width: usize) -> f64 {
    (row * width..(row + 1) * width).map(|i| all.get(i).abs()).fold(0.0, f64::max)
}
