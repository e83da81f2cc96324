//! The folds that MatBench publishes of three tasks, kept here as hashes of their lists of ids.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ingest::formats::{Format, Options};
use serde_json::Value as Json;

use super::{SODIUM, gzipped, members};
use crate::real_data::samples;
use crate::source;

/// A task whose lists are published (`matbench_<task>_validation.json` of the benchmark's repository).
struct Published {
    task: &'static str,
    /// The target's column.
    column: &'static str,
    rows: usize,
    /// [`hash`] of each fold, computed from the published files by another program.
    hashes: [&'static str; 5],
}

const PUBLISHED: [Published; 3] = [
    Published {
        task: "dielectric",
        column: "n",
        rows: 4764,
        hashes: [
            "b77475a5975b63aa8af6f04d32d765f5f9a103de70106768f7114964b910a8e3",
            "e4dfd4a11bb8b1e232648796b172977c3bd24707e5c955f3c7e166150608fa1e",
            "8dce9c605b5b1b9db0bb2327a6012ffcb15ecde1235701ef06446f6804ed501a",
            "8c3fead4cd848722779124d3ba15807a5b4fc90e9be9310824eb16639eba4686",
            "ec899178e54a673f86b0a9e1579d0ce06f21bfa18da021ad562ec6683dbdaade",
        ],
    },
    Published {
        task: "jdft2d",
        column: "exfoliation_en",
        rows: 636,
        hashes: [
            "60d86649930eadd2fa851defe7ddb81d8de02a36566ff837f841cca65dcfda10",
            "59215f72f838d28a04b5bae8ac7409e055aec800326204477b5df92a96f30440",
            "7160519f88a5138b1765bc971e551441cc55167bf75b89f4a3bcf3cbf283dadb",
            "98fe8b9b76dd9988b72faee81ef9e0ecae2adbe2b550ed2c6ef0947e4e1d2ca0",
            "8729f221ed404b88a79e23ec6e090bb2318da47b69b5e57ec3f553c169394398",
        ],
    },
    Published {
        task: "phonons",
        column: "last phdos peak",
        rows: 1265,
        hashes: [
            "fe9fc16464484842b8f4dd5ed7183495aa05055969c862edd91d5d040496c366",
            "102da1c58b4141493f0ff788e6350ce212d6a23efdac67193fe3ebbdd2717abb",
            "717e6ce68398ed3f0eeda962842554a1a58bfeaa638f2d32563509349fd86e96",
            "23b692db31b6f7220b58f8d92762ca0547c329e5c2773c40a03a66ef39f197bf",
            "74df23e7fd13564030d91d15f61effd3083fc9b4908d49598c49762c94db0999",
        ],
    },
];

/// BLAKE3 of a fold: the ids that it trains and validates on, then those that it tests on, each list sorted, an id a line.
fn hash(train_val: &BTreeSet<String>, test: &BTreeSet<String>) -> String {
    let text: String = train_val.iter().chain(test).flat_map(|id| [id.as_str(), "\n"]).collect();
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The rule needs only the number of rows: one structure, repeated, stands for the data.
fn repeated(dir: &Path, Published { task, column, rows, .. }: &Published) -> PathBuf {
    let index = (0..*rows).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let data = vec![format!("[{SODIUM},1.5]"); *rows].join(",");
    let text = format!(r#"{{"index":[{index}],"columns":["structure","{column}"],"data":[{data}]}}"#);
    gzipped(dir, &format!("matbench_{task}.json.gz"), text.as_bytes())
}

#[test]
fn folds_are_the_published_ones() {
    for published in &PUBLISHED {
        let scratch = tempfile::tempdir().unwrap();
        let path = repeated(scratch.path(), published);
        let source = source(Format::Matbench, &[path], &Options::default());
        assert!(source.warnings().is_empty(), "{:?}", source.warnings());
        for (k, want) in published.hashes.iter().enumerate() {
            let [train_val, test] =
                ["train_val", "test"].map(|part| members(source.as_ref(), &format!("fold{k}_{part}")));
            assert_eq!(hash(&train_val, &test), *want, "{}, fold {k}", published.task);
        }
    }
}

/// Where the published files lie: the hashes are theirs.
#[test]
fn hashes_are_those_of_the_published_lists() {
    let Some(dir) = samples() else { return };
    for Published { task, hashes, .. } in &PUBLISHED {
        let name = format!("matbench_{task}");
        let path = dir.join(format!("matbench/splits/{name}_validation.json"));
        let published: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (k, want) in hashes.iter().enumerate() {
            let fold = &published["splits"][&name][format!("fold_{k}")];
            let list = |key: &str| -> BTreeSet<String> {
                fold[key].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
            };
            assert_eq!(hash(&list("train"), &list("test")), *want, "{task}, fold {k}");
        }
    }
}
