//! The whole report and its two files.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::dataset_report::DatasetReport;
use crate::error::ReportError;
use crate::html;
use crate::mix::Mix;
use crate::run_report::RunReport;
use crate::{dataset_page, run_page, summary_page};

/// All that the report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Program and version.
    pub tool: String,
    /// Datasets in the order given.
    pub datasets: Vec<DatasetReport>,
    /// The mix at each temperature.
    pub mix: Vec<Mix>,
    /// Runs in the order given.
    pub runs: Vec<RunReport>,
}

impl Report {
    /// The numbers, for machines.
    pub fn to_json(&self) -> String {
        // Strings, numbers and maps with string-like keys: serialising cannot fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The page, for people.
    pub fn to_html(&self) -> String {
        let mut body = summary_page::render(self);
        for (index, dataset) in self.datasets.iter().enumerate() {
            body.push_str(&dataset_page::render(
                dataset,
                &html::dataset_anchor(index),
                self.datasets.len() <= 4,
            ));
        }
        for (index, run) in self.runs.iter().enumerate() {
            body.push_str(&run_page::render(run, &html::run_anchor(index)));
        }
        html::page("Datasets and runs", &self.tool, &body)
    }

    /// Writes the page and, beside it, the numbers; returns the second file's name. Each is renamed into place.
    pub fn write(&self, page: &Path) -> Result<PathBuf, ReportError> {
        let numbers = page.with_extension("json");
        replace(&numbers, &self.to_json())?;
        replace(page, &self.to_html())?;
        Ok(numbers)
    }
}

fn replace(path: &Path, content: &str) -> Result<(), ReportError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, content).map_err(ReportError::write(&temporary))?;
    fs::rename(&temporary, path).map_err(ReportError::write(path))
}
