//! The periodic table shaded by a number of either sign.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shards::element;

use super::periodic_table::{CELL, corner, size};
use super::{coordinate, ink, open};
use crate::html::escape;
use crate::number::fixed;

/// From this shade on, orange is nearer to white than to black in the dark scheme; in the light one black is readable on all of it.
const BRIGHT: f64 = 0.64;

/// An element's number.
#[derive(Debug, Clone, PartialEq)]
pub struct Shade {
    /// The number.
    pub value: f64,
    /// As shown in the cell.
    pub text: String,
}

fn largest(shades: &BTreeMap<u8, Shade>) -> f64 {
    shades.values().map(|s| s.value.abs()).fold(0.0, f64::max)
}

/// What the shades mean.
pub fn scale_note(shades: &BTreeMap<u8, Shade>) -> String {
    let most = fixed(largest(shades), 2);
    format!("Above zero blue, below zero orange; the fullest colour is {most}, the largest on this table.")
}

/// Draws numbers by atomic number; `chosen` is framed, elements without a number are empty. `what` names the number.
pub fn draw(shades: &BTreeMap<u8, Shade>, chosen: Option<u8>, what: &str) -> String {
    let (width, height) = size();
    let mut svg = open(width, height, &format!("Periodic table: {what}"));
    let most = largest(shades).max(f64::MIN_POSITIVE);
    for z in 1..=element::MAX_ATOMIC_NUMBER {
        let ((x, y), symbol) = (corner(z), element::symbol(z));
        let middle = coordinate(x + CELL / 2.0);
        let cell = |class: &str, more: &str| {
            format!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" rx=\"4\"{more}/>"
            )
        };
        let _ = if let Some(shade) = shades.get(&z) {
            let share = shade.value.abs() / most;
            let (class, ink) = if shade.value < 0.0 {
                ("cell below", if share > BRIGHT { " bright" } else { "" })
            } else {
                ("cell", ink(share))
            };
            writeln!(
                svg,
                "<g class=\"element{ink}\"><title>{symbol} (Z = {z}): {} {}</title>{}\
                 <text class=\"symbol\" x=\"{middle}\" y=\"{}\">{symbol}</text>\
                 <text class=\"count\" x=\"{middle}\" y=\"{}\">{}</text></g>",
                escape(what),
                escape(&shade.text),
                cell(class, &format!(" fill-opacity=\"{share:.2}\"")),
                coordinate(y + 20.0),
                coordinate(y + 34.0),
                escape(&shade.text)
            )
        } else {
            let class = if chosen == Some(z) { "chosen" } else { "absent" };
            writeln!(
                svg,
                "<g class=\"element {class}\">{}<text class=\"symbol\" x=\"{middle}\" y=\"{}\">{symbol}</text></g>",
                cell("hole", ""),
                coordinate(y + 26.0)
            )
        };
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_have_colours_and_the_largest_is_full() {
        let shade = |value: f64| Shade { value, text: fixed(value, 2) };
        let svg = draw(&[(1, shade(0.5)), (8, shade(-0.25))].into(), Some(6), "cosine with C");
        assert!(svg.contains("H (Z = 1): cosine with C 0.50"), "{svg}");
        assert!(svg.contains("class=\"cell\"") && svg.contains("fill-opacity=\"1.00\""));
        assert!(svg.contains("class=\"cell below\"") && svg.contains("fill-opacity=\"0.50\""));
        assert_eq!(svg.matches("class=\"element chosen\"").count(), 1);
        assert_eq!(svg.matches("class=\"element absent\"").count(), 115);
    }
}
