//! `--filter NAME=VALUE`: structures that are left out on purpose. What was asked for stands in the manifest, what was left out
//! in `rejects.parquet`.

use std::fmt;
use std::str::FromStr;

use shards::Structure;
use shards::checks::{closest_pair, largest_force, net_force};
use shards::element::{atomic_number, symbol};

/// A rule that structures must keep. A label that a structure does not have breaks none.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// No atom's force is larger, eV/Å.
    MaxForce(f64),
    /// The forces on an isolated molecule add up to no more, eV/Å.
    MaxNetForce(f64),
    /// The energy for each atom is no larger, eV.
    MaxEnergyPerAtom(f64),
    /// The energy for each atom is no smaller, eV.
    MinEnergyPerAtom(f64),
    /// No two atoms are closer, Å.
    MinDistance(f64),
    /// At most so many atoms.
    MaxAtoms(usize),
    /// At least so many atoms.
    MinAtoms(usize),
    /// Only these elements.
    Elements(Vec<u8>),
}

const EXPECTED: &str = "expected NAME=VALUE with NAME one of max-force (eV/Å), max-net-force (eV/Å), max-energy-per-atom (eV), \
     min-energy-per-atom (eV), min-distance (Å), max-atoms, min-atoms, elements (such as H:C:N:O)";

impl Filter {
    /// Why a structure is left out: a code to count by and the reason. `None`: it keeps the rule.
    pub(crate) fn refuses(&self, s: &Structure) -> Option<(&'static str, String)> {
        let per_atom = || s.energy.map(|e| e / s.atoms().max(1) as f64);
        let above = |found: Option<f64>, limit: f64| found.filter(|f| *f > limit);
        let told = |what: &str, found: f64, unit: &str| format!("{what} is {found:.6} {unit}");
        match *self {
            Self::MaxForce(limit) => above(largest_force(s), limit)
                .map(|f| ("filter_max_force", told("the largest force", f, "eV/Å"))),
            Self::MaxNetForce(limit) => {
                above(net_force(s), limit).map(|f| ("filter_max_net_force", told("the net force", f, "eV/Å")))
            }
            Self::MaxEnergyPerAtom(limit) => above(per_atom(), limit)
                .map(|e| ("filter_max_energy_per_atom", told("the energy for each atom", e, "eV"))),
            Self::MinEnergyPerAtom(limit) => per_atom()
                .filter(|e| *e < limit)
                .map(|e| ("filter_min_energy_per_atom", told("the energy for each atom", e, "eV"))),
            // Only whole structures have distances; a broken one is a reject.
            Self::MinDistance(limit) => Some(s)
                .filter(|s| s.check().is_ok())
                .and_then(|s| closest_pair(s, limit))
                .map(|d| ("filter_min_distance", told("the shortest distance", d, "Å"))),
            Self::MaxAtoms(limit) => {
                (s.atoms() > limit).then(|| ("filter_max_atoms", format!("{} atoms", s.atoms())))
            }
            Self::MinAtoms(limit) => {
                (s.atoms() < limit).then(|| ("filter_min_atoms", format!("{} atoms", s.atoms())))
            }
            Self::Elements(ref known) => {
                let stranger = s.atomic_numbers.iter().find(|z| !known.contains(z))?;
                Some(("filter_elements", format!("holds {} (Z = {stranger})", symbol(*stranger))))
            }
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or(EXPECTED)?;
        let number = || {
            let parsed = value.parse().ok().filter(|v: &f64| v.is_finite());
            parsed.ok_or_else(|| format!("`{value}` is no number"))
        };
        let positive =
            || number().and_then(|v| if v > 0.0 { Ok(v) } else { Err(format!("{v} is not positive")) });
        let count = || value.parse().map_err(|_| format!("`{value}` is no number of atoms"));
        Ok(match name {
            "max-force" => Self::MaxForce(positive()?),
            "max-net-force" => Self::MaxNetForce(positive()?),
            "max-energy-per-atom" => Self::MaxEnergyPerAtom(number()?),
            "min-energy-per-atom" => Self::MinEnergyPerAtom(number()?),
            "min-distance" => Self::MinDistance(positive()?),
            "max-atoms" => Self::MaxAtoms(count()?),
            "min-atoms" => Self::MinAtoms(count()?),
            "elements" => {
                let known = |s: &str| atomic_number(s).ok_or_else(|| format!("`{s}` is no element"));
                Self::Elements(value.split(':').map(known).collect::<Result<_, _>>()?)
            }
            _ => return Err(EXPECTED.to_owned()),
        })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxForce(v) => write!(f, "max-force={v}"),
            Self::MaxNetForce(v) => write!(f, "max-net-force={v}"),
            Self::MaxEnergyPerAtom(v) => write!(f, "max-energy-per-atom={v}"),
            Self::MinEnergyPerAtom(v) => write!(f, "min-energy-per-atom={v}"),
            Self::MinDistance(v) => write!(f, "min-distance={v}"),
            Self::MaxAtoms(n) => write!(f, "max-atoms={n}"),
            Self::MinAtoms(n) => write!(f, "min-atoms={n}"),
            Self::Elements(known) => {
                let symbols: Vec<&str> = known.iter().map(|&z| symbol(z)).collect();
                write!(f, "elements={}", symbols.join(":"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shards::Floats;

    #[test]
    fn each_filter_refuses_what_it_says() {
        let s = Structure {
            energy: Some(-30.0),
            forces: Some(Floats::F64(vec![0.0, 3.0, 4.0, 0.0, 0.0, 0.0])),
            ..Structure::new(
                "a".into(),
                "g".into(),
                vec![6, 8],
                Floats::F64(vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.1]),
            )
        };
        for (text, refused) in [
            ("max-force=5.1", false),
            ("max-force=4.9", true),
            ("max-net-force=4.9", true),
            ("max-net-force=5.1", false),
            ("max-energy-per-atom=-15.1", true),
            ("max-energy-per-atom=-14.9", false),
            ("min-energy-per-atom=-14.9", true),
            ("min-energy-per-atom=-15.1", false),
            ("min-distance=1.2", true),
            ("min-distance=1", false),
            ("max-atoms=1", true),
            ("max-atoms=2", false),
            ("min-atoms=3", true),
            ("min-atoms=2", false),
            ("elements=C:H", true),
            ("elements=C:O", false),
        ] {
            let filter: Filter = text.parse().unwrap();
            assert_eq!(filter.refuses(&s).is_some(), refused, "{text}");
            assert_eq!(filter.to_string(), text);
        }
        for bad in [
            "max-force",
            "max-force=x",
            "max-force=nan",
            "max-force=-1",
            "nice=1",
            "elements=C:Xx",
            "max-atoms=1.5",
        ] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
        let without = Structure { energy: None, forces: None, ..s };
        for text in ["max-force=1", "max-net-force=1", "max-energy-per-atom=-99", "min-energy-per-atom=0"] {
            assert!(text.parse::<Filter>().unwrap().refuses(&without).is_none(), "{text}");
        }
    }
}
