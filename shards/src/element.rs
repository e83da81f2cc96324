//! Chemical elements: symbols by atomic number.

/// Symbols of the elements 1 to 118; index 0 is not an element.
pub const SYMBOLS: [&str; 119] = [
    "X", "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar",
    "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe",
    "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu",
    "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra",
    "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db",
    "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
];

/// The largest atomic number there is.
pub const MAX_ATOMIC_NUMBER: u8 = 118;

/// The symbol of an atomic number, or `"?"` outside 1..=118.
pub fn symbol(atomic_number: u8) -> &'static str {
    match atomic_number {
        1..=MAX_ATOMIC_NUMBER => SYMBOLS[atomic_number as usize],
        _ => "?",
    }
}

/// The atomic number of a symbol such as `"Fe"`.
pub fn atomic_number(symbol: &str) -> Option<u8> {
    SYMBOLS.iter().skip(1).position(|&known| known == symbol).map(|index| index as u8 + 1)
}

/// A formula in Hill order (carbon, hydrogen, then alphabetical): `C2H6O`.
pub fn hill_formula(atomic_numbers: &[u8]) -> String {
    let mut counts = [0u32; 256];
    for &z in atomic_numbers {
        counts[z as usize] += 1;
    }
    let mut present: Vec<u8> = (1..=MAX_ATOMIC_NUMBER).filter(|&z| counts[z as usize] > 0).collect();
    let has_carbon = counts[6] > 0;
    present.sort_by_key(|&z| match z {
        6 if has_carbon => (0, ""),
        1 if has_carbon => (1, ""),
        _ => (2, symbol(z)),
    });
    let mut formula = String::new();
    for z in present {
        formula.push_str(symbol(z));
        if counts[z as usize] > 1 {
            formula.push_str(&counts[z as usize].to_string());
        }
    }
    formula
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_numbers_are_inverse() {
        for z in 1..=MAX_ATOMIC_NUMBER {
            assert_eq!(atomic_number(symbol(z)), Some(z));
        }
        assert_eq!((symbol(26), symbol(92), symbol(118)), ("Fe", "U", "Og"));
        assert_eq!(atomic_number("X"), None);
    }

    #[test]
    fn hill_order() {
        assert_eq!(hill_formula(&[8, 1, 6, 6, 1, 1, 1, 1, 1]), "C2H6O");
        assert_eq!(hill_formula(&[8, 1, 1]), "H2O");
        assert_eq!(hill_formula(&[29, 29, 8]), "Cu2O");
    }
}
