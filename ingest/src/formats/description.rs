//! What each dataset is: level of theory, licence, graphs.

use std::collections::BTreeMap;

use shards::graph::GraphSpec;
use shards::manifest::SourceUnits;
use shards::units::{ConstantSet, Constants};
use shards::{DatasetHeader, FloatWidth, Layout, NeighborStorage};

use super::Format;

/// Rows of a row group, so that it unpacks to some megabytes.
const MOLECULE_ROWS: u32 = 5000;
const SLAB_ROWS: u32 = 1000;

/// The header of a dataset without choices. `constants` is for sources that are not in eV.
pub(super) fn header(format: Format, constants: Option<ConstantSet>) -> DatasetHeader {
    let (domain, level, licence) = match format {
        Format::Oc20 => ("surfaces", "RPBE, PAW (VASP)", "CC-BY-4.0"),
        Format::Oc22 => ("surfaces", "PBE+U, PAW (VASP)", "CC-BY-4.0"),
        Format::Ani1x => {
            ("molecules", "wB97X/6-31G(d)", "see the record of the download (figshare 18112775)")
        }
        Format::Transition1x => {
            ("molecules", "wB97x/6-31G(d)", "see the record of the download (figshare 36035789)")
        }
        Format::Qm9 => {
            ("molecules", "B3LYP/6-31G(2df,p)", "see the record of the download (figshare 978904)")
        }
        Format::Rmd17 => ("molecules", "PBE/def2-SVP", "CC0-1.0"),
        Format::Md17 => ("molecules", "PBE+vdW-TS", "see the page of the download (sgdml.org)"),
        Format::Md22 => ("molecules", "PBE+MBD", "see the page of the download (sgdml.org)"),
        Format::Spice => ("molecules", "wB97M-D3(BJ)/def2-TZVPPD", "see the record of the download (Zenodo)"),
        Format::Extxyz | Format::AseLmdb | Format::Traj | Format::Db => {
            ("structures", "not stated", "not stated")
        }
        // MatBench fills in each task's own level.
        Format::Matbench => ("materials", "", "see the records of its sources (docs/data/matbench.md)"),
        Format::Qmof => ("materials", "PBE-D3(BJ), PAW (VASP)", "CC-BY-4.0"),
    };
    let constants = constants.map(Constants::of);
    DatasetHeader {
        name: format.name().to_owned(),
        domain: domain.to_owned(),
        level_of_theory: level.to_owned(),
        licence: licence.to_owned(),
        source_units: Some(source_units(format, constants.as_ref())),
        constants,
        choices: BTreeMap::new(),
    }
}

/// What the numbers of a source are in. Without constants it is in eV already, such as the LMDB files that JMP makes.
fn source_units(format: Format, constants: Option<&Constants>) -> SourceUnits {
    match (format, constants) {
        (Format::Ani1x, Some(c)) => {
            SourceUnits::new(("hartree", c.hartree_ev), ("hartree/Å", c.hartree_ev), ("Å", 1.0))
        }
        (Format::Rmd17 | Format::Md17 | Format::Md22, Some(c)) => {
            SourceUnits::new(("kcal/mol", c.kcal_mol_ev), ("kcal/mol/Å", c.kcal_mol_ev), ("Å", 1.0))
        }
        (Format::Spice, Some(c)) => SourceUnits::new(
            ("hartree", c.hartree_ev),
            ("hartree/bohr, gradient", -c.hartree_per_bohr()),
            ("bohr", c.bohr_angstrom),
        ),
        _ => SourceUnits::same(),
    }
}

/// Columns and graphs (cutoff in Å and neighbours as JMP uses them).
///
/// Molecules carry the whole neighbour list. Slabs carry none by default: with up to 1000 neighbours an atom within 12 Å the
/// list is many times larger than everything else in the row; and MD22, whose largest molecule has 200 an atom, so that the list
/// doubles the file and a row group of it takes a gigabyte.
pub(super) fn layout(format: Format, float: FloatWidth) -> Layout {
    let (cutoff, neighbors, row_group_rows, storage) = match format {
        Format::Oc20
        | Format::Oc22
        | Format::Md22
        | Format::Matbench
        | Format::Extxyz
        | Format::AseLmdb
        | Format::Traj
        | Format::Db => (12.0, 30, SLAB_ROWS, NeighborStorage::None),
        Format::Ani1x | Format::Transition1x | Format::Qm9 => (8.0, 30, MOLECULE_ROWS, NeighborStorage::Full),
        Format::Rmd17 | Format::Md17 => (7.0, 100, MOLECULE_ROWS, NeighborStorage::Full),
        Format::Spice => (12.0, 30, SLAB_ROWS, NeighborStorage::Full),
        Format::Qmof => (19.0, 30, SLAB_ROWS, NeighborStorage::None),
    };
    Layout {
        float,
        targets: vec![],
        graph: GraphSpec::new(cutoff, neighbors),
        neighbors: storage,
        row_group_rows,
    }
}
