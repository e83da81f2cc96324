//! Reports about shards and runs: what is in the data, how training went.
//!
//! Everything is gathered into plain structs ([`report::Report`] for `stats`), which are written several times: as JSON for
//! machines, and as one self-contained HTML page with SVG plots for people, whose tables and plots are kept as CSV too
//! ([`document::Document`]). So all say the same.
//!
//! - [`dataset_report`], [`counts`], [`lists`], [`sample`], [`coverage`], [`mix`]: what is gathered from shards
//! - [`run_report`], [`sessions`], [`evaluation`], [`series`]: what is gathered from run directories
//! - [`distribution`], [`histogram`], [`sampling`], [`memory`], [`mass`]: what numbers become
//! - [`overlap`]: which structures of some sets occur in others
//! - [`paper`], [`results`], [`compare`], [`cost`], [`settings`]: runs beside one another and beside the paper
//! - [`embedding`]: maps of structures and similarities of elements
//! - [`document`], [`html`], [`svg`], [`number`]: pages, on which every command builds
//! - [`dataset_page`], [`coverage_page`], [`run_page`], [`summary_page`]: the page of `stats`

pub mod cmd;
pub mod compare;
pub mod cost;
pub mod counts;
pub mod coverage;
pub mod coverage_page;
pub mod dataset_page;
pub mod dataset_report;
pub mod distribution;
pub mod document;
pub mod embedding;
mod error;
pub mod evaluation;
pub mod histogram;
pub mod html;
pub mod lists;
pub mod mass;
pub mod memory;
pub mod mix;
pub mod number;
pub mod overlap;
pub mod paper;
pub mod report;
pub mod results;
pub mod run_page;
pub mod run_report;
pub mod sample;
mod sample_page;
pub mod sampling;
pub mod series;
pub mod sessions;
pub mod settings;
pub mod summary_page;
pub mod svg;

pub use error::ReportError;
