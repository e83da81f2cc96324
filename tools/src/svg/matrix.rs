//! Shares of pairs as a shaded matrix: rows and columns are named, each cell tells its percentage.

use std::fmt::Write as _;

use super::{WIDTH, coordinate, ink, open};
use crate::html::escape;
use crate::number::significant;

/// Height of a row.
const ROW: f64 = 26.0;
/// Room for the columns' numbers and the title above them.
const TOP: f64 = 34.0;
/// Room for the names of the rows, at most.
const NAMES: f64 = 190.0;
/// Width of a character, at most.
const CHARACTER: f64 = 6.6;
/// Widest cell.
const WIDEST: f64 = 64.0;
/// Narrowest cell that holds a percentage.
const NARROWEST: f64 = 30.0;

/// Shares of pairs, 0 to 1; what is not finite is shown as a gap.
#[derive(Debug, Clone, Copy)]
pub struct Shares<'a> {
    /// Names of the rows.
    pub rows: &'a [&'a str],
    /// Names of the columns.
    pub columns: &'a [&'a str],
    /// By row, then column.
    pub values: &'a [Vec<f64>],
}

/// Draws the matrix and its legend of columns, which are numbered: names would not fit above narrow cells.
/// `row_title` and `column_title` say what rows and columns are.
pub fn draw(shares: &Shares, row_title: &str, column_title: &str) -> String {
    let longest = shares.rows.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let left = (longest as f64 * CHARACTER + 30.0).min(NAMES);
    let cell = ((WIDTH - left) / shares.columns.len().max(1) as f64).clamp(NARROWEST, WIDEST);
    let width = (left + cell * shares.columns.len() as f64).max(WIDTH);
    let height = TOP + ROW * shares.rows.len() as f64 + 2.0;
    let mut svg = open(width, height, &format!("Matrix of shares: {row_title} by {column_title}"));
    let _ = writeln!(svg, "<text class=\"title\" x=\"2\" y=\"12\">{}</text>", escape(row_title));
    let _ = writeln!(
        svg,
        "<text class=\"title end\" x=\"{}\" y=\"12\">{} no.</text>",
        coordinate(width - 2.0),
        escape(column_title)
    );
    for column in 0..shares.columns.len() {
        let x = coordinate(left + cell * (column as f64 + 0.5));
        let _ = writeln!(svg, "<text class=\"mid\" x=\"{x}\" y=\"28\">{}</text>", column + 1);
    }
    for (row, name) in shares.rows.iter().enumerate() {
        let top = TOP + ROW * row as f64;
        let fitting = fitted(name, left - 8.0);
        let baseline = coordinate(top + ROW / 2.0 + 4.0);
        let _ = writeln!(
            svg,
            "<text x=\"2\" y=\"{baseline}\">{}<title>{}</title></text>",
            escape(&fitting),
            escape(name)
        );
        for (column, other) in shares.columns.iter().enumerate() {
            let place = (left + cell * column as f64, top, cell);
            let value = shares.values.get(row).and_then(|r| r.get(column)).copied().unwrap_or(f64::NAN);
            draw_cell(&mut svg, place, value, &format!("{row_title} {name}, {column_title} {other}"));
        }
    }
    svg + "</svg>" + &legend(shares.columns)
}

fn draw_cell(svg: &mut String, (x, y, width): (f64, f64, f64), value: f64, what: &str) {
    let rect = format!(
        "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"",
        coordinate(x + 1.0),
        coordinate(y + 1.0),
        coordinate(width - 2.0),
        coordinate(ROW - 2.0)
    );
    if !value.is_finite() {
        let _ = writeln!(svg, "<rect class=\"hole\" {rect}/>");
        return;
    }
    let shade = 0.08 + 0.92 * value.clamp(0.0, 1.0);
    let ink = ink(shade);
    let (middle, baseline) = (coordinate(x + width / 2.0), coordinate(y + ROW / 2.0 + 4.0));
    let told = told(value);
    let _ = writeln!(
        svg,
        "<g class=\"element{ink}\"><title>{}: {told}</title><rect class=\"cell\" {rect} fill-opacity=\"{shade:.2}\"/>\
         <text class=\"mid share-text\" x=\"{middle}\" y=\"{baseline}\">{}</text></g>",
        escape(what),
        told.trim_end_matches(" %")
    );
}

/// At most four characters and the sign; what is not all and not nothing is not shown as such.
fn told(value: f64) -> String {
    let percent = 100.0 * value;
    match percent {
        p if p > 0.0 && p < 0.1 => "&lt;0.1 %".into(),
        p if (99.95..100.0).contains(&p) => "99.9 %".into(),
        p => format!("{} %", significant((p * 10.0).round() / 10.0, 4)),
    }
}

/// The name, cut where it would run into the cells; its title has it in full.
fn fitted(name: &str, width: f64) -> String {
    let room = (width / CHARACTER) as usize;
    if name.chars().count() <= room {
        return name.into();
    }
    let head: String = name.chars().take(room.saturating_sub(1)).collect();
    head + "…"
}

fn legend(names: &[&str]) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (index, name) in names.iter().enumerate() {
        let _ = write!(html, "<li><b>{}</b>{}</li>", index + 1, escape(name));
    }
    html + "<li>figures in %</li></ul>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_tell_their_share_and_nothing_is_rounded_away() {
        let values = vec![vec![1.0, 0.0], vec![0.0004, f64::NAN], vec![0.9999, 0.123]];
        let rows = ["a <b>", "b", "a name that is much too long for the margin of a phone"];
        let svg = draw(&Shares { rows: &rows, columns: &["x", "y"], values: &values }, "atoms of", "seen in");
        for told in [">100</text>", ">0</text>", ">&lt;0.1</text>", ">99.9</text>", ">12.3</text>"] {
            assert!(svg.contains(told), "{told}: {svg}");
        }
        assert_eq!((svg.matches("class=\"hole\"").count(), svg.matches("<li>").count()), (1, 3));
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("…<title>a name that is much too long"));
    }
}
