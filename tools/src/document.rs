//! A page while it is written: what is shown is kept beside it as numbers, so that page and numbers cannot differ.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ReportError;
use crate::histogram::Histogram;
use crate::html::{self, Cell, Table, escape};
use crate::svg::histogram;
use crate::svg::line::Curve;

/// A page and the numbers of all its tables and histograms.
#[derive(Debug, Clone, Default)]
pub struct Document {
    title: String,
    tool: String,
    body: String,
    section: String,
    csv: String,
}

/// What a figure is called, what its axes show, and what there is to say about it.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    /// Above the plot.
    pub title: &'a str,
    /// The horizontal axis, with its unit.
    pub x: &'a str,
    /// What is counted.
    pub y: &'a str,
    /// Below the plot; may be empty.
    pub note: &'a str,
}

impl Document {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.into(),
            tool: format!("jmp-tools {}", env!("CARGO_PKG_VERSION")),
            csv: "section,table,row,column,value,text\n".into(),
            ..Self::default()
        }
    }

    /// Adds HTML as it is.
    pub fn html(&mut self, html: &str) {
        self.body.push_str(html);
    }

    /// Adds a paragraph of text; `class` is a class of the style sheet (`note`, `warning`) or empty.
    pub fn paragraph(&mut self, class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        let _ = writeln!(self.body, "<p{class}>{}</p>", escape(text));
    }

    /// Begins a section; links lead to its `anchor`.
    pub fn open_section(&mut self, anchor: &str, heading: &str) {
        self.section = heading.into();
        let _ = writeln!(self.body, "<section id=\"{}\">\n<h2>{}</h2>", escape(anchor), escape(heading));
    }

    /// Ends a section.
    pub fn close_section(&mut self) {
        self.section.clear();
        self.body.push_str("</section>\n");
    }

    /// Begins a grid of figures that fills the width.
    pub fn open_grid(&mut self) {
        self.body.push_str("<div class=\"grid\">\n");
    }

    /// Ends a grid.
    pub fn close_grid(&mut self) {
        self.body.push_str("</div>\n");
    }

    /// Begins a part that is shown when its `summary` is clicked, or at once.
    pub fn open_details(&mut self, summary: &str, open: bool) {
        let open = if open { " open=\"open\"" } else { "" };
        let _ = writeln!(self.body, "<details{open}><summary>{}</summary>", escape(summary));
    }

    /// Ends such a part.
    pub fn close_details(&mut self) {
        self.body.push_str("</details>\n");
    }

    /// Adds names with values.
    pub fn facts(&mut self, pairs: &[(&str, String)]) {
        self.body.push_str(&html::facts(pairs));
    }

    /// Adds a table and its numbers. A table without rows vanishes.
    pub fn table(&mut self, table: &Table) {
        for (index, row) in table.rows().enumerate() {
            for (column, cell) in table.columns().iter().zip(row) {
                self.record(table.caption(), index, column, cell);
            }
        }
        self.body.push_str(&table.render());
    }

    /// Adds a plot that is ready, without numbers of its own.
    pub fn figure(&mut self, title: &str, plot: &str, note: &str) {
        self.body.push_str(&html::figure(title, plot, note));
    }

    /// As [`Document::figure`], over the whole width.
    pub fn wide_figure(&mut self, title: &str, plot: &str, note: &str) {
        let figure = html::figure(title, plot, note);
        self.body.push_str(&figure.replacen("<figure>", "<figure class=\"wide\">", 1));
    }

    /// Draws a histogram and keeps its bins. One without bins vanishes.
    pub fn histogram(&mut self, histogram: &Histogram, labels: Labels) {
        if histogram.bins.is_empty() {
            return;
        }
        for (index, bin) in histogram.bins.iter().enumerate() {
            let number = |value| Cell::number(Some(value), 6);
            self.record(labels.title, index, &format!("{}: from", labels.x), &number(bin.low));
            self.record(labels.title, index, &format!("{}: below", labels.x), &number(bin.high));
            self.record(labels.title, index, labels.y, &Cell::integer(bin.count));
        }
        self.figure(labels.title, &histogram::draw(histogram, labels.x, labels.y), labels.note);
    }

    /// Keeps the points of a curve that is drawn elsewhere.
    pub fn curve(&mut self, table: &str, x: &str, curve: &Curve) {
        for (index, point) in curve.points.iter().enumerate() {
            let number = |value| Cell::number(Some(value), 6);
            self.record(table, index, x, &number(point.x));
            self.record(table, index, curve.name, &number(point.mean));
        }
    }

    /// Adds a number to the CSV file without showing it.
    pub fn record(&mut self, table: &str, row: usize, column: &str, cell: &Cell) {
        let (section, table, column) = (field(&self.section), field(table), field(column));
        let _ = match cell.value() {
            Some(value) => writeln!(self.csv, "{section},{table},{row},{column},{value},"),
            None => writeln!(self.csv, "{section},{table},{row},{column},,{}", field(cell.plain())),
        };
    }

    /// The whole page.
    pub fn to_html(&self) -> String {
        html::page(&self.title, &self.tool, &self.body)
    }

    /// The numbers of all tables and histograms, one a line.
    pub fn to_csv(&self) -> &str {
        &self.csv
    }

    /// Writes the page and, beside it, the numbers as CSV and as the given JSON; returns the three names, the page first.
    /// Each file is renamed into place.
    pub fn write(&self, page: &Path, json: &str) -> Result<Vec<PathBuf>, ReportError> {
        let (csv, numbers) = (page.with_extension("csv"), page.with_extension("json"));
        replace(&numbers, json)?;
        replace(&csv, &self.csv)?;
        replace(page, &self.to_html())?;
        Ok(vec![page.to_path_buf(), numbers, csv])
    }
}

/// Writes a file beside its place and renames it there.
pub fn replace(path: &Path, content: &str) -> Result<(), ReportError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, content).map_err(ReportError::write(&temporary))?;
    fs::rename(&temporary, path).map_err(ReportError::write(path))
}

/// What `--output FILE.html` must be: an HTML file in a directory that is there.
pub fn check_output(output: &Path) -> Result<(), ReportError> {
    let ending = output.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if !matches!(ending, "html" | "htm") {
        return Err(ReportError::Usage(format!(
            "--output {}: expected a name that ends with .html (the numbers go beside it as .json and .csv)",
            output.display()
        )));
    }
    match output.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        Some(parent) => Err(ReportError::Usage(format!(
            "--output {}: there is no directory {}; make it first",
            output.display(),
            parent.display()
        ))),
        None => Ok(()),
    }
}

/// A field of a CSV file (RFC 4180).
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_kept_as_numbers() {
        let mut document = Document::new("x");
        document.open_section("s", "A, b");
        let mut table = Table::new("Sizes", ["name", "n"]);
        table.row(vec![Cell::text("say \"hi\""), Cell::integer(1234)]);
        document.table(&table);
        document.close_section();
        let lines: Vec<&str> = document.to_csv().lines().collect();
        assert_eq!(lines[1], "\"A, b\",Sizes,0,name,,\"say \"\"hi\"\"\"");
        assert_eq!(lines[2], "\"A, b\",Sizes,0,n,1234,");
        assert!(document.to_html().contains("<h2>A, b</h2>"));
    }
}
