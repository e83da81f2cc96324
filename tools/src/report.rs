//! The whole report of `jmp-tools stats` and its files.

use serde::Serialize;

use crate::coverage::Coverage;
use crate::dataset_report::DatasetReport;
use crate::document::Document;
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
    /// Which elements the datasets share.
    pub coverage: Coverage,
    /// The mix at each temperature.
    pub mix: Vec<Mix>,
    /// Runs in the order given.
    pub runs: Vec<RunReport>,
}

/// More datasets than this are shown closed, each with its head only.
const SHOWN_OPEN: usize = 4;

impl Report {
    /// The page, for people, with the numbers of its tables and plots.
    pub fn to_document(&self) -> Document {
        let mut document = Document::new("Datasets and runs");
        summary_page::render(&mut document, self);
        let open = self.datasets.len() <= SHOWN_OPEN;
        for (index, dataset) in self.datasets.iter().enumerate() {
            dataset_page::render(&mut document, dataset, &html::dataset_anchor(index), open);
        }
        for (index, run) in self.runs.iter().enumerate() {
            run_page::render(&mut document, run, &html::run_anchor(index));
        }
        document
    }
}
