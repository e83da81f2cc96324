//! Units: inside the shards there are only Å, eV and eV/Å. Sources are converted once, at ingest,
//! with the constants of a named set that the manifest records.

use serde::{Deserialize, Serialize};

/// A named set of conversion constants.
///
/// The sets differ by up to 2·10⁻⁵, which on the total energy of aspirin is 0.35 eV, more than the spread of its whole
/// trajectory: never mix two sets within one dataset.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Constants {
    /// Name of the set: `ase2014`, `codata2018`, `jmp` or `pyg`.
    pub name: ConstantSet,
    /// One hartree in eV.
    pub hartree_ev: f64,
    /// One bohr in Å.
    pub bohr_angstrom: f64,
    /// One kcal/mol in eV.
    pub kcal_mol_ev: f64,
}

/// Which constants convert hartree, bohr and kcal/mol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConstantSet {
    /// CODATA 2014, the default of ASE; what JMP used for ANI-1x.
    Ase2014,
    /// CODATA 2018.
    Codata2018,
    /// The rounded factors of JMP's rMD17, MD22 and SPICE loaders.
    Jmp,
    /// torch_geometric's factors for QM9, which its `qm9_v3.pt` has been converted with.
    Pyg,
}

impl Constants {
    /// The values of a set.
    pub fn of(set: ConstantSet) -> Self {
        let (hartree_ev, bohr_angstrom, kcal_mol_ev) = match set {
            ConstantSet::Ase2014 => {
                (27.211_386_024_367_243, 0.529_177_210_563_841_1, 0.043_364_103_900_593_22)
            }
            ConstantSet::Codata2018 => {
                (27.211_386_245_769_308, 0.529_177_210_906_108_5, 0.043_364_104_241_800_94)
            }
            ConstantSet::Jmp => (1.0 / 0.036_749_3, 0.529_177, 1.0 / 23.061),
            // No length is converted with these; CODATA 2018 stands in for it.
            ConstantSet::Pyg => (27.211_386_246, 0.529_177_210_906_108_5, 0.043_364_14),
        };
        Self { name: set, hartree_ev, bohr_angstrom, kcal_mol_ev }
    }

    /// One hartree per bohr in eV/Å.
    pub fn hartree_per_bohr(&self) -> f64 {
        self.hartree_ev / self.bohr_angstrom
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forces_follow_from_energy_and_length() {
        // The quotients as ASE (two CODATA years) and the reference loaders have them.
        let ase = Constants::of(ConstantSet::Ase2014).hartree_per_bohr();
        let codata = Constants::of(ConstantSet::Codata2018).hartree_per_bohr();
        let jmp = Constants::of(ConstantSet::Jmp).hartree_per_bohr();
        assert!((ase - 51.422_067_090_480_645).abs() < 1e-10, "{ase}");
        assert!((codata - 51.422_067_475_610_554).abs() < 1e-10, "{codata}");
        assert!((jmp - 51.422_119_000_208_31).abs() < 1e-10, "{jmp}");
    }
}
