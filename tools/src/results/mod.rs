//! Our errors beside the paper's.

pub mod figures;
mod figures_page;
mod groups;
#[cfg(test)]
mod made_up;
pub mod ours;
mod page;
pub mod recognise;
pub mod rows;
pub mod variant;

use std::path::{Path, PathBuf};

use serde::Serialize;

use self::figures::{DatasetMean, Scaling, Transfer};
use self::ours::{Judged, Ours};
use self::rows::ResultRow;
use crate::error::ReportError;
use crate::paper::Paper;
use crate::run_report;
use crate::settings::Settings;

pub use page::{document, lines};

/// A run as given on the command line: `RUN` or `TASK=RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The paper's task, where the user names it.
    pub task: Option<String>,
    /// The run's directory.
    pub run: PathBuf,
}

/// What to report on.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Runs from a pre-trained model.
    pub tuned: Vec<Source>,
    /// Runs from scratch.
    pub scratch: Vec<Source>,
    /// The split to take errors of; absent: test splits.
    pub split: Option<String>,
}

/// All that the report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultsReport {
    /// Errors of runs from a pre-trained model.
    pub tuned: Vec<Ours>,
    /// Errors of runs from scratch.
    pub scratch: Vec<Ours>,
    /// Each task that there is an error of, beside the paper's.
    pub rows: Vec<ResultRow>,
    /// Mean relative improvements over training from scratch by dataset (Figure 2c).
    pub means: Vec<DatasetMean>,
    /// What our large models gain over our small ones (Figure 2a and 2b); empty where no task has both.
    pub scaling: Vec<Scaling>,
    /// What pre-training gains on two targets of QM9 (Figure 3).
    pub figure_3: Vec<Transfer>,
}

impl Source {
    /// Parses `RUN` or `TASK=RUN`. A directory whose name has a `=` is meant as it is.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((task, run)) if !Path::new(text).exists() && !run.is_empty() => {
                Ok(Self { task: Some(task.into()), run: run.into() })
            }
            _ => Ok(Self { task: None, run: text.into() }),
        }
    }
}

/// Reads the runs and puts them beside the paper.
pub fn gather(request: &Request, paper: &Paper) -> Result<ResultsReport, ReportError> {
    let read = |sources: &[Source]| -> Result<Vec<Ours>, ReportError> {
        let mut errors = vec![];
        for source in sources {
            errors.extend(ours::of(paper, &judged(source, paper)?, request.split.as_deref())?);
        }
        Ok(errors)
    };
    let (tuned, scratch) = (read(&request.tuned)?, read(&request.scratch)?);
    let contests = groups::contests(paper, &tuned, &scratch);
    let rows = rows::all(paper, &contests);
    let means = figures::means(paper, &contests);
    let scaling = figures::scaling(paper, &contests);
    let figure_3 = figures::figure_3(paper, &contests);
    Ok(ResultsReport { tuned, scratch, rows, means, scaling, figure_3 })
}

fn judged(source: &Source, paper: &Paper) -> Result<Judged, ReportError> {
    if let Some(task) = source.task.as_deref().filter(|id| paper.task(id).is_none()) {
        let known: Vec<&str> = paper.tasks.iter().map(|t| t.id.as_str()).collect();
        let text = format!(
            "{task}={}: expected one of the paper's tasks before `=`: {}",
            source.run.display(),
            known.join(", ")
        );
        return Err(ReportError::Usage(text));
    }
    Ok(Judged {
        report: run_report::gather(&source.run)?,
        settings: Settings::read(&source.run)?,
        task: source.task.clone(),
    })
}
