//! Lying bars with their names above them: long names have room on a phone.

use std::fmt::Write as _;

use super::{SERIES, WIDTH, coordinate, open};
use crate::html::escape;
use crate::number::rounded;

/// Height of a name and its bar.
const PITCH: f64 = 32.0;
const THICK: f64 = 12.0;
/// Room for the axis' title.
const TOP: f64 = 20.0;
/// Room for the number at a bar's end.
const NUMBER: f64 = 56.0;
/// Characters of a name that fit above its bar.
const FITTING: usize = 54;

/// A bar.
#[derive(Debug, Clone, Copy)]
pub struct Bar<'a> {
    /// What it is.
    pub name: &'a str,
    /// How long; a bar below zero goes to the left.
    pub value: f64,
    /// Its colour.
    pub series: usize,
}

/// Draws bars from zero, the first on top; `title` names the value with its unit.
pub fn draw(bars: &[Bar], title: &str) -> String {
    let height = TOP + PITCH * bars.len() as f64 + 4.0;
    let mut svg = open(WIDTH, height, &format!("Bars: {title}"));
    let _ = writeln!(svg, "<text class=\"title\" x=\"2\" y=\"12\">{}</text>", escape(title));
    let values = || bars.iter().map(|b| b.value).filter(|v| v.is_finite());
    let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
    let left = if low < 0.0 { NUMBER } else { 2.0 };
    let width = WIDTH - left - NUMBER;
    let scale = if high > low { width / (high - low) } else { 0.0 };
    let zero = left - low * scale;
    for (index, bar) in bars.iter().enumerate() {
        let top = TOP + PITCH * index as f64;
        let _ = writeln!(svg, "<text x=\"2\" y=\"{}\">{}</text>", top + 11.0, escape(&fitting(bar.name)));
        // The axis is drawn beside the bars only, so that no line goes through a name.
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{} {}v16\"/>", coordinate(zero), top + 13.0);
        if !bar.value.is_finite() {
            continue;
        }
        let end = zero + bar.value * scale;
        let (x, length) = (zero.min(end), (end - zero).abs().max(0.8));
        let number = rounded(bar.value, 3);
        let _ = writeln!(
            svg,
            "<rect class=\"share s{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{THICK}\"><title>{}: {number}</title></rect>",
            bar.series % SERIES,
            coordinate(x),
            top + 15.0,
            coordinate(length),
            escape(bar.name),
        );
        let (class, at) = if bar.value < 0.0 { (" class=\"end\"", end - 4.0) } else { ("", end + 4.0) };
        let _ = writeln!(svg, "<text{class} x=\"{}\" y=\"{}\">{number}</text>", coordinate(at), top + 25.0);
    }
    svg + "</svg>"
}

fn fitting(name: &str) -> String {
    if name.chars().count() <= FITTING {
        return name.into();
    }
    name.chars().take(FITTING - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_begin_at_zero_on_either_side() {
        let bar = |value, series| Bar { name: "<a>", value, series };
        let svg = draw(&[bar(10.0, 0), bar(-5.0, 1), bar(f64::NAN, 2)], "gain / %");
        // 360 − 56 − 56 = 248 for 15: zero at 56 + 82.67, the first bar 165.33 long, the second 82.67.
        assert!(svg.contains("x=\"138.7\" y=\"35\" width=\"165.3\""), "{svg}");
        assert!(svg.contains("x=\"56\" y=\"67\" width=\"82.7\""), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("&lt;a&gt;") && svg.contains(">gain / %</text>"));
        assert!(draw(&[], "x").ends_with("</svg>"));
    }
}
