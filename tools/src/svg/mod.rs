//! Plots as inline SVG. Colours and text sizes come from the page's style sheet, so that light and dark need no second plot.

pub mod axis;
pub mod bars;
pub mod element_shades;
pub mod histogram;
pub mod line;
pub mod matrix;
pub mod periodic_table;
pub mod scatter;
pub mod share;

/// Width of a plot's own coordinate system: that of a phone, so that text keeps its size there.
pub const WIDTH: f64 = 360.0;

/// Height of a plot.
pub const HEIGHT: f64 = 220.0;

/// How many series a plot tells apart by colour and dashes; the style sheet has as many classes `s0`, `s1`, ….
pub const SERIES: usize = 8;

/// The class of a cell's text on that shade (how strongly the cell's colour covers the paper): the style sheet's colours are
/// chosen so that both inks have a contrast of 4.5 where they change, in light and dark.
pub(crate) fn ink(shade: f64) -> &'static str {
    if shade > 0.74 { " on" } else { "" }
}

/// The opening tag of a plot; `label` is what a screen reader says.
pub(crate) fn open(width: f64, height: f64, label: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
        crate::html::escape(label)
    )
}

/// A coordinate with one decimal: a tenth of a pixel is finer than any screen.
pub(crate) fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
}
