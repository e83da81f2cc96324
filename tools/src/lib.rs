//! Reports about shards and runs: what is in the data, how training went.
//!
//! Everything is gathered into plain structs ([`report::Report`]), which are written twice: as JSON for machines and as one
//! self-contained HTML page with SVG plots for people. So both always say the same.
//!
//! - [`dataset_report`], [`counts`], [`energies`], [`mix`]: what is gathered from shards
//! - [`run_report`], [`evaluation`], [`series`]: what is gathered from run directories
//! - [`dataset_page`], [`run_page`], [`summary_page`], [`html`], [`svg`]: how it is shown

pub mod cmd;
pub mod counts;
pub mod dataset_page;
pub mod dataset_report;
pub mod energies;
mod error;
pub mod evaluation;
pub mod histogram;
pub mod html;
pub mod mix;
pub mod number;
pub mod report;
pub mod run_page;
pub mod run_report;
pub mod series;
pub mod summary_page;
pub mod svg;

pub use error::ReportError;
