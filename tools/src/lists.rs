//! The lists beside a dataset: what was rejected at conversion, and what was stored but looks suspicious.

use std::collections::BTreeMap;
use std::path::Path;

use polars::prelude::*;
use serde::Serialize;
use shards::checks::Check;

use crate::counts::{collect, scan};
use crate::error::ReportError;

/// A structure that a check found suspicious.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suspect {
    /// Its id.
    pub id: String,
    /// Its row.
    pub row: u64,
    /// What was found.
    pub value: f64,
    /// The bound that it passes; for duplicates the earlier row.
    pub limit: f64,
}

/// What one check found in a dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckResult {
    /// The check's name.
    pub check: String,
    /// What it means.
    pub meaning: String,
    /// Structures it found.
    pub structures: u64,
    /// The first of them; `outliers.parquet` has more.
    pub first: Vec<Suspect>,
}

/// The first rejected structures of a dataset: id, reason.
pub fn first_rejects(dir: &Path, limit: u32) -> Result<Vec<(String, String)>, ReportError> {
    let path = shards::rejects::path(dir);
    if !path.is_file() {
        return Ok(vec![]);
    }
    let read = || -> PolarsResult<Vec<(String, String)>> {
        let frame =
            collect(scan(std::slice::from_ref(&path))?.select([col("id"), col("reason")]).limit(limit))?;
        let (ids, reasons) = (frame.column("id")?.str()?, frame.column("reason")?.str()?);
        let text = |value: Option<&str>| value.unwrap_or_default().to_string();
        Ok(ids.iter().zip(reasons.iter()).map(|(id, reason)| (text(id), text(reason))).collect())
    };
    read().map_err(ReportError::columns(dir, "rejects.parquet"))
}

/// What each check of the manifest found, with the first `limit` structures of each.
pub fn checks(
    dir: &Path,
    counts: &BTreeMap<String, u64>,
    limit: usize,
) -> Result<Vec<CheckResult>, ReportError> {
    let path = shards::suspects::path(dir);
    let mut listed = BTreeMap::new();
    if path.is_file() {
        listed = suspects(&path, limit).map_err(ReportError::columns(dir, "outliers.parquet"))?;
    }
    let meaning = |code: &str| {
        let known = Check::ALL.into_iter().find(|c| c.code() == code);
        known.map_or_else(|| code.to_string(), |c| c.meaning().to_string())
    };
    let result = |(code, &structures): (&String, &u64)| CheckResult {
        check: code.clone(),
        meaning: meaning(code),
        structures,
        first: listed.remove(code).unwrap_or_default(),
    };
    Ok(counts.iter().map(result).collect())
}

/// At most 1,000 rows of each check are in the file, so it is read whole.
fn suspects(path: &Path, limit: usize) -> PolarsResult<BTreeMap<String, Vec<Suspect>>> {
    let frame = collect(scan(&[path.to_path_buf()])?)?;
    let (rows, ids) = (frame.column("row")?.u64()?, frame.column("id")?.str()?);
    let (checks, values) = (frame.column("check")?.str()?, frame.column("value")?.f64()?);
    let limits = frame.column("limit")?.f64()?;
    let mut found: BTreeMap<String, Vec<Suspect>> = BTreeMap::new();
    let columns = rows.iter().zip(ids.iter()).zip(checks.iter()).zip(values.iter().zip(limits.iter()));
    for (((row, id), check), (value, bound)) in columns {
        let all = found.entry(check.unwrap_or_default().to_string()).or_default();
        if all.len() < limit {
            let (row, id) = (row.unwrap_or(0), id.unwrap_or_default().to_string());
            let (value, limit) = (value.unwrap_or(f64::NAN), bound.unwrap_or(f64::NAN));
            all.push(Suspect { id, row, value, limit });
        }
    }
    Ok(found)
}
