//! Bars of a distribution.

use std::fmt::Write as _;

use super::axis::{Axis, Frame};
use super::{HEIGHT, WIDTH, coordinate, open};
use crate::histogram::{Bin, Histogram, Spacing};
use crate::html::escape;
use crate::number::{integer, significant};

/// Draws a histogram. `x_title` names the value with its unit, `y_title` what is counted.
pub fn draw(histogram: &Histogram, x_title: &str, y_title: &str) -> String {
    let mut svg = open(WIDTH, HEIGHT, &format!("Histogram: {y_title} by {x_title}"));
    let (Some(first), Some(last)) = (histogram.bins.first(), histogram.bins.last()) else {
        return svg + "</svg>";
    };
    let x = match histogram.spacing {
        Spacing::Linear => Axis::linear(x_title, first.low, last.high),
        // A whole number's bar stands above its tick, not beside it.
        Spacing::Whole => whole_axis(x_title, first.low, last.high),
        Spacing::Log => Axis::log(x_title, first.low, last.high),
    };
    let most = histogram.bins.iter().map(|b| b.count).max().unwrap_or(0);
    let frame = Frame::new(x, Axis::counts(y_title, most));
    let shift = if histogram.spacing == Spacing::Whole { 0.5 } else { 0.0 };
    frame.draw(&mut svg);
    for bin in &histogram.bins {
        let (left, right, top) =
            (frame.x(bin.low - shift), frame.x(bin.high - shift), frame.y(bin.count as f64));
        // A bin with a single structure must not vanish beside one with a million.
        let top = if bin.count > 0 { top.min(frame.floor() - 1.0) } else { top };
        let gap = if right - left > 3.0 { 0.6 } else { 0.0 };
        let _ = writeln!(
            svg,
            "<rect class=\"bar\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
            coordinate(left + gap / 2.0),
            coordinate(top),
            coordinate((right - left - gap).max(0.8)),
            coordinate(frame.floor() - top),
            escape(&described(bin, histogram.spacing)),
        );
    }
    svg + "</svg>"
}

/// Numbers that an axis of whole ones has room for, at least: the bar of a single number must not fill the plot.
const FEWEST: f64 = 5.0;

fn whole_axis(title: &str, low: f64, high: f64) -> Axis {
    let more = ((FEWEST - (high - low)) / 2.0).max(0.0);
    Axis::whole(title, (low - 0.5 - more).max(-0.5), high - 0.5 + more)
}

fn described(bin: &Bin, spacing: Spacing) -> String {
    let (low, high) = match spacing {
        Spacing::Whole => (bin.low, bin.high - 1.0),
        Spacing::Linear | Spacing::Log => (bin.low, bin.high),
    };
    let range = if low < high {
        format!("{} to {}", significant(low, 5), significant(high, 5))
    } else {
        significant(low, 5)
    };
    format!("{range}: {}", integer(bin.count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bin_is_a_bar_and_titles_have_units() {
        let bins = vec![Bin { low: 0.0, high: 1.0, count: 4 }, Bin { low: 1.0, high: 2.0, count: 1_000_000 }];
        let svg = draw(&Histogram { spacing: Spacing::Linear, bins }, "energy / eV", "structures");
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains(">energy / eV</text>") && svg.contains(">structures</text>"));
        assert!(!svg.contains("height=\"0\""), "a small bin vanished");
    }

    #[test]
    fn a_single_whole_number_has_room_beside_it() {
        let bins = vec![Bin { low: 9.0, high: 10.0, count: 4 }];
        let svg = draw(&Histogram { spacing: Spacing::Whole, bins }, "atoms", "structures");
        // A fifth of 360 − 46 − 12, less the gap.
        assert!(
            svg.contains("width=\"59.8\"") && svg.contains(">9</text>") && svg.contains(">11</text>"),
            "{svg}"
        );
    }

    #[test]
    fn nothing_to_draw_is_no_fault() {
        assert!(draw(&Histogram { spacing: Spacing::Log, bins: vec![] }, "x", "y").ends_with("</svg>"));
    }
}
