//! A user's own data: which labels are taken, in which units, and what a structure must look like before it is stored.

use shards::structure::cell_volume;
use shards::{DatasetHeader, Floats, Structure, Target};

use super::source_units::{Factors, SourceUnits};
use crate::extxyz::{own_tags, stated_tags};

/// Which entries of a source are the labels. `None`: the names that the format's own writers use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// Energy.
    pub energy_key: Option<String>,
    /// Forces.
    pub forces_key: Option<String>,
    /// What becomes the id.
    pub id_key: Option<String>,
    /// What becomes the group.
    pub group_key: Option<String>,
    /// Scalar targets, each with its unit.
    pub targets: Vec<(String, String)>,
    /// Units of energy, length, force and stress.
    pub units: SourceUnits,
    /// Leave out the tags, which mean something else than sub-surface, surface and adsorbate.
    pub ignore_tags: bool,
    /// Name of the dataset.
    pub name: Option<String>,
    /// Its level of theory, in words.
    pub theory: Option<String>,
    /// Its licence.
    pub licence: Option<String>,
}

/// Energies by the names that writers use, the wanted one first.
const ENERGY_KEYS: [&str; 5] = ["energy", "Energy", "ENERGY", "free_energy", "potential_energy"];
const FORCES_KEYS: [&str; 4] = ["forces", "force", "Forces", "Force"];
pub(super) const CHARGE_KEYS: [&str; 3] = ["charge", "total_charge", "Charge"];
pub(super) const SPIN_KEYS: [&str; 4] = ["spin", "spin_multiplicity", "multiplicity", "Spin"];

impl Labels {
    /// The names under which an energy is looked for, in order.
    pub(super) fn energy_keys(&self) -> Vec<&str> {
        self.energy_key.as_deref().map_or_else(|| ENERGY_KEYS.to_vec(), |key| vec![key])
    }

    /// The names under which forces are looked for, in order.
    pub(super) fn forces_keys(&self) -> Vec<&str> {
        self.forces_key.as_deref().map_or_else(|| FORCES_KEYS.to_vec(), |key| vec![key])
    }

    /// The scalar targets as columns.
    pub(super) fn columns(&self) -> Vec<Target> {
        let column = |(name, unit): &(String, String)| Target {
            name: name.clone(),
            unit: unit.clone(),
            meaning: format!("`{name}` of the source"),
            referenced: false,
        };
        self.targets.iter().map(column).collect()
    }

    /// What the tags are worth.
    pub(super) fn tag_rule(&self) -> TagRule {
        if self.ignore_tags { TagRule::Ignore } else { TagRule::Own }
    }

    /// Notes the choices that were made.
    pub(super) fn describe(&self, header: &mut DatasetHeader) {
        let given = [(&self.name, &mut header.name), (&self.theory, &mut header.level_of_theory)];
        for (value, field) in given.into_iter().chain([(&self.licence, &mut header.licence)]) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        let keys = [
            ("energy", &self.energy_key),
            ("forces", &self.forces_key),
            ("id", &self.id_key),
            ("group", &self.group_key),
        ];
        for (name, key) in keys {
            if let Some(key) = key {
                header.choices.insert(format!("{name}_key"), key.clone());
            }
        }
        header.choices.insert("units".to_owned(), self.units.text().to_owned());
        if self.ignore_tags {
            header.choices.insert("tags".to_owned(), "ignored".to_owned());
        }
    }
}

/// A structure in the source's units.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Raw {
    pub(super) id: String,
    pub(super) group: Option<String>,
    pub(super) atomic_numbers: Vec<u8>,
    pub(super) positions: Vec<f64>,
    pub(super) cell: Option<[f64; 9]>,
    pub(super) pbc: [bool; 3],
    pub(super) tags: Option<Vec<i64>>,
    pub(super) fixed: Option<Vec<bool>>,
    pub(super) charge: Option<f64>,
    pub(super) spin: Option<f64>,
    pub(super) energy: Option<f64>,
    pub(super) forces: Option<Vec<f64>>,
    /// Voigt order xx yy zz yz xz xy.
    pub(super) stress: Option<[f64; 6]>,
    /// −stress · volume, in units of energy, for sources that give this.
    pub(super) virial: Option<[f64; 6]>,
    pub(super) targets: Vec<Option<f64>>,
}

impl Raw {
    /// Converts units; the structure's rules are the writer's to check.
    pub(super) fn into_structure(self, factors: Factors, tags: TagRule) -> Result<Structure, String> {
        let length = factors.length;
        let cell = self.cell.map(|c| c.map(|x| x * length));
        let volume = cell.map_or(0.0, |c| cell_volume(&c).abs());
        let stress = match (self.stress, self.virial) {
            (Some(stress), _) => Some(stress.map(|s| s * factors.stress)),
            (None, Some(virial)) if volume > 0.0 => Some(virial.map(|v| -v * factors.energy / volume)),
            _ => None,
        };
        let tags = match tags {
            TagRule::Ignore => None,
            TagRule::AsStated => self.tags.map(|tags| stated_tags(&tags)).transpose()?,
            TagRule::Own => self.tags.and_then(|tags| own_tags(&tags)).transpose()?,
        };
        Ok(Structure {
            group: self.group.unwrap_or_else(|| self.id.clone()),
            id: self.id,
            atomic_numbers: self.atomic_numbers,
            positions: Floats::F64(self.positions).scaled(length),
            cell,
            pbc: self.pbc,
            tags,
            fixed: self.fixed.filter(|f| f.contains(&true)),
            charge: self.charge,
            spin: self.spin,
            energy: self.energy.map(|e| e * factors.energy),
            forces: self.forces.map(|f| Floats::F64(f).scaled(factors.force)),
            stress,
            targets: self.targets,
        })
    }
}

/// What a source's tags are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagRule {
    /// They are sub-surface, surface and adsorbate.
    AsStated,
    /// Likewise, but all 0, as ASE fills them in, says nothing and acts as absent.
    Own,
    /// They mean something else.
    Ignore,
}

/// Voigt order xx yy zz yz xz xy of nine numbers, which ASE's extxyz writes column by column, or six as they are.
pub(super) fn voigt(values: &[f64]) -> Option<[f64; 6]> {
    match *values {
        [xx, _, _, xy, yy, _, xz, yz, zz] | [xx, yy, zz, yz, xz, xy] => Some([xx, yy, zz, yz, xz, xy]),
        _ => None,
    }
}
