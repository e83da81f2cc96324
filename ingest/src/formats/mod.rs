//! The datasets that are read, one file each. A new one adds a file, a name in [`Format`] and a line in [`open`].

mod ani1x;
mod ase_db;
mod ase_files;
mod ase_lmdb;
mod ase_row;
mod ase_traj;
mod description;
mod extxyz;
mod frame_record;
mod hdf5_units;
mod joined;
mod labels;
mod matbench;
mod matbench_folds;
mod matbench_tasks;
mod md17;
mod md17_extxyz;
mod md17_frames;
mod md17_splits;
mod members;
mod molecule_name;
mod oc20_energy;
mod oc20_raw;
mod pyg_lmdb;
mod pyg_record;
mod qm9;
mod qm9_sdf;
mod qm9_targets;
mod qm9_torch;
mod qm9_xyz;
mod qmof;
mod qmof_input;
mod qmof_table;
mod source_units;
mod spice;
mod spice_splits;
mod transition1x;

use std::path::PathBuf;
use std::str::FromStr;

use shards::units::ConstantSet;

use crate::error::IngestError;
use crate::input::Input;
use crate::source::Source;
pub use labels::Labels;
pub use pyg_lmdb::value_structures;
pub use source_units::SourceUnits;

/// A dataset that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Open Catalyst 2020, S2EF: LMDB of torch_geometric records.
    Oc20,
    /// Open Catalyst 2022, S2EF-Total: likewise.
    Oc22,
    /// ANI-1x: the released HDF5, or LMDB made from it.
    Ani1x,
    /// Transition-1x: the released HDF5, or LMDB made from it.
    Transition1x,
    /// QM9: sdf and csv, the deposited xyz files, or qm9_v3.pt.
    Qm9,
    /// Revised MD17: npz.
    Rmd17,
    /// MD17: npz.
    Md17,
    /// MD22: npz or extended XYZ.
    Md22,
    /// SPICE 1 and 2: HDF5.
    Spice,
    /// Extended XYZ of any origin.
    Extxyz,
    /// ASE-LMDB, as OMat24 and OMol25 are distributed.
    AseLmdb,
    /// Trajectories of ASE.
    Traj,
    /// Databases of ASE.
    Db,
    /// MatBench v0.1: one gzipped JSON document a task.
    Matbench,
    /// QMOF: JSON pair, or table and CIF files.
    Qmof,
}

impl Format {
    /// All of them, in the order in which help texts list them.
    pub const ALL: [Self; 15] = [
        Self::Oc20,
        Self::Oc22,
        Self::Ani1x,
        Self::Transition1x,
        Self::Qm9,
        Self::Rmd17,
        Self::Md17,
        Self::Md22,
        Self::Spice,
        Self::Matbench,
        Self::Qmof,
        Self::Extxyz,
        Self::AseLmdb,
        Self::Traj,
        Self::Db,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oc20 => "oc20",
            Self::Oc22 => "oc22",
            Self::Ani1x => "ani1x",
            Self::Transition1x => "transition1x",
            Self::Qm9 => "qm9",
            Self::Rmd17 => "rmd17",
            Self::Md17 => "md17",
            Self::Md22 => "md22",
            Self::Spice => "spice",
            Self::Extxyz => "extxyz",
            Self::AseLmdb => "aselmdb",
            Self::Traj => "traj",
            Self::Db => "db",
            Self::Matbench => "matbench",
            Self::Qmof => "qmof",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name);
        Self::ALL
            .into_iter()
            .find(|f| f.name() == text)
            .ok_or_else(|| format!("known are {}", known.join(", ")))
    }
}

/// Which energy an OC20 file holds; the file does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnergyKind {
    /// The DFT total energy.
    #[default]
    Total,
    /// The energy relative to the bare slab and the gas-phase adsorbate.
    Referenced,
}

impl EnergyKind {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Referenced => "referenced",
        }
    }
}

/// Which frames of a relaxation are taken of the records of OC20's IS2RE, that have both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelaxationFrames {
    /// The first, with the energy of the last as a scalar target.
    #[default]
    Initial,
    /// The last.
    Relaxed,
    /// Both.
    Both,
}

impl RelaxationFrames {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Relaxed => "relaxed",
            Self::Both => "both",
        }
    }
}

/// Choices that a user may make; a format ignores those that are not its own.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "independent choices of different formats")]
pub struct Options {
    /// What OC20's energies are.
    pub energy: EnergyKind,
    /// OC20: file of the energies (`oc20_ref.pkl`) that make referenced energies total ones.
    pub oc20_ref: Option<PathBuf>,
    /// OC20's IS2RE: frames to take of each relaxation.
    pub relaxation: RelaxationFrames,
    /// Constants for sources in hartree or kcal/mol.
    pub constants: ConstantSet,
    /// ANI-1x: level of theory, the prefix of its dataset names.
    pub level: String,
    /// ANI-1x: keep formulas of fewer than four atoms.
    pub keep_small: bool,
    /// Transition-1x: the end points of each reaction, too.
    pub end_points: bool,
    /// MD17, rMD17, MD22: rows of JMP's training and validation sets together; `None`: as many as JMP has for the molecule.
    pub train_total: Option<u64>,
    /// SPICE: words of the subset to convert; `None`: all.
    pub subset: Option<String>,
    /// SPICE: conformers with a larger gradient component, in hartree/bohr, are left out.
    pub max_gradient: Option<f64>,
    /// QMOF: training rows of the split that follows the JMP paper.
    pub train_size: u64,
    /// QMOF: the band gaps of all functionals, not only PBE's.
    pub all_targets: bool,
    /// Seed of the splits that are drawn at conversion.
    pub seed: u32,
    /// Narrow positions and forces to 32 bits.
    pub narrow: bool,
    /// A user's own data: which entries are the labels, in which units.
    pub labels: Labels,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            energy: EnergyKind::Total,
            oc20_ref: None,
            relaxation: RelaxationFrames::Initial,
            constants: ConstantSet::Ase2014,
            level: "wb97x_dz".to_owned(),
            keep_small: false,
            end_points: false,
            train_total: None,
            subset: None,
            max_gradient: None,
            train_size: 10_000,
            all_targets: false,
            seed: 42,
            narrow: false,
            labels: Labels::default(),
        }
    }
}

/// Opens a dataset.
///
/// # Errors
/// When an input does not exist or is not of the format.
pub fn open(format: Format, inputs: &[Input], options: &Options) -> Result<Box<dyn Source>, IngestError> {
    let lmdb = |inputs| Ok(Box::new(pyg_lmdb::PygLmdb::open(format, inputs, options)?) as Box<dyn Source>);
    match format {
        Format::Oc22 => lmdb(inputs),
        Format::Oc20 => open_oc20(inputs, options),
        Format::Ani1x | Format::Transition1x if inputs.iter().all(|i| pyg_lmdb::is_lmdb(&i.path)) => {
            lmdb(inputs)
        }
        Format::Transition1x => Ok(Box::new(transition1x::Transition1x::open(inputs, options)?)),
        Format::Ani1x => Ok(Box::new(ani1x::Ani1x::open(inputs, options)?)),
        Format::Qm9 => Ok(Box::new(qm9::Qm9::open(inputs, options)?)),
        Format::Md17 | Format::Md22 if md17_extxyz::is_extxyz(inputs) => {
            Ok(Box::new(md17_extxyz::MolecularDynamicsXyz::open(format, inputs, options)?))
        }
        Format::Rmd17 | Format::Md17 | Format::Md22 => {
            Ok(Box::new(md17::MolecularDynamics::open(format, inputs, options)?))
        }
        Format::Spice => Ok(Box::new(spice::Spice::open(inputs, options)?)),
        Format::Extxyz => Ok(Box::new(extxyz::Extxyz::open(inputs, options)?)),
        Format::AseLmdb | Format::Traj | Format::Db => {
            Ok(Box::new(ase_files::AseFiles::open(format, inputs, options)?))
        }
        Format::Matbench => Ok(Box::new(matbench::Matbench::open(inputs, options)?)),
        Format::Qmof => Ok(Box::new(qmof::Qmof::open(inputs, options)?)),
    }
}

/// OC20's LMDBs and its sets as downloaded, in any mixture.
fn open_oc20(inputs: &[Input], options: &Options) -> Result<Box<dyn Source>, IngestError> {
    let is_lmdb = |input: &Input| pyg_lmdb::is_lmdb(&input.path);
    let mut sources: Vec<Box<dyn Source>> = Vec::new();
    for alike in inputs.chunk_by(|a, b| is_lmdb(a) == is_lmdb(b)) {
        sources.push(if is_lmdb(&alike[0]) {
            Box::new(pyg_lmdb::PygLmdb::open(Format::Oc20, alike, options)?)
        } else {
            Box::new(oc20_raw::Oc20Raw::open(alike, options)?)
        });
    }
    Ok(match sources.len() {
        1 => sources.swap_remove(0),
        _ => Box::new(joined::Joined::new(sources)),
    })
}
