//! Temperature mixing against the reference's own values.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use shards::stream::{Temperature, expanded_sizes};

#[test]
fn expanded_sizes_equal_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/training/mixing.json");
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
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
