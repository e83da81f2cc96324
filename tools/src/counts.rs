//! Distributions of scalar columns over whole datasets, by lazy polars scans of `data/*.parquet`.
//!
//! Only the columns asked for are decoded, and the streaming engine holds a few morsels at a time; what is kept are counts by
//! value. Values above a million are counted in steps of less than a thousandth of themselves, so memory stays bounded at any
//! number of rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use polars::prelude::*;
use serde::Serialize;
use shards::Dataset;

use crate::distribution::RealDistribution;
use crate::error::ReportError;
use crate::histogram::{Histogram, LinearBins};

/// Count columns (docs/format.md §3) with their names for people.
pub const COLUMNS: [(&str, &str); 8] = [
    ("edges_main", "edges, main graph"),
    ("edges_atom_edge", "edges, atom–edge graph"),
    ("edges_quadruplet", "edges, quadruplet graph"),
    ("edges_atom_atom", "edges, atom–atom graph"),
    ("triplets", "triplets"),
    ("triplets_atom_edge", "triplets, atom–edge"),
    ("triplets_edge_atom", "triplets, edge–atom"),
    ("quadruplets", "quadruplets"),
];

const NATOMS: &str = "natoms";
const ENERGY: &str = "energy";

/// From each limit on, values are counted in steps of the given size.
const STEPS: [(u64, u64); 2] = [(1 << 20, 1 << 8), (1 << 26, 1 << 14)];

/// A count column over all rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CountDistribution {
    /// The column.
    pub column: String,
    /// Its name for people.
    pub title: String,
    /// Sum over all structures.
    pub total: u64,
    /// Mean a structure.
    pub mean: f64,
    /// Smallest.
    pub min: u64,
    /// Median (the lower one; above a million rounded down by less than a thousandth).
    pub median: u64,
    /// 95 % of the structures have at most this (rounded likewise).
    pub p95: u64,
    /// Largest.
    pub max: u64,
    /// The distribution.
    pub histogram: Histogram,
}

/// The Parquet files of a dataset, checked to be there in full.
#[derive(Debug, Clone)]
pub struct Table {
    dir: PathBuf,
    files: Vec<PathBuf>,
    rows: u64,
}

impl Table {
    /// Looks at each file's size, so that a missing or cut file is named before anything is read.
    pub fn open(dataset: &Dataset) -> Result<Self, ReportError> {
        let dir = dataset.directory()?;
        let mut files = vec![];
        for part in &dataset.manifest().parts {
            let path = dir.join("data").join(&part.file);
            let found = std::fs::metadata(&path).map(|m| m.len());
            if found.as_ref().ok() != Some(&part.bytes) {
                let found = found.map_or_else(|e| e.to_string(), |n| format!("{n} bytes"));
                let expected = format!("a file of {} bytes", part.bytes);
                return Err(ReportError::Damaged { dir, path, expected, found });
            }
            if part.rows > 0 {
                files.push(path);
            }
        }
        Ok(Self { dir, files, rows: dataset.rows() })
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The distribution of each count column.
    pub fn counts(&self) -> Result<Vec<CountDistribution>, ReportError> {
        let exact: Vec<Expr> = COLUMNS.iter().flat_map(|(name, _)| extremes(name)).collect();
        let exact = Row(self.collect(&self.scan()?.select(exact), "the graph counts")?);
        COLUMNS.iter().map(|(name, title)| self.count_distribution(name, title, &exact)).collect()
    }

    fn count_distribution(
        &self,
        name: &str,
        title: &str,
        exact: &Row,
    ) -> Result<CountDistribution, ReportError> {
        let values = self.values(name)?;
        let total = exact.unsigned(&format!("{name}_sum"));
        Ok(CountDistribution {
            column: name.into(),
            title: title.into(),
            total,
            mean: total as f64 / self.rows as f64,
            min: exact.unsigned(&format!("{name}_min")),
            median: quantile(&values, 0.5),
            p95: quantile(&values, 0.95),
            max: exact.unsigned(&format!("{name}_max")),
            histogram: Histogram::of_integers(&values),
        })
    }

    /// Structures by number of atoms, one entry a size.
    pub fn sizes(&self) -> Result<BTreeMap<u64, u64>, ReportError> {
        self.values(NATOMS)
    }

    /// Structures by the value of a whole-number column, large values rounded down by less than a thousandth.
    fn values(&self, name: &str) -> Result<BTreeMap<u64, u64>, ReportError> {
        let value = col(name).cast(DataType::Int64);
        let [(first, fine), (second, coarse)] =
            STEPS.map(|(limit, step)| (lit(limit as i64), lit(step as i64)));
        let stepped = |step: Expr| value.clone() - value.clone() % step;
        let rounded = when(value.clone().lt(first))
            .then(value.clone())
            .otherwise(when(value.clone().lt(second)).then(stepped(fine)).otherwise(stepped(coarse)));
        self.grouped(self.scan()?.select([rounded.alias("key")]), name)
    }

    /// Energy divided by the number of atoms, eV. `None` where no structure has an energy.
    pub fn energy_per_atom(&self) -> Result<Option<RealDistribution>, ReportError> {
        let per_atom = (col(ENERGY) / col(NATOMS).cast(DataType::Float64)).alias("value");
        let values = self.scan()?.filter(col(ENERGY).is_not_null()).select([per_atom]);
        let extremes = values.clone().select([
            col("value").count().alias("count"),
            col("value").min().alias("min"),
            col("value").max().alias("max"),
        ]);
        let row = Row(self.collect(&extremes, ENERGY)?);
        let structures = row.unsigned("count");
        if structures == 0 {
            return Ok(None);
        }
        let (min, max) = (row.real("min"), row.real("max"));
        let above = col("value") - lit(min);
        let sums = [exact_sum("d", above.clone()), exact_sum("dd", above.clone() * above)].concat();
        let row = Row(self.collect(&values.clone().select(sums), ENERGY)?);
        let count = structures as f64;
        let mean = row.exact("d") / count;
        let std = (row.exact("dd") / count - mean.powi(2)).max(0.0).sqrt();
        let bins = LinearBins::covering(min, max);
        let index = ((col("value") - lit(bins.low())) / lit(bins.width())).cast(DataType::Int64);
        let counted = self.grouped(values.select([index.alias("key")]), ENERGY)?;
        let counted = counted.into_iter().map(|(index, n)| (index as u32, n)).collect();
        let histogram = bins.histogram(&counted);
        Ok(Some(RealDistribution {
            count: structures,
            mean: min + mean,
            std,
            min,
            max,
            beyond: 0,
            histogram,
        }))
    }

    /// Rows by the values of a non-negative column `key`.
    fn grouped(&self, keys: LazyFrame, what: &str) -> Result<BTreeMap<u64, u64>, ReportError> {
        let counted = keys.group_by([col("key")]).agg([len().cast(DataType::UInt64).alias("rows")]);
        let frame = self.collect(&counted, what)?;
        let pairs = || -> PolarsResult<Vec<(Option<i64>, Option<u64>)>> {
            let (keys, rows) = (frame.column("key")?.i64()?, frame.column("rows")?.u64()?);
            Ok(keys.iter().zip(rows.iter()).collect())
        };
        let pairs = pairs().map_err(ReportError::columns(&self.dir, what))?;
        Ok(pairs.into_iter().filter_map(|(key, rows)| Some((key?.max(0) as u64, rows?))).collect())
    }

    fn scan(&self) -> Result<LazyFrame, ReportError> {
        scan(&self.files).map_err(ReportError::columns(&self.dir, "the Parquet files"))
    }

    fn collect(&self, frame: &LazyFrame, what: &str) -> Result<DataFrame, ReportError> {
        collect(frame.clone()).map_err(ReportError::columns(&self.dir, what))
    }
}

pub(crate) fn scan(files: &[PathBuf]) -> PolarsResult<LazyFrame> {
    let sources = files.iter().map(|f| PlRefPath::try_from_path(f)).collect::<PolarsResult<Vec<_>>>()?;
    // Brackets in a user's directory names are not patterns; statistics are not written (docs/format.md).
    let options = ScanArgsParquet { glob: false, cache: false, use_statistics: false, ..Default::default() };
    LazyFrame::scan_parquet_files(sources.into_iter().collect(), options)
}

pub(crate) fn collect(frame: LazyFrame) -> PolarsResult<DataFrame> {
    // One plan without sinks gives one frame; several come of `sink_multiple` only.
    Ok(frame.collect_with_engine(Engine::Streaming)?.unwrap_single())
}

/// Parts of one that fractions are counted in, and parts of those in turn: sums of 10^9 of them still are whole numbers.
const PARTS: f64 = (1_u64 << 32) as f64;

/// The sum of values that are not negative as whole numbers, whole parts and two steps of fractions apart: the same in any order,
/// as sums of floats are not.
fn exact_sum(name: &str, value: Expr) -> [Expr; 3] {
    let whole = |value: &Expr| value.clone().cast(DataType::Int64);
    let rest = |value: &Expr| (value.clone() - whole(value).cast(DataType::Float64)) * lit(PARTS);
    let (parts, finer) = (rest(&value), rest(&rest(&value)));
    [(value, "whole"), (parts, "parts"), (finer, "finer")]
        .map(|(value, which)| whole(&value).sum().alias(format!("{name}_{which}")))
}

fn extremes(name: &str) -> [Expr; 3] {
    let value = col(name).cast(DataType::UInt64);
    [
        value.clone().sum().alias(format!("{name}_sum")),
        value.clone().min().alias(format!("{name}_min")),
        value.max().alias(format!("{name}_max")),
    ]
}

/// The smallest value that at least `share` of the rows do not exceed.
fn quantile(values: &BTreeMap<u64, u64>, share: f64) -> u64 {
    let total: u64 = values.values().sum();
    let wanted = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    for (&value, &rows) in values {
        seen += rows;
        if seen >= wanted {
            return value;
        }
    }
    0
}

/// A frame of one row.
struct Row(DataFrame);

impl Row {
    fn unsigned(&self, name: &str) -> u64 {
        self.value(name).and_then(|v| v.extract()).unwrap_or(0)
    }

    fn real(&self, name: &str) -> f64 {
        self.value(name).and_then(|v| v.extract()).unwrap_or(f64::NAN)
    }

    /// What [`exact_sum`] added up.
    fn exact(&self, name: &str) -> f64 {
        let part = |which: &str| self.real(&format!("{name}_{which}"));
        part("whole") + (part("parts") + part("finer") / PARTS) / PARTS
    }

    fn value(&self, name: &str) -> Option<AnyValue<'_>> {
        self.0.column(name).ok()?.get(0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_count_rows_not_values() {
        let values = BTreeMap::from([(1, 90), (10, 5), (100, 5)]);
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.95), quantile(&values, 1.0)), (1, 10, 100));
        assert_eq!(quantile(&BTreeMap::new(), 0.5), 0);
    }
}
