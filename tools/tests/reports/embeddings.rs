//! Maps and similarities of made-up embeddings.

use std::fs::File;
use std::path::Path;

use polars::prelude::*;

use crate::{report, tools};

const DIMENSIONS: usize = 6;

fn noise(i: usize) -> f32 {
    ((i * 7919 + 104_729) % 10_007) as f32 / 10_007.0
}

fn vectors(name: &str, values: &[f32]) -> Column {
    let flat = Series::new(name.into(), values);
    flat.reshape_array(&[ReshapeDimension::Infer, ReshapeDimension::new(DIMENSIONS as i64)]).unwrap().into()
}

fn write(path: &Path, columns: Vec<Column>) {
    let mut frame = DataFrame::new(columns[0].len(), columns).unwrap();
    ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
}

/// 60 structures of each of two datasets, far apart; `node` and `edge` as `jmp-train embed` writes them.
fn structures(path: &Path) {
    let n = 120;
    let names: Vec<&str> = (0..n).map(|i| if i < 60 { "ani<1>x" } else { "oc20" }).collect();
    let ids: Vec<String> = (0..n).map(|i| format!("id{i}")).collect();
    let values: Vec<f32> =
        (0..n * DIMENSIONS).map(|k| noise(k) + if k / DIMENSIONS < 60 { 20.0 } else { 0.0 }).collect();
    write(
        path,
        vec![
            Column::new("dataset".into(), names),
            Column::new("id".into(), ids),
            Column::new("formula".into(), vec!["CH4"; n]),
            vectors("node", &values),
            vectors("edge", &values),
        ],
    );
}

#[test]
fn a_map_keeps_datasets_apart_and_is_repeated_to_the_bit() {
    let home = tempfile::tempdir().unwrap();
    structures(&home.path().join("e.parquet"));
    let arguments =
        ["embedding-map", "e.parquet", "--per-dataset", "50", "--perplexity", "10", "--iterations", "400"];
    let (json, page, _) = report(home.path(), &arguments);
    assert_eq!(json["datasets"][0], serde_json::json!({"name": "ani<1>x", "structures": 60, "shown": 50}));
    assert_eq!(json["maps"].as_array().unwrap().len(), 2);
    assert_eq!(
        (json["maps"][0]["dimensions"].as_u64(), json["maps"][0]["components"].as_u64()),
        (Some(6), Some(6))
    );
    assert!(page.contains("ani&lt;1&gt;x") && page.contains("no unit and no meaning"));
    assert_eq!(page.matches("<path class=\"dots").count(), 2 * 2 + 2 * 2);
    let places = |home: &Path| {
        let path = PlRefPath::try_from_path(&home.join("page.parquet")).unwrap();
        LazyFrame::scan_parquet(path, ScanArgsParquet::default()).unwrap().collect().unwrap()
    };
    let first = places(home.path());
    assert_eq!(first.height(), 100);
    // What is near on the map is of one dataset; where far groups lie means nothing.
    let (x, y) =
        (first.column("node_x").unwrap().f64().unwrap(), first.column("node_y").unwrap().f64().unwrap());
    let points: Vec<[f64; 2]> = x.iter().zip(y.iter()).map(|(x, y)| [x.unwrap(), y.unwrap()]).collect();
    for i in 0..100 {
        let squared =
            |j: &usize| (points[i][0] - points[*j][0]).powi(2) + (points[i][1] - points[*j][1]).powi(2);
        let near = (0..100).filter(|j| *j != i).min_by(|a, b| squared(a).total_cmp(&squared(b))).unwrap();
        assert_eq!(near / 50, i / 50, "{i} {near}");
    }
    let again = report(home.path(), &arguments);
    assert_eq!((again.0, again.1), (json, page));
    assert!(places(home.path()).equals(&first));
}

#[test]
fn files_of_different_models_are_refused() {
    let home = tempfile::tempdir().unwrap();
    structures(&home.path().join("a.parquet"));
    let other = Series::new("node".into(), &[1.0f32, 2.0]);
    let other: Column =
        other.reshape_array(&[ReshapeDimension::Infer, ReshapeDimension::new(2)]).unwrap().into();
    let mut edge = other.clone();
    edge.rename("edge".into());
    let text = |name: &str| Column::new(name.into(), vec!["x"]);
    write(&home.path().join("b.parquet"), vec![text("dataset"), text("id"), text("formula"), other, edge]);
    let done = tools(home.path(), &["embedding-map", "a.parquet", "b.parquet"]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{told}");
    assert!(
        told.contains(
            "b.parquet: column node: 2 numbers, 6 in a.parquet; all files must come from one model"
        ),
        "{told}"
    );
}

#[test]
fn elements_are_compared() {
    let home = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..4 * DIMENSIONS).map(noise).collect();
    write(
        &home.path().join("atoms.parquet"),
        vec![
            Column::new("atomic_number".into(), [1u8, 6, 8, 29].as_slice()),
            Column::new("trained".into(), [Some(true), Some(true), Some(true), Some(false)].as_slice()),
            vectors("embedding", &values),
        ],
    );
    let (json, page, csv) =
        report(home.path(), &["element-similarity", "atoms.parquet", "--elements", "C,Cu"]);
    let vector = |i: usize| -> Vec<f64> {
        values[i * DIMENSIONS..][..DIMENSIONS].iter().map(|v| f64::from(*v)).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (c, h) = (vector(1), vector(0));
    let expected = dot(&c, &h) / (dot(&c, &c).sqrt() * dot(&h, &h).sqrt());
    assert!((json["elements"][0]["others"][0]["cosine"].as_f64().unwrap() - expected).abs() < 1e-12);
    assert!(page.contains("its vector is random") && page.contains("Cosine with C"));
    assert!(csv.contains("cosine with Cu"));
}
