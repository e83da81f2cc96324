//! The periodic table with a count in each cell, shaded by its logarithm.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shards::element;

use super::{coordinate, ink, open};
use crate::number::{integer, tick};

pub(super) const CELL: f64 = 40.0;
pub(super) const PITCH: f64 = 42.0;
/// Room between the table and the two rows below it.
const GAP: f64 = 10.0;
/// Shades: how strongly the accent colour covers the cell.
const FAINTEST: f64 = 0.12;

/// Draws counts by atomic number, shaded by their logarithm. `what` names what is counted.
pub fn draw(counts: &BTreeMap<u8, u64>, what: &str) -> String {
    let most = counts.values().copied().max().unwrap_or(1).max(1) as f64;
    shaded(counts, what, |count| if most > 1.0 { (count as f64).ln() / most.ln() } else { 1.0 })
}

/// Draws small numbers by atomic number, shaded evenly up to `most`.
pub fn draw_levels(counts: &BTreeMap<u8, u64>, what: &str, most: u64) -> String {
    shaded(counts, what, |count| if most > 1 { (count - 1) as f64 / (most - 1) as f64 } else { 1.0 })
}

/// `share` tells how strongly a cell is shaded, 0 to 1.
fn shaded(counts: &BTreeMap<u8, u64>, what: &str, share: impl Fn(u64) -> f64) -> String {
    let (width, height) = size();
    let mut svg = open(width, height, &format!("Periodic table: {what} of each element"));
    for z in 1..=element::MAX_ATOMIC_NUMBER {
        let (x, y) = corner(z);
        match counts.get(&z).copied().filter(|&n| n > 0) {
            Some(count) => {
                let shade = FAINTEST + (1.0 - FAINTEST) * share(count).clamp(0.0, 1.0);
                present(&mut svg, z, (x, y), count, shade, what);
            }
            None => absent(&mut svg, z, (x, y)),
        }
    }
    svg + "</svg>"
}

fn present(svg: &mut String, z: u8, (x, y): (f64, f64), count: u64, shade: f64, what: &str) {
    let (middle, symbol) = (coordinate(x + CELL / 2.0), element::symbol(z));
    let ink = ink(shade);
    let _ = writeln!(
        svg,
        "<g class=\"element{ink}\"><title>{symbol} (Z = {z}): {} {what}</title><rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" rx=\"4\" fill-opacity=\"{shade:.2}\"/>\
         <text class=\"symbol\" x=\"{middle}\" y=\"{}\">{symbol}</text><text class=\"count\" x=\"{middle}\" y=\"{}\">{}</text></g>",
        integer(count),
        coordinate(y + 20.0),
        coordinate(y + 34.0),
        tick(rounded(count)),
    );
}

fn absent(svg: &mut String, z: u8, (x, y): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<g class=\"element absent\"><rect class=\"hole\" x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" rx=\"4\"/><text class=\"symbol\" x=\"{}\" y=\"{}\">{}</text></g>",
        coordinate(x + CELL / 2.0),
        coordinate(y + 26.0),
        element::symbol(z)
    );
}

/// Three digits fit into a cell.
fn rounded(count: u64) -> f64 {
    let count = count as f64;
    let step = 10f64.powf((count.log10().floor() - 2.0).max(0.0));
    (count / step).round() * step
}

/// Width and height of the table.
pub(super) fn size() -> (f64, f64) {
    (18.0 * PITCH - 2.0, 9.0 * PITCH + GAP - 2.0)
}

/// Upper left corner of an element's cell.
pub(super) fn corner(z: u8) -> (f64, f64) {
    let (row, column) = place(z);
    let gap = if row >= 7 { GAP } else { 0.0 };
    (f64::from(column) * PITCH, f64::from(row) * PITCH + gap)
}

/// Row and column of an element, from 0; the rare earths stand in rows 7 and 8.
fn place(z: u8) -> (u8, u8) {
    match z {
        1 => (0, 0),
        2 => (0, 17),
        3..=4 => (1, z - 3),
        5..=10 => (1, z + 7),
        11..=12 => (2, z - 11),
        13..=18 => (2, z - 1),
        19..=36 => (3, z - 19),
        37..=54 => (4, z - 37),
        55..=56 => (5, z - 55),
        57..=71 => (7, z - 57 + 2),
        72..=86 => (5, z - 72 + 3),
        87..=88 => (6, z - 87),
        89..=103 => (8, z - 89 + 2),
        _ => (6, z.saturating_sub(104) + 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_element_has_its_own_place() {
        let places: BTreeSet<(u8, u8)> = (1..=118).map(place).collect();
        assert_eq!(places.len(), 118);
        assert!(places.iter().all(|&(row, column)| row < 9 && column < 18));
        let named =
            [("C", (1, 13)), ("Fe", (3, 7)), ("Pt", (5, 9)), ("Og", (6, 17)), ("U", (8, 5)), ("Lu", (7, 16))];
        for (symbol, expected) in named {
            assert_eq!(place(element::atomic_number(symbol).unwrap()), expected, "{symbol}");
        }
    }

    #[test]
    fn counts_are_told_and_shaded() {
        let svg = draw(&[(1, 123_456), (8, 1)].into(), "atoms");
        assert!(svg.contains("H (Z = 1): 123\u{202f}456 atoms"), "{svg}");
        assert!(
            svg.contains(">123k<")
                && svg.contains("fill-opacity=\"1.00\"")
                && svg.contains("fill-opacity=\"0.12\"")
        );
        assert_eq!(svg.matches("class=\"hole\"").count(), 116);
    }
}
