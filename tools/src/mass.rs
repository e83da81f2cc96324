//! Masses of the elements, for densities.

/// Standard atomic weights in u by atomic number, abridged (IUPAC 2021; mass number of the longest-lived isotope where an
/// element has no standard weight). Index 0 is not an element.
const WEIGHTS: [f64; 119] = [
    0.0, 1.008, 4.0026, 6.94, 9.0122, 10.81, 12.011, 14.007, 15.999, 18.998, 20.18, 22.99, 24.305, 26.982,
    28.085, 30.974, 32.06, 35.45, 39.95, 39.098, 40.078, 44.956, 47.867, 50.942, 51.996, 54.938, 55.845,
    58.933, 58.693, 63.546, 65.38, 69.723, 72.63, 74.922, 78.971, 79.904, 83.798, 85.468, 87.62, 88.906,
    91.224, 92.906, 95.95, 97.0, 101.07, 102.91, 106.42, 107.87, 112.41, 114.82, 118.71, 121.76, 127.6,
    126.9, 131.29, 132.91, 137.33, 138.91, 140.12, 140.91, 144.24, 145.0, 150.36, 151.96, 157.25, 158.93,
    162.5, 164.93, 167.26, 168.93, 173.05, 174.97, 178.49, 180.95, 183.84, 186.21, 190.23, 192.22, 195.08,
    196.97, 200.59, 204.38, 207.2, 208.98, 209.0, 210.0, 222.0, 223.0, 226.0, 227.0, 232.04, 231.04, 238.03,
    237.0, 244.0, 243.0, 247.0, 247.0, 251.0, 252.0, 257.0, 258.0, 259.0, 262.0, 267.0, 270.0, 269.0, 270.0,
    270.0, 278.0, 281.0, 281.0, 285.0, 286.0, 289.0, 289.0, 293.0, 293.0, 294.0,
];

/// g/cm³ of 1 u/Å³ (the atomic mass constant, 1.66053906660·10⁻²⁴ g, over 10⁻²⁴ cm³).
const GRAMS_PER_CUBIC_CENTIMETRE: f64 = 1.660_539_066_60;

/// Mass density, g/cm³, of atoms in a volume in Å³.
pub fn density(atomic_numbers: &[u8], volume: f64) -> f64 {
    let mass: f64 = atomic_numbers.iter().map(|&z| WEIGHTS.get(z as usize).copied().unwrap_or(0.0)).sum();
    GRAMS_PER_CUBIC_CENTIMETRE * mass / volume
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_densities() {
        // Conventional cells: diamond 3.567 Å (3.515 g/cm³), copper 3.615 Å (8.93), rock salt 5.640 Å (2.16).
        let cases = [
            (vec![6; 8], 3.567f64, 3.515),
            (vec![29; 4], 3.615, 8.93),
            ([vec![11; 4], vec![17; 4]].concat(), 5.640, 2.16),
        ];
        for (numbers, side, expected) in cases {
            let found = density(&numbers, side.powi(3));
            assert!((found - expected).abs() < 0.01, "{found} {expected}");
        }
        assert!(
            WEIGHTS.windows(2).enumerate().all(|(z, w)| w[1] > w[0] - 3.5 || z == 0),
            "a slip of the pen"
        );
    }
}
