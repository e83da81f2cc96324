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
         <footer>Made by {tool}. The same numbers lie beside this page as JSON.</footer>\n\
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
    value: Option<f64>,
    /// Whether the text must not be squeezed into a narrow column.
    long: bool,
}

impl Cell {
    /// Text.
    pub fn text(text: &str) -> Self {
        Self { html: escape(text), value: None, long: text.chars().count() > LONG }
    }

    /// A link within the page.
    pub fn link(text: &str, anchor: &str) -> Self {
        Self {
            html: format!("<a href=\"#{}\">{}</a>", escape(anchor), escape(text)),
            value: None,
            long: false,
        }
    }

    /// A whole number.
    pub fn integer(value: u64) -> Self {
        Self { html: number::integer(value), value: Some(value as f64), long: false }
    }

    /// A number with about so many significant digits; a dash where there is none.
    pub fn number(value: Option<f64>, digits: i32) -> Self {
        match value.filter(|v| v.is_finite()) {
            Some(value) => Self { html: number::significant(value, digits), value: Some(value), long: false },
            None => Self { html: "–".into(), value: None, long: false },
        }
    }

    /// A share, shown as a percentage.
    pub fn percent(share: f64) -> Self {
        Self { html: number::percent(share), value: Some(share), long: false }
    }

    /// A number shown as a text of its own.
    pub fn shown(text: &str, value: f64) -> Self {
        Self { html: escape(text), value: Some(value), long: false }
    }
}

/// A table that can be sorted by each of its columns.
#[derive(Debug, Clone)]
pub struct Table {
    caption: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(caption: &str, columns: impl IntoIterator<Item = S>) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { caption: caption.into(), columns, rows: vec![] }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "{}", self.caption);
        self.rows.push(cells);
    }

    /// The HTML; nothing for a table without rows.
    pub fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let is_number = |column: usize| self.rows.iter().any(|row| row[column].value.is_some());
        let is_long = |column: usize| self.rows.iter().any(|row| row[column].long);
        let class = |column: usize| match (is_number(column), is_long(column)) {
            (true, _) => " class=\"n\"",
            (false, true) => " class=\"long\"",
            (false, false) => "",
        };
        let classes: Vec<&str> = (0..self.columns.len()).map(class).collect();
        let caption = escape(&self.caption);
        let mut html = format!(
            "<h3>{caption}</h3>\n<div class=\"scroll\" tabindex=\"0\"><table aria-label=\"{caption}\">\n<thead><tr>"
        );
        for (column, class) in self.columns.iter().zip(&classes) {
            let title = escape(column);
            let _ = write!(html, "<th scope=\"col\"{class}><button type=\"button\">{title}</button></th>");
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for (cell, class) in row.iter().zip(&classes) {
                let value = cell.value.map(|v| format!(" data-value=\"{v}\"")).unwrap_or_default();
                let _ = write!(html, "<td{class}{value}>{}</td>", cell.html);
            }
            html.push_str("</tr>\n");
        }
        html + "</tbody></table></div>\n"
    }
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
    fn empty_tables_vanish() {
        assert_eq!(Table::new("x", ["a"]).render(), "");
        assert_eq!(Cell::number(Some(f64::NAN), 3), Cell::number(None, 3));
    }
}
