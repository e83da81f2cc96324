//! Where a command's page goes and what it says of it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::document::{Document, check_output};
use crate::error::ReportError;

/// Arguments that commands with a page share.
#[derive(Debug, Args)]
pub(super) struct PageArgs {
    /// The page; the same numbers go beside it, with the endings .json and .csv.
    #[arg(long, value_name = "FILE.html", default_value = "report.html")]
    pub(super) output: PathBuf,
    /// Print the numbers as JSON to standard output.
    #[arg(long)]
    json: bool,
    /// Say nothing but errors.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

impl PageArgs {
    /// Refuses a page that cannot be written, before anything is read.
    pub(super) fn check(&self) -> Result<(), ReportError> {
        check_output(&self.output)
    }

    /// Writes page and numbers and tells: the JSON, or `lines` and the files' names (`more` among them).
    pub(super) fn finish(
        &self,
        report: &impl Serialize,
        document: &Document,
        (lines, more): (&[String], &[PathBuf]),
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let mut json = serde_json::to_string_pretty(report).context("cannot write the numbers as JSON")?;
        json.push('\n');
        let mut files = document.write(&self.output, &json)?;
        files.extend_from_slice(more);
        self.tell(&json, (lines, &files), out).context("cannot write to standard output")
    }

    fn tell(
        &self,
        json: &str,
        (lines, files): (&[String], &[PathBuf]),
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        if self.json {
            return out.write_all(json.as_bytes());
        }
        if self.quiet {
            return Ok(());
        }
        for line in lines {
            writeln!(out, "{line}")?;
        }
        let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        writeln!(out, "{}", names.join(", "))
    }
}
