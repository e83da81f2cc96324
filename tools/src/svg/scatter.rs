//! Points of several groups without axes, light even with many points: a path of dots for each group.

use std::fmt::Write as _;

use super::{SERIES, WIDTH, open};
use crate::html::escape;
use crate::number::integer;

/// Units of the path's own coordinates in one of the plot: whole numbers are short.
const FINE: f64 = 10.0;
/// Room around the points.
const MARGIN: f64 = 8.0;

/// Points of one colour.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Its points.
    pub points: Vec<[f64; 2]>,
}

/// Draws groups with the same scale in both directions; the largest group lies lowest. `label` is what a screen reader says.
pub fn draw(groups: &[Group], label: &str) -> String {
    let mut svg = open(WIDTH, WIDTH, label);
    let count = groups.iter().map(|g| g.points.len()).sum::<usize>();
    let all = || groups.iter().flat_map(|g| &g.points);
    let bound = |pick: fn(f64, f64) -> f64, k: usize| all().map(|p| p[k]).reduce(pick).unwrap_or(0.0);
    let (low, high) = ([0, 1].map(|k| bound(f64::min, k)), [0, 1].map(|k| bound(f64::max, k)));
    let middle = [0, 1].map(|k| f64::midpoint(low[k], high[k]));
    let extent = (high[0] - low[0]).max(high[1] - low[1]).max(f64::MIN_POSITIVE);
    let scale = FINE * (WIDTH - 2.0 * MARGIN) / extent;
    let place = |p: &[f64; 2]| {
        let x = FINE * WIDTH / 2.0 + (p[0] - middle[0]) * scale;
        let y = FINE * WIDTH / 2.0 - (p[1] - middle[1]) * scale;
        (x.round() as i64, y.round() as i64)
    };
    let thick = FINE * (150.0 / (count.max(1) as f64).sqrt()).clamp(1.6, 5.0);
    let _ = writeln!(svg, "<g transform=\"scale({})\" stroke-width=\"{thick:.0}\">", 1.0 / FINE);
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(groups[*i].points.len()));
    for index in order {
        let group = &groups[index];
        let mut d = String::new();
        for (x, y) in group.points.iter().map(place) {
            // A line of no length with round or square ends is a dot.
            let _ = write!(d, "M{x} {y}h0");
        }
        let _ = writeln!(
            svg,
            "<path class=\"{}\" d=\"{d}\"><title>{}</title></path>",
            class(index),
            escape(group.name)
        );
    }
    svg + "</g></svg>"
}

/// Colours repeat after [`SERIES`] groups; then points are squares.
fn class(index: usize) -> String {
    let shape = if (index / SERIES).is_multiple_of(2) { "" } else { " square" };
    format!("dots{shape} s{}", index % SERIES)
}

/// The legend as HTML, with how many points each group has.
pub fn legend(groups: &[Group]) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (index, group) in groups.iter().enumerate() {
        let _ = write!(
            html,
            "<li><svg class=\"swatch\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><path class=\"{}\" stroke-width=\"9\" d=\"M6 6h0\"/></svg>{} <b>{}</b></li>",
            class(index),
            escape(group.name),
            integer(group.points.len() as u64)
        );
    }
    html + "</ul>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_keep_their_proportions() {
        let groups = [
            Group { name: "a", points: vec![[0.0, 0.0], [4.0, 2.0]] },
            Group { name: "<b>", points: vec![[2.0, 1.0]] },
        ];
        let svg = draw(&groups, "map");
        // The wider direction fills 344 of 360; y points up and keeps the scale of x.
        assert!(svg.contains("M80 2660h0M3520 940h0"), "{svg}");
        assert!(svg.contains("M1800 1800h0") && svg.contains("&lt;b&gt;"));
    }

    #[test]
    fn many_points_stay_light() {
        let noise = |i: usize| ((i * 7919 + 104_729) % 10_007) as f64;
        let points = (0..20_000).map(|i| [noise(2 * i), noise(2 * i + 1)]).collect();
        assert!(draw(&[Group { name: "a", points }], "map").len() < 280_000);
        assert!(draw(&[], "map").ends_with("</svg>"));
    }

    #[test]
    fn more_groups_than_colours_have_another_shape() {
        assert_eq!((class(0), class(SERIES + 1)), ("dots s0".into(), "dots square s1".into()));
    }
}
