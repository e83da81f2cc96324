//! `Structure.as_dict()` of pymatgen, as JSON.

use serde::Deserialize;

use crate::crystal::{Crystal, CrystalFault, atomic_number, cartesian};

/// Å by which Cartesian and fractional coordinates of one site may differ: they are written from one another.
const COORDINATE_TOLERANCE: f64 = 1e-3;

/// The parts of the dictionary that are read.
#[derive(Debug, Clone, Deserialize)]
pub struct StructureDict {
    lattice: Lattice,
    sites: Vec<Site>,
    charge: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lattice {
    matrix: [[f64; 3]; 3],
    pbc: Option<[bool; 3]>,
    volume: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Site {
    species: Vec<Species>,
    abc: Option<[f64; 3]>,
    xyz: Option<[f64; 3]>,
}

#[derive(Debug, Clone, Deserialize)]
struct Species {
    element: String,
    occu: f64,
}

impl TryFrom<StructureDict> for Crystal {
    type Error = CrystalFault;

    /// Elements come from `species`: `label` may be numbered. Positions are `xyz`; `abc` must agree, or serves instead.
    fn try_from(dict: StructureDict) -> Result<Self, CrystalFault> {
        let StructureDict { lattice, sites, charge } = dict;
        let mut cell = [0.0; 9];
        cell.copy_from_slice(lattice.matrix.as_flattened());
        if let Some(volume) = lattice.volume {
            Self::check_volume(&cell, volume)?;
        }
        let mut atomic_numbers = Vec::with_capacity(sites.len());
        let mut positions = Vec::with_capacity(3 * sites.len());
        for (index, site) in sites.iter().enumerate() {
            atomic_numbers.push(site.atom(index)?);
            positions.extend(site.position(index, &cell)?);
        }
        let pbc = lattice.pbc.unwrap_or([true; 3]);
        Ok(Self { atomic_numbers, positions, cell, pbc, charge })
    }
}

impl Site {
    fn atom(&self, index: usize) -> Result<u8, CrystalFault> {
        match self.species.as_slice() {
            [one] if one.occu == 1.0 => atomic_number(index, &one.element),
            shared => {
                let each: Vec<String> =
                    shared.iter().take(4).map(|s| format!("{} of {}", s.occu, s.element)).collect();
                let occupation = if each.is_empty() { "nothing".to_owned() } else { each.join(", ") };
                Err(CrystalFault::Disordered { site: index, occupation })
            }
        }
    }

    fn position(&self, index: usize, cell: &[f64; 9]) -> Result<[f64; 3], CrystalFault> {
        let from_fractions = self.abc.map(|abc| cartesian(cell, abc));
        let (Some(xyz), Some(found)) = (self.xyz, from_fractions) else {
            return self
                .xyz
                .or(from_fractions)
                .ok_or_else(|| CrystalFault::Malformed(format!("site {index} has neither `xyz` nor `abc`")));
        };
        // Written so that a NaN fails.
        if xyz.iter().zip(found).all(|(a, b)| (a - b).abs() <= COORDINATE_TOLERANCE) {
            return Ok(xyz);
        }
        Err(CrystalFault::Contradiction {
            what: format!("site {index}: its position in Å"),
            stated: format!("{xyz:?} (xyz)"),
            found: format!("{found:.6?} (abc)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str =
        r#"{"species":[{"element":"Na","occu":1}],"abc":[0.5,0,-0.25],"xyz":[1,0,-1],"label":"Na1"}"#;

    fn parse(site: &str, lattice: &str) -> Result<Crystal, CrystalFault> {
        let text = format!(
            r#"{{"@class":"Structure","charge":null,"lattice":{{"matrix":[[2,0,0],[0,3,0],[0,0,4]]{lattice}}},"sites":[{site}]}}"#
        );
        Crystal::try_from(serde_json::from_str::<StructureDict>(&text).unwrap())
    }

    #[test]
    fn sites_and_lattice_are_read() {
        let crystal = parse(SITE, r#","volume":24.0"#).unwrap();
        assert_eq!((crystal.atomic_numbers, crystal.positions), (vec![11], vec![1.0, 0.0, -1.0]));
        assert_eq!((crystal.cell[8], crystal.pbc, crystal.charge), (4.0, [true; 3], None));
        let fractions = SITE.replace(r#""xyz":[1,0,-1],"#, "");
        assert_eq!(parse(&fractions, "").unwrap().positions, [1.0, 0.0, -1.0]);
        let layer = parse(SITE, r#","pbc":[true,true,false]"#).unwrap();
        assert_eq!(layer.pbc, [true, true, false]);
    }

    #[test]
    fn what_is_no_whole_atom_is_refused() {
        let check = |from: &str, to: &str, lattice: &str, code: &str, expected: &str| {
            let error = parse(&SITE.replace(from, to), lattice).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        };
        check("\"occu\":1", "\"occu\":0.5", "", "disordered", "site 0 is disordered: 0.5 of Na");
        let shared = "\"occu\":1},{\"element\":\"K\",\"occu\":0";
        check("\"occu\":1", shared, "", "disordered", "1 of Na, 0 of K");
        check("\"Na\"", "\"Qq\"", "", "unknown_element", "`Qq` is no chemical element");
        check("[1,0,-1]", "[1,1,-1]", "", "contradiction", "site 0: its position in Å");
        check("", "", ",\"volume\":-24", "contradiction", "stated -24, but the other numbers give 24.0");
    }
}
