//! Axes: round ticks, linear or logarithmic, and the mapping from values to the plot's coordinates.

use std::fmt::Write as _;

use super::{HEIGHT, WIDTH, coordinate};
use crate::html::escape;
use crate::number::{tick, ticks};

/// Room for the tick labels of the vertical axis, at least.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
/// Room for the vertical axis' title, which stands above it: turned text is hard to read on a phone.
const TOP: f64 = 24.0;
/// Room for tick labels and title of the horizontal axis.
const BOTTOM: f64 = 38.0;
/// Width of a character of a tick label, at most.
const CHARACTER: f64 = 6.6;

/// One direction of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What is shown, with its unit.
    title: String,
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// An even axis over `low..=high`.
    pub fn linear(title: &str, low: f64, high: f64) -> Self {
        let (low, high) = if high > low { (low, high) } else { (low - 0.5, low + 0.5) };
        Self::stepped(title, low, high, round_step((high - low) / 5.0))
    }

    /// An even axis with ticks at whole numbers only.
    pub fn whole(title: &str, low: f64, high: f64) -> Self {
        Self::stepped(title, low, high, round_step((high - low) / 5.0).max(1.0))
    }

    /// An even axis from zero to a round number at or above `high`.
    pub fn from_zero(title: &str, high: f64) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = round_step(high / 4.0);
        Self::stepped(title, 0.0, (high / step - 1e-9).ceil() * step, step)
    }

    /// An axis of counts: from zero, with ticks at whole numbers only.
    pub fn counts(title: &str, most: u64) -> Self {
        let step = round_step(most.max(1) as f64 / 4.0).max(1.0);
        Self::stepped(title, 0.0, (most.max(1) as f64 / step).ceil() * step, step)
    }

    fn stepped(title: &str, low: f64, high: f64, step: f64) -> Self {
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|k| k as f64 * step).collect();
        Self { title: title.into(), low, high, log: false, ticks }
    }

    /// A logarithmic axis over `low..=high`, both positive.
    pub fn log(title: &str, low: f64, high: f64) -> Self {
        let (low, high) = if high > low * 1.01 { (low, high) } else { (low / 1.5, high * 1.5) };
        let (first, last) = (low.log10(), high.log10());
        let multiples: &[f64] = if last - first < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let stride = (((last - first) / 6.0).ceil() as i32).max(1);
        let ticks: Vec<f64> = (first.floor() as i32..=last.ceil() as i32)
            .filter(|decade| stride == 1 || decade.rem_euclid(stride) == 0)
            .flat_map(|decade| multiples.iter().map(move |m| m * 10f64.powi(decade)))
            .filter(|&t| t >= low * (1.0 - 1e-9) && t <= high * (1.0 + 1e-9))
            .collect();
        let ticks = if ticks.len() < 2 { vec![low, high] } else { ticks };
        Self { title: title.into(), low, high, log: true, ticks }
    }

    /// What is shown, with its unit.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Where a value lies between the axis' ends, 0 to 1; values beyond are moved to the end.
    pub fn share(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, the next at or above `raw`.
fn round_step(raw: f64) -> f64 {
    let base = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| raw <= f * base * (1.0 + 1e-9)).unwrap_or(10.0);
    factor * base
}

/// Two axes and the room between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    x: Axis,
    y: Axis,
    /// Room for the tick labels of the vertical axis.
    left: f64,
}

impl Frame {
    /// A plot of [`WIDTH`] × [`HEIGHT`].
    pub fn new(x: Axis, y: Axis) -> Self {
        let longest = labels(&y).iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        Self { x, y, left: LEFT.max(longest as f64 * CHARACTER + 7.0) }
    }

    /// Horizontal coordinate of a value.
    pub fn x(&self, value: f64) -> f64 {
        self.left + self.x.share(value) * (WIDTH - self.left - RIGHT)
    }

    /// Vertical coordinate of a value.
    pub fn y(&self, value: f64) -> f64 {
        self.floor() - self.y.share(value) * (self.floor() - TOP)
    }

    /// Vertical coordinate of the horizontal axis.
    pub fn floor(&self) -> f64 {
        HEIGHT - BOTTOM
    }

    /// Grid, ticks and titles.
    pub fn draw(&self, svg: &mut String) {
        let (left, right, floor) = (self.left, WIDTH - RIGHT, self.floor());
        for (value, label) in labels(&self.y) {
            let y = coordinate(self.y(value));
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{left} {y}H{right}\"/>");
            let baseline = coordinate(self.y(value) + 3.5);
            let _ = writeln!(svg, "<text class=\"end\" x=\"{}\" y=\"{baseline}\">{label}</text>", left - 5.0);
        }
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{left} {floor}H{right}\"/>");
        for (value, label) in self.roomy_labels() {
            let x = coordinate(self.x(value));
            let _ = writeln!(svg, "<path class=\"axis\" d=\"M{x} {floor}v4\"/>");
            let _ = writeln!(svg, "<text class=\"mid\" x=\"{x}\" y=\"{}\">{label}</text>", floor + 16.0);
        }
        let _ = writeln!(svg, "<text class=\"title\" x=\"2\" y=\"12\">{}</text>", escape(&self.y.title));
        let _ = writeln!(
            svg,
            "<text class=\"title mid\" x=\"{}\" y=\"{}\">{}</text>",
            f64::midpoint(left, right),
            HEIGHT - 6.0,
            escape(&self.x.title)
        );
    }

    /// Labels of the horizontal axis, leaving out those that would touch the one before or leave the plot.
    fn roomy_labels(&self) -> Vec<(f64, String)> {
        let mut free_from = 0.0;
        let mut kept = vec![];
        for (value, label) in labels(&self.x) {
            let (centre, half) = (self.x(value), label.chars().count() as f64 * CHARACTER / 2.0);
            if centre - half >= free_from && centre + half <= WIDTH {
                free_from = centre + half + 6.0;
                kept.push((value, label));
            }
        }
        kept
    }
}

/// Ticks with labels that tell them apart.
fn labels(axis: &Axis) -> Vec<(f64, String)> {
    let exact =
        |&value: &f64| if value.abs() < 1e-12 * axis.high.abs().max(axis.low.abs()) { 0.0 } else { value };
    let values: Vec<f64> = axis.ticks.iter().map(exact).collect();
    let texts = match values[..] {
        [first, second, ..] if !axis.log => ticks(&values, second - first),
        _ => values.iter().copied().map(tick).collect(),
    };
    axis.ticks.iter().copied().zip(texts).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::linear("x / Å", -3.2, 17.9);
        assert_eq!(axis.ticks, [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(Axis::from_zero("n", 37.0).ticks, [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(Axis::counts("n", 2).ticks, [0.0, 1.0, 2.0]);
        assert_eq!(Axis::whole("n", 8.5, 9.5).ticks, [9.0]);
        assert_eq!(Axis::log("F", 0.01, 100.0).ticks.len(), 5);
        assert_eq!(Axis::log("F", 3.0, 40.0).ticks, [5.0, 10.0, 20.0]);
        assert!(Axis::log("F", 1e-30, 1e30).ticks.len() <= 8);
    }

    #[test]
    fn labels_of_a_narrow_range_differ() {
        let axis = Axis::linear("energy / eV", -4210.04, -4208.76);
        let texts: BTreeSet<String> = labels(&axis).into_iter().map(|(_, label)| label).collect();
        assert_eq!(texts.len(), axis.ticks.len());
        // Long labels get more room.
        let frame = Frame::new(Axis::linear("x", 0.0, 1.0), axis);
        assert!(frame.x(0.0) > LEFT);
    }

    #[test]
    fn a_single_value_stands_in_the_middle() {
        assert!((Axis::linear("x", 4.0, 4.0).share(4.0) - 0.0).abs() < 0.51);
        assert!((Axis::log("x", 4.0, 4.0).share(4.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn labels_never_touch() {
        let frame = Frame::new(Axis::linear("x", 0.0, 123_456_789.0), Axis::from_zero("n", 1.0));
        let labels = frame.roomy_labels();
        assert!(labels.len() >= 2);
        let half = |l: &str| l.chars().count() as f64 * CHARACTER / 2.0;
        for pair in labels.windows(2) {
            let gap = frame.x(pair[1].0) - half(&pair[1].1) - frame.x(pair[0].0) - half(&pair[0].1);
            assert!(gap > 0.0, "{pair:?}");
        }
    }
}
