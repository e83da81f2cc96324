//! The page around the numbers: escaping, tables, figures, and the skeleton with its style and its few lines of script.
//!
//! What is written is well-formed XML as well, so that any XML parser can check or take it apart.

use std::fmt::Write as _;

use crate::number;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/sort.js");

/// Text as it may stand in content and attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML knows no other control characters, escaped or not.
            c if c.is_control() && !"\n\t".contains(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The id of a dataset's section.
pub fn dataset_anchor(index: usize) -> String {
    format!("dataset-{index}")
}

/// The id of a run's section.
pub fn run_anchor(index: usize) -> String {
    format!("run-{index}")
}

/// A whole page. `body` is HTML, the others are text.
pub fn page(title: &str, tool: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n\
         <footer>Made by {tool}. The same numbers lie beside this page as JSON and CSV.</footer>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        title = escape(title),
        tool = escape(tool),
    )
}

/// A plot with its title and, where there is something to say, a note below. `plot` is HTML, the others are text.
pub fn figure(title: &str, plot: &str, note: &str) -> String {
    let note =
        if note.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>", escape(note)) };
    format!("<figure><figcaption>{}</figcaption>\n{plot}{note}</figure>\n", escape(title))
}

/// Names with values, as a compact list.
pub fn facts(pairs: &[(&str, String)]) -> String {
    let mut html = String::from("<dl>");
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    html + "</dl>\n"
}

/// Characters that fit into a narrow column.
const LONG: usize = 28;

/// A table cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    html: String,
    /// What is shown, without markup.
    plain: String,
    value: Option<f64>,
    /// Whether the text must not be squeezed into a narrow column.
    long: bool,
}

impl Cell {
    fn new(plain: String, value: Option<f64>) -> Self {
        Self { html: escape(&plain), plain, value, long: false }
    }

    /// Text.
    pub fn text(text: &str) -> Self {
        Self { long: text.chars().count() > LONG, ..Self::new(text.into(), None) }
    }

    /// A link within the page.
    pub fn link(text: &str, anchor: &str) -> Self {
        let html = format!("<a href=\"#{}\">{}</a>", escape(anchor), escape(text));
        Self { html, ..Self::new(text.into(), None) }
    }

    /// A whole number.
    pub fn integer(value: u64) -> Self {
        Self::new(number::integer(value), Some(value as f64))
    }

    /// A number with so many significant digits, a whole one as it is; a dash where there is none.
    pub fn number(value: Option<f64>, digits: i32) -> Self {
        match value.filter(|v| v.is_finite()) {
            Some(value) if value.fract() == 0.0 => {
                Self::new(number::significant(value, digits.max(9)), Some(value))
            }
            Some(value) => Self::new(number::rounded(value, digits), Some(value)),
            None => Self::new("–".into(), None),
        }
    }

    /// A number with so many decimals; a dash where there is none.
    pub fn fixed(value: Option<f64>, decimals: usize) -> Self {
        let value = value.filter(|v| v.is_finite());
        Self::new(value.map_or("–".into(), |v| number::fixed(v, decimals)), value)
    }

    /// A share, shown as a percentage.
    pub fn percent(share: f64) -> Self {
        Self::new(number::percent(share), Some(share))
    }

    /// A number of bytes, shown with a fitting unit.
    pub fn bytes(size: f64) -> Self {
        Self::new(number::bytes(size.max(0.0) as u64), Some(size))
    }

    /// A number shown as a text of its own.
    pub fn shown(text: &str, value: f64) -> Self {
        Self::new(text.into(), Some(value))
    }

    /// What is shown, without markup.
    pub fn plain(&self) -> &str {
        &self.plain
    }

    /// The number behind it, if it is one.
    pub fn value(&self) -> Option<f64> {
        self.value
    }
}

/// A table that can be sorted by each of its columns.
#[derive(Debug, Clone)]
pub struct Table {
    caption: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    total: Option<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(caption: &str, columns: impl IntoIterator<Item = S>) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { caption: caption.into(), columns, rows: vec![], total: None }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "{}", self.caption);
        self.rows.push(cells);
    }

    /// Sets the row below all others, which stays there however they are sorted.
    pub fn total(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "{}", self.caption);
        self.total = Some(cells);
    }

    /// What stands above it.
    pub fn caption(&self) -> &str {
        &self.caption
    }

    /// The heads of its columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Its rows, the total the last.
    pub fn rows(&self) -> impl Iterator<Item = &Vec<Cell>> {
        self.rows.iter().chain(&self.total)
    }

    /// The HTML; nothing for a table without rows.
    pub fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let is_number = |column: usize| self.rows().any(|row| row[column].value.is_some());
        let is_long = |column: usize| self.rows().any(|row| row[column].long);
        let class = |column: usize| match (is_number(column), is_long(column)) {
            (true, _) => " class=\"n\"",
            (false, true) => " class=\"long\"",
            (false, false) => " class=\"short\"",
        };
        let classes: Vec<&str> = (0..self.columns.len()).map(class).collect();
        let caption = escape(&self.caption);
        let mut html = format!(
            "<h3>{caption}</h3>\n<div class=\"scroll\" tabindex=\"0\"><table aria-label=\"{caption}\">\n<thead><tr>"
        );
        for (column, class) in self.columns.iter().zip(&classes) {
            let title = head(column);
            let _ = write!(html, "<th scope=\"col\"{class}><button type=\"button\">{title}</button></th>");
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            render_row(&mut html, row, &classes);
        }
        html.push_str("</tbody>");
        if let Some(total) = &self.total {
            html.push_str("\n<tfoot>\n");
            render_row(&mut html, total, &classes);
            html.push_str("</tfoot>");
        }
        html + "</table></div>\n"
    }
}

fn render_row(html: &mut String, row: &[Cell], classes: &[&str]) {
    html.push_str("<tr>");
    for (cell, class) in row.iter().zip(classes) {
        let value = cell.value.map(|v| format!(" data-value=\"{v}\"")).unwrap_or_default();
        let _ = write!(html, "<td{class}{value}>{}</td>", cell.html);
    }
    html.push_str("</tr>\n");
}

/// Characters of a word that a column's head does not divide.
const WHOLE: usize = 14;

/// A column's head: a unit stays beside its slash, `JMP-S` in one piece; long names may be divided.
fn head(column: &str) -> String {
    let word =
        |word: &str| if word.chars().count() > WHOLE { word.into() } else { word.replace('-', "\u{2011}") };
    let words: Vec<String> = column.split(' ').map(word).collect();
    escape(&words.join(" ")).replace(" / ", "\u{a0}/\u{a0}").replace('–', "\u{2060}–\u{2060}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("a<b>&\"c\"\u{1}"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}");
        let mut table = Table::new("<x>", ["name", "n"]);
        table.row(vec![Cell::text("<script>"), Cell::integer(1234)]);
        let html = table.render();
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
        assert!(html.contains("<td class=\"n\" data-value=\"1234\">"), "{html}");
    }

    #[test]
    fn a_total_stays_below_the_rows() {
        let mut table = Table::new("x", ["what", "device-hours / h"]);
        table.row(vec![Cell::text("a"), Cell::number(Some(1.5), 3)]);
        table.total(vec![Cell::text("all"), Cell::number(Some(61.0), 3)]);
        let html = table.render();
        assert!(
            html.contains(
                "</tbody>\n<tfoot>\n<tr><td class=\"short\">all</td><td class=\"n\" data-value=\"61\">61</td>"
            ),
            "{html}"
        );
        assert!(html.contains("device\u{2011}hours\u{a0}/\u{a0}h") && html.contains(">1.50</td>"), "{html}");
        assert_eq!(table.rows().count(), 2);
    }

    #[test]
    fn empty_tables_vanish() {
        assert_eq!(Table::new("x", ["a"]).render(), "");
        assert_eq!(Cell::number(Some(f64::NAN), 3), Cell::number(None, 3));
    }
}
