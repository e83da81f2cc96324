//! Files of `jmp-train embed` (docs/embeddings.md).

use std::path::Path;

use polars::prelude::*;

use super::points::Points;
use crate::error::ReportError;

/// One level of a model's embeddings: a vector for each of some rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// The vectors.
    pub vectors: Points,
    /// The row of each; rows without a vector are left out.
    pub rows: Vec<usize>,
}

/// Embedded structures.
#[derive(Debug, Clone, PartialEq)]
pub struct Structures {
    /// The dataset of each row.
    pub datasets: Vec<String>,
    /// The id of each row.
    pub ids: Vec<String>,
    /// Its formula in Hill order.
    pub formulas: Vec<String>,
    /// h̃, the mean over atoms (eq. 3).
    pub node: Level,
    /// m̃, the mean over edges.
    pub edge: Level,
}

/// Embeddings of the elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Elements {
    /// Atomic number of each row.
    pub atomic_numbers: Vec<u8>,
    /// Whether the element occurs in the training data; `None` where the file does not tell.
    pub trained: Vec<Option<bool>>,
    /// The vectors.
    pub vectors: Points,
}

/// Reads structures. They must fit into memory: 100 MB for 20,000 of JMP-L.
pub fn structures(path: &Path) -> Result<Structures, ReportError> {
    let columns = ["dataset", "id", "formula", "node", "edge"];
    let frame = read(path, "--output of `jmp-train embed`", &columns)?;
    let text = |name: &str| -> Result<Vec<String>, ReportError> {
        let column = frame.column(name).and_then(|c| c.str().cloned()).map_err(wrong(path, name))?;
        Ok(column.iter().map(|t| t.unwrap_or_default().to_string()).collect())
    };
    let (node, edge) = (level(&frame, "node", path)?, level(&frame, "edge", path)?);
    Ok(Structures { datasets: text("dataset")?, ids: text("id")?, formulas: text("formula")?, node, edge })
}

/// Reads elements.
pub fn elements(path: &Path) -> Result<Elements, ReportError> {
    let columns = ["atomic_number", "trained", "embedding"];
    let frame = read(path, "--atoms of `jmp-train embed`", &columns)?;
    let numbers = frame.column("atomic_number").and_then(|c| c.u8().cloned());
    let numbers = numbers.map_err(wrong(path, "atomic_number"))?;
    let trained = frame.column("trained").and_then(|c| c.cast(&DataType::Boolean));
    let trained = trained.and_then(|c| c.bool().cloned()).map_err(wrong(path, "trained"))?;
    let Level { vectors, rows } = level(&frame, "embedding", path)?;
    let pick = |row: &usize| (numbers.get(*row), trained.get(*row));
    let (numbers, trained): (Vec<Option<u8>>, Vec<Option<bool>>) = rows.iter().map(pick).unzip();
    let atomic_numbers = numbers.into_iter().map(Option::unwrap_or_default).collect();
    Ok(Elements { atomic_numbers, trained, vectors })
}

fn read(path: &Path, made_by: &str, columns: &[&str]) -> Result<DataFrame, ReportError> {
    if !path.is_file() {
        let text = format!("{}: no such file; expected the {made_by}", path.display());
        return Err(ReportError::Usage(text));
    }
    let name = PlRefPath::try_from_path(path).map_err(wrong(path, "its name"))?;
    let other = |found: String| ReportError::Run {
        path: path.to_path_buf(),
        problem: format!("expected the {made_by} with columns {}, found {found}", columns.join(", ")),
    };
    let mut frame =
        LazyFrame::scan_parquet(name, ScanArgsParquet::default()).map_err(|e| other(e.to_string()))?;
    let schema = frame.collect_schema().map_err(|e| other(e.to_string()))?;
    if columns.iter().any(|name| !schema.contains(name)) {
        let found: Vec<&str> = schema.iter_names().map(PlSmallStr::as_str).collect();
        return Err(other(found.join(", ")));
    }
    let chosen: Vec<Expr> = columns.iter().map(|name| col(*name)).collect();
    frame.select(chosen).collect().map_err(|e| other(e.to_string()))
}

fn wrong(path: &Path, what: &str) -> impl FnOnce(PolarsError) -> ReportError {
    let (path, what) = (path.to_path_buf(), what.to_string());
    move |e| ReportError::Run {
        path,
        problem: format!("column {what}: {e}; write it anew with `jmp-train embed`"),
    }
}

/// A column of vectors of equal length.
fn level(frame: &DataFrame, name: &str, path: &Path) -> Result<Level, ReportError> {
    let column = frame.column(name).map_err(wrong(path, name))?;
    let known = column.is_not_null();
    let rows: Vec<usize> =
        known.iter().enumerate().filter(|(_, k)| *k == Some(true)).map(|(i, _)| i).collect();
    let of = || -> PolarsResult<Points> {
        let width = match column.dtype() {
            DataType::Array(_, width) => *width,
            other => polars_bail!(SchemaMismatch: "expected a fixed-size list of numbers, found {other}"),
        };
        let kept = column.filter(&known)?.cast(&DataType::Array(Box::new(DataType::Float64), width))?;
        let values = kept
            .as_materialized_series()
            .explode(ExplodeOptions { empty_as_null: false, keep_nulls: true })?;
        let values: Vec<f64> = values.f64()?.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
        Ok(Points::new(width, values))
    };
    let vectors = of().map_err(wrong(path, name))?;
    if let Some(row) = vectors.iter().position(|v| v.iter().any(|x| !x.is_finite())) {
        let problem = format!(
            "column {name}, row {}: not a finite vector; the model that made it is broken",
            rows[row]
        );
        return Err(ReportError::Run { path: path.to_path_buf(), problem });
    }
    Ok(Level { vectors, rows })
}
