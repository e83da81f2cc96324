//! Stacked bars of shares, one bar a row.

use std::fmt::Write as _;

use super::{SERIES, WIDTH, coordinate, open};
use crate::html::escape;
use crate::number::{integer, percent};

const LEFT: f64 = 52.0;
const PITCH: f64 = 30.0;
const BAR: f64 = 20.0;
/// A segment narrower than this has no room for its percentage.
const ROOM: f64 = 40.0;

/// One bar: its name, and the counts of its segments with their names.
#[derive(Debug, Clone)]
pub struct Bar<'a> {
    /// Name, left of the bar.
    pub name: String,
    /// Segments in the order of their colours.
    pub segments: Vec<(&'a str, u64)>,
}

/// Draws the bars. `what` names what is counted.
pub fn draw(bars: &[Bar], what: &str) -> String {
    let mut svg = open(WIDTH, PITCH * bars.len() as f64, &format!("Shares of {what}"));
    for (row, bar) in bars.iter().enumerate() {
        let top = PITCH * row as f64 + (PITCH - BAR) / 2.0;
        let baseline = coordinate(top + 14.0);
        let _ = writeln!(svg, "<text x=\"2\" y=\"{baseline}\">{}</text>", escape(&bar.name));
        let total: u64 = bar.segments.iter().map(|s| s.1).sum();
        let mut left = LEFT;
        for (index, (name, count)) in bar.segments.iter().enumerate() {
            let share = *count as f64 / total.max(1) as f64;
            let width = share * (WIDTH - LEFT - 2.0);
            let _ = writeln!(
                svg,
                "<rect class=\"share s{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BAR}\"><title>{}: {} {what}, {}</title></rect>",
                index % SERIES,
                coordinate(left),
                coordinate(top),
                coordinate(width),
                escape(name),
                integer(*count),
                escape(&percent(share))
            );
            if width > ROOM {
                let middle = coordinate(left + width / 2.0);
                let _ = writeln!(
                    svg,
                    "<text class=\"mid inside s{}\" x=\"{middle}\" y=\"{baseline}\">{}</text>",
                    index % SERIES,
                    escape(&percent(share))
                );
            }
            left += width;
        }
    }
    svg + "</svg>"
}

/// The legend of the segments.
pub fn legend(names: &[&str]) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (index, name) in names.iter().enumerate() {
        let _ = write!(
            html,
            "<li><svg class=\"swatch\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><rect class=\"share s{}\" width=\"12\" height=\"12\"/></svg>{}</li>",
            index % SERIES,
            escape(name)
        );
    }
    html + "</ul>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fill_the_bar() {
        let svg = draw(&[Bar { name: "T = 1".into(), segments: vec![("a", 3), ("b", 1)] }], "structures");
        assert!(svg.contains("a: 3 structures, 75.0 %") && svg.contains(">25.0 %</text>"), "{svg}");
        assert_eq!(legend(&["a", "b"]).matches("<li>").count(), 2);
    }
}
