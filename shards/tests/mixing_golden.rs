//! Temperature mixing against the reference's own values.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::PathBuf;

use shards::stream::{Temperature, expanded_sizes};

#[allow(clippy::disallowed_methods, reason = "where golden files lie is the tests' own setting")]
fn golden() -> serde_json::Value {
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/training"));
    let dir = std::env::var("JMP_TRAINING_GOLDEN_DIR").map_or(default, PathBuf::from);
    let file = dir.join("mixing.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn expanded_sizes_equal_the_reference() {
    let golden = golden();
    let cases = golden["mixing"].as_array().unwrap();
    assert!(cases.len() >= 20);
    let numbers =
        |v: &serde_json::Value| v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>();
    for case in cases {
        let temperature = case["temperature"].as_f64().map_or(Temperature::Infinite, Temperature::Finite);
        let got = expanded_sizes(&numbers(&case["sizes"]), temperature).unwrap();
        assert_eq!(got, numbers(&case["expanded"]), "{}, T = {}", case["sizes"], case["temperature"]);
    }
}
