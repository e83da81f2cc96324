//! QM9's nineteen properties: names as JMP has them, columns of the released tables, units.

use shards::Target;
use shards::units::{ConstantSet, Constants};

/// How many properties there are.
pub(super) const PROPERTIES: usize = 19;
/// A value for each property, in the order of the columns; `None`: the source does not give it.
pub(super) type Values = [Option<f64>; PROPERTIES];

/// What a property is given in by the released tables, and in by the dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Stays as it is.
    Same(&'static str),
    /// Hartree → eV.
    Hartree,
    /// kcal/mol → eV.
    KcalMol,
}

struct Property {
    name: &'static str,
    /// Column of `gdb9.sdf.csv`.
    column: &'static str,
    unit: Unit,
    /// Learned after the linear reference (JMP).
    referenced: bool,
    meaning: &'static str,
}

const fn property(
    name: &'static str,
    column: &'static str,
    unit: Unit,
    referenced: bool,
    meaning: &'static str,
) -> Property {
    Property { name, column, unit, referenced, meaning }
}

use Unit::{Hartree, KcalMol, Same};

/// torch_geometric's order, which `qm9_v3.pt` has: the table's columns 4 to 19, then the rotational constants.
const TABLE: [Property; PROPERTIES] = [
    property("mu", "mu", Same("D"), false, "dipole moment"),
    property("alpha", "alpha", Same("a0³"), false, "isotropic polarisability"),
    property("eps_HOMO", "homo", Hartree, false, "energy of the highest occupied orbital"),
    property("eps_LUMO", "lumo", Hartree, false, "energy of the lowest unoccupied orbital"),
    property("delta_eps", "gap", Hartree, false, "gap between the two"),
    property("R_2_Abs", "r2", Same("a0²"), false, "electronic spatial extent"),
    property("ZPVE", "zpve", Hartree, true, "zero-point vibrational energy"),
    property("U_0", "u0", Hartree, true, "internal energy at 0 K"),
    property("U", "u298", Hartree, true, "internal energy at 298.15 K"),
    property("H", "h298", Hartree, true, "enthalpy at 298.15 K"),
    property("G", "g298", Hartree, true, "free energy at 298.15 K"),
    property("c_v", "cv", Same("cal/(mol K)"), true, "heat capacity at 298.15 K"),
    property("U_0_ATOM", "u0_atom", KcalMol, false, "atomisation energy at 0 K"),
    property("U_ATOM", "u298_atom", KcalMol, false, "atomisation energy at 298.15 K"),
    property("H_ATOM", "h298_atom", KcalMol, false, "atomisation enthalpy at 298.15 K"),
    property("G_ATOM", "g298_atom", KcalMol, false, "atomisation free energy at 298.15 K"),
    property("A", "A", Same("GHz"), false, "rotational constant A"),
    property("B", "B", Same("GHz"), false, "rotational constant B"),
    property("C", "C", Same("GHz"), false, "rotational constant C"),
];

/// Columns of `gdb9.sdf.csv` after the id, in the file's order; the xyz files have the first fifteen.
pub(super) const COLUMNS: [&str; PROPERTIES] = [
    "A",
    "B",
    "C",
    "mu",
    "alpha",
    "homo",
    "lumo",
    "gap",
    "r2",
    "zpve",
    "u0",
    "u298",
    "h298",
    "g298",
    "cv",
    "u0_atom",
    "u298_atom",
    "h298_atom",
    "g298_atom",
];

/// The columns of the dataset.
pub(super) fn layout() -> Vec<Target> {
    let column = |p: &Property| Target {
        name: p.name.to_owned(),
        unit: match p.unit {
            Same(unit) => unit.to_owned(),
            Hartree | KcalMol => "eV".to_owned(),
        },
        meaning: p.meaning.to_owned(),
        referenced: p.referenced,
    };
    TABLE.iter().map(column).collect()
}

/// Converts the values of a row of the tables, in the order of [`COLUMNS`]; fewer leave the rest out.
pub(super) fn convert(row: &[f64]) -> Values {
    let constants = Constants::of(ConstantSet::Pyg);
    let value = |p: &Property| {
        let place = COLUMNS.iter().position(|c| *c == p.column)?;
        let raw = *row.get(place)?;
        Some(match p.unit {
            Same(_) => raw,
            Hartree => raw * constants.hartree_ev,
            KcalMol => raw * constants.kcal_mol_ev,
        })
    };
    TABLE.each_ref().map(value)
}

/// Energies of isolated atoms (U₀, U, H, G), eV, as torch_geometric lists them.
const ATOMS: [(u8, [f64; 4]); 5] = [
    (1, [-13.613_121_72, -13.574_590_4, -13.548_875_64, -13.903_031_83]),
    (6, [-1_029.863_122_67, -1_029.824_564_13, -1_029.798_876_59, -1_030.258_912_28]),
    (7, [-1_485.302_512_37, -1_485.263_981_05, -1_485.238_293_5, -1_485.711_662_77]),
    (8, [-2_042.611_235_93, -2_042.572_704_6, -2_042.547_017_05, -2_043.018_127_78]),
    (9, [-2_713.484_855_89, -2_713.446_324_57, -2_713.420_637_02, -2_713.887_965_36]),
];

/// Fills in the atomisation energies, which the xyz files lack, from the energies of isolated atoms; elements that QM9 does
/// not have leave them out.
pub(super) fn atomise(values: &mut Values, atomic_numbers: &[u8]) {
    let (energies, atomisation) = (7, 12);
    for k in 0..4 {
        let atom = |z: &u8| ATOMS.iter().find(|a| a.0 == *z).map(|a| a.1[k]);
        let atoms: Option<f64> = atomic_numbers.iter().map(atom).sum();
        values[atomisation + k] = values[energies + k].zip(atoms).map(|(molecule, atoms)| molecule - atoms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of methane in the released table.
    const METHANE: [f64; PROPERTIES] = [
        157.7118,
        157.709_97,
        157.706_99,
        0.0,
        13.21,
        -0.3877,
        0.1171,
        0.5048,
        35.3641,
        0.044_749,
        -40.478_93,
        -40.476_062,
        -40.475_117,
        -40.498_597,
        6.469,
        -395.999_594_594,
        -398.643_290_011,
        -401.014_646_522,
        -372.471_772_148,
    ];

    #[test]
    fn columns_go_where_they_belong() {
        let values = convert(&METHANE).map(Option::unwrap);
        let of = |name: &str| values[TABLE.iter().position(|p| p.name == name).unwrap()];
        assert_eq!(
            (of("mu"), of("alpha"), of("c_v"), of("A"), of("C")),
            (0.0, 13.21, 6.469, 157.7118, 157.706_99)
        );
        assert!((of("U_0") - -40.478_93 * 27.211_386_246).abs() < 1e-9);
        assert!((of("G_ATOM") - -372.471_772_148 * 0.043_364_14).abs() < 1e-9);
        let referenced: Vec<String> = layout().into_iter().filter(|t| t.referenced).map(|t| t.name).collect();
        assert_eq!(referenced, ["ZPVE", "U_0", "U", "H", "G", "c_v"]);
    }

    #[test]
    fn atomisation_energies_are_those_of_the_table() {
        let from_table = convert(&METHANE);
        let mut computed = convert(&METHANE[..15]);
        assert_eq!(computed[12..16], [None; 4]);
        atomise(&mut computed, &[6, 1, 1, 1, 1]);
        for k in 12..16 {
            let (computed, table) = (computed[k].unwrap(), from_table[k].unwrap());
            assert!((computed - table).abs() < 2e-4, "{computed} {table}");
        }
        atomise(&mut computed, &[6, 17]);
        assert_eq!(computed[12], None);
    }
}
