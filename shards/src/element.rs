//! Chemical elements: symbols and weights by atomic number.

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

/// Atomic weights by atomic number, u (IUPAC 2016, conventional values; the longest-lived isotope's where nature has none);
/// index 0 is not an element.
pub const WEIGHTS: [f64; 119] = [
    0.0,
    1.008,
    4.002_602,
    6.94,
    9.012_183_1,
    10.81,
    12.011,
    14.007,
    15.999,
    18.998_403_163,
    20.1797,
    22.989_769_28,
    24.305,
    26.981_538_5,
    28.085,
    30.973_761_998,
    32.06,
    35.45,
    39.948,
    39.0983,
    40.078,
    44.955_908,
    47.867,
    50.9415,
    51.9961,
    54.938_044,
    55.845,
    58.933_194,
    58.6934,
    63.546,
    65.38,
    69.723,
    72.63,
    74.921_595,
    78.971,
    79.904,
    83.798,
    85.4678,
    87.62,
    88.905_84,
    91.224,
    92.906_37,
    95.95,
    97.907_21,
    101.07,
    102.9055,
    106.42,
    107.8682,
    112.414,
    114.818,
    118.71,
    121.76,
    127.6,
    126.904_47,
    131.293,
    132.905_451_96,
    137.327,
    138.905_47,
    140.116,
    140.907_66,
    144.242,
    144.912_76,
    150.36,
    151.964,
    157.25,
    158.925_35,
    162.5,
    164.930_33,
    167.259,
    168.934_22,
    173.054,
    174.9668,
    178.49,
    180.947_88,
    183.84,
    186.207,
    190.23,
    192.217,
    195.084,
    196.966_569,
    200.592,
    204.38,
    207.2,
    208.9804,
    208.982_43,
    209.987_15,
    222.017_58,
    223.019_74,
    226.025_41,
    227.027_75,
    232.0377,
    231.035_88,
    238.028_91,
    237.048_17,
    244.064_21,
    243.061_38,
    247.070_35,
    247.070_31,
    251.079_59,
    252.083,
    257.095_11,
    258.098_43,
    259.101,
    262.11,
    267.122,
    268.126,
    271.134,
    270.133,
    269.1338,
    278.156,
    281.165,
    281.166,
    285.177,
    286.182,
    289.19,
    289.194,
    293.204,
    293.208,
    294.214,
];

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
