//! Curves over a common horizontal axis.

use std::fmt::Write as _;

use super::axis::{Axis, Frame};
use super::{HEIGHT, SERIES, WIDTH, coordinate, open};
use crate::html::escape;
use crate::number::significant;
use crate::series::Point;

/// A named curve.
#[derive(Debug, Clone, Copy)]
pub struct Curve<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Ascending in x.
    pub points: &'a [Point],
    /// The last single value, for the legend.
    pub last: Option<f64>,
}

/// What the vertical axis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vertical {
    /// From zero, even.
    FromZero,
    /// Logarithmic where values span more than a factor of ten, else even.
    Fitted,
}

/// With more curves than that, extremes are left out.
const BANDED: usize = 4;

/// Draws curves over the given horizontal axis. Means are lines; where a point stands for many steps, their extremes are a band behind it.
pub fn draw(curves: &[Curve], x: Axis, y_title: &str, vertical: Vertical) -> String {
    let mut svg = open(WIDTH, HEIGHT, &format!("Curves: {y_title} by {}", x.title()));
    if curves.iter().all(|c| c.points.is_empty()) {
        return svg + "</svg>";
    }
    let frame = Frame::new(x, vertical_axis(curves, y_title, vertical));
    frame.draw(&mut svg);
    // Behind many curves bands would cover one another.
    let banded = curves.iter().filter(|c| !c.points.is_empty()).count() <= BANDED;
    for (index, curve) in curves.iter().enumerate() {
        let class = index % SERIES;
        if banded && curve.points.iter().any(|p| p.max > p.min) {
            let _ = writeln!(svg, "<path class=\"band s{class}\" d=\"{}\"/>", band(&frame, curve.points));
        }
        match curve.points {
            [only] => {
                let (x, y) = (coordinate(frame.x(only.x)), coordinate(frame.y(only.mean)));
                let _ = writeln!(svg, "<circle class=\"dot s{class}\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>");
            }
            points => {
                let d = polyline(&frame, points.iter().map(|p| (p.x, p.mean)));
                let _ = writeln!(
                    svg,
                    "<path class=\"curve s{class}\" d=\"{d}\"><title>{}</title></path>",
                    escape(curve.name)
                );
            }
        }
    }
    svg + "</svg>"
}

/// The legend of curves as HTML, with each one's last value, so that nothing lies over the plot. Curves without points keep
/// their colour for the other plots of a page and are left out.
pub fn legend(curves: &[Curve]) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (index, curve) in curves.iter().enumerate().filter(|(_, c)| !c.points.is_empty()) {
        let last = curve.last.map(|v| significant(v, 3)).unwrap_or_default();
        let _ = write!(
            html,
            "<li><svg class=\"key\" viewBox=\"0 0 24 8\" aria-hidden=\"true\"><path class=\"curve s{}\" d=\"M1 4H23\"/></svg>{} <b>{last}</b></li>",
            index % SERIES,
            escape(curve.name),
        );
    }
    html + "</ul>"
}

fn vertical_axis(curves: &[Curve], title: &str, vertical: Vertical) -> Axis {
    let points = || curves.iter().flat_map(|c| c.points);
    let means = points().fold(None, |range, p| extend(range, p.mean));
    let (low, high) = means.unwrap_or((0.0, 1.0));
    let has_bands = curves.iter().filter(|c| !c.points.is_empty()).count() <= BANDED;
    let top = points()
        .map(|p| if has_bands { p.max } else { p.mean })
        .filter(|v| v.is_finite())
        .fold(high, f64::max);
    match vertical {
        Vertical::FromZero if low >= 0.0 => Axis::from_zero(title, top),
        Vertical::Fitted if low > 0.0 && high / low > 10.0 => Axis::log(title, low / 1.2, top * 1.2),
        Vertical::Fitted if low >= 0.0 && (low < 0.5 * top || low == top) => Axis::from_zero(title, top),
        _ => {
            let bottom = points().map(|p| p.min).filter(|v| v.is_finite()).fold(low, f64::min);
            let margin = 0.05 * (top - bottom);
            Axis::linear(title, bottom - margin, top + margin)
        }
    }
}

fn extend(range: Option<(f64, f64)>, value: f64) -> Option<(f64, f64)> {
    if !value.is_finite() {
        return range;
    }
    Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
}

fn polyline(frame: &Frame, points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (x, y) in points.filter(|(_, y)| y.is_finite()) {
        let command = if d.is_empty() { 'M' } else { 'L' };
        let _ = write!(d, "{command}{} {}", coordinate(frame.x(x)), coordinate(frame.y(y)));
    }
    d
}

fn band(frame: &Frame, points: &[Point]) -> String {
    let there = points.iter().map(|p| (p.x, p.max));
    let back = points.iter().rev().map(|p| (p.x, p.min));
    polyline(frame, there.chain(back)) + "Z"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        values
            .iter()
            .enumerate()
            .map(|(i, &v)| Point { x: i as f64, mean: v, min: v, max: v, count: 1 })
            .collect()
    }

    #[test]
    fn curves_have_their_own_class_and_a_legend_entry() {
        let (a, b) = (points(&[3.0, 2.0, 1.0]), points(&[5.0]));
        let curves = [
            Curve { name: "a < b", points: &a, last: Some(1.0) },
            Curve { name: "b", points: &b, last: None },
        ];
        let svg = draw(&curves, Axis::whole("optimiser steps", 0.0, 2.0), "loss", Vertical::Fitted);
        assert!(svg.contains("curve s0") && svg.contains("dot s1") && svg.contains("a &lt; b"));
        assert!(
            legend(&curves).matches("<li>").count() == 2 && legend(&curves).contains("a &lt; b <b>1</b>")
        );
    }

    #[test]
    fn a_loss_that_became_nan_is_left_out_of_the_path() {
        let broken = points(&[1.0, f64::NAN, 0.5]);
        let curves = [Curve { name: "loss", points: &broken, last: None }];
        let svg = draw(&curves, Axis::linear("x", 0.0, 2.0), "y", Vertical::Fitted);
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn no_points_no_fault() {
        assert!(draw(&[], Axis::linear("x", 0.0, 1.0), "y", Vertical::FromZero).ends_with("</svg>"));
    }
}
