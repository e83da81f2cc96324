//! Reads shards with arrow and parquet alone, so that the product's reader does not judge itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, UInt8Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// One structure as stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) numbers: Vec<u8>,
    pub(crate) positions: Vec<f64>,
    pub(crate) energy: Option<f64>,
    pub(crate) forces: Option<Vec<f64>>,
}

/// A dataset's manifest as plain JSON.
pub(crate) fn manifest(dir: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
}

/// All rows in order.
pub(crate) fn rows(dir: &Path) -> Vec<Row> {
    let mut all = Vec::new();
    for part in manifest(dir)["parts"].as_array().unwrap() {
        for batch in batches(&dir.join("data").join(part["file"].as_str().unwrap())) {
            all.extend((0..batch.num_rows()).map(|i| row(&batch, i)));
        }
    }
    all
}

/// The row numbers of every split.
pub(crate) fn splits(dir: &Path) -> BTreeMap<String, Vec<u64>> {
    let names = manifest(dir)["splits"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    names.into_iter().map(|name| (name.clone(), split(dir, &name))).collect()
}

fn split(dir: &Path, name: &str) -> Vec<u64> {
    let mut found = Vec::new();
    for batch in batches(&dir.join("splits").join(format!("{name}.parquet"))) {
        let column =
            |name: &str| batch.column_by_name(name).unwrap().as_primitive::<UInt64Type>().values().to_vec();
        for (start, length) in column("start").into_iter().zip(column("length")) {
            found.extend(start..start + length);
        }
    }
    found
}

/// The record batches of a Parquet file.
pub(crate) fn batches(path: &Path) -> Vec<RecordBatch> {
    let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect()
}

fn row(batch: &RecordBatch, i: usize) -> Row {
    let column =
        |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}")).clone();
    let text = |name: &str| column(name).as_string::<i32>().value(i).to_string();
    let energy = column("energy");
    Row {
        id: text("id"),
        group: text("group"),
        numbers: column("atomic_numbers")
            .as_list::<i32>()
            .value(i)
            .as_primitive::<UInt8Type>()
            .values()
            .to_vec(),
        positions: floats(&column("positions").as_list::<i32>().value(i)),
        energy: energy.is_valid(i).then(|| energy.as_primitive::<Float64Type>().value(i)),
        forces: batch
            .column_by_name("forces")
            .filter(|c| c.is_valid(i))
            .map(|c| floats(&c.as_list::<i32>().value(i))),
    }
}

/// Floats of either width as f64.
pub(crate) fn floats(array: &ArrayRef) -> Vec<f64> {
    match array.data_type() {
        DataType::Float32 => {
            array.as_primitive::<Float32Type>().values().iter().map(|&x| f64::from(x)).collect()
        }
        DataType::Float64 => array.as_primitive::<Float64Type>().values().to_vec(),
        other => panic!("expected floats, found {other}"),
    }
}
