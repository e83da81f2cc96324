//! Points of a sweep whose runs diverge.

use serde_json::Value;

use super::{call, matbench, train, workshop};

#[test]
fn a_point_that_diverges_leaves_the_others_their_turn() {
    let dir = workshop().join("diverging");
    let arguments = |more: &[&str]| {
        let named = dir.display().to_string();
        let mut all = vec!["--dir", &named, "--over", "optimizer.lr=[1e12, 1e-3]", "--scratch", "--json"];
        all.extend(["--task", "dielectric"]);
        all.extend(more);
        call("sweep", "matbench.toml", &matbench("dielectric"), &dir, &all)
    };
    let first = train(&arguments(&[]));
    assert_eq!(first.code, Some(1), "{first:?}");
    let rows =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let told = rows(&first.stdout);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0]["settings"][0], "optimizer.lr=0.001");
    assert!(told[0]["best"]["metric"].as_f64().is_some() && told[0].get("failure").is_none());
    let why = told[1]["failure"].as_str().unwrap();
    assert!(why.contains("step") && why.contains("structures of the batch"), "{why}");
    // A finished and a failed point stay as they are, until someone asks for another try.
    let log = |point: &str| std::fs::read_to_string(dir.join(point).join("train.log")).unwrap();
    let points = ["optimizer.lr=0.001", "optimizer.lr=1000000000000.0"];
    let before = points.map(log);
    let again = train(&arguments(&[]));
    assert_eq!((again.code, rows(&again.stdout)), (Some(1), told.clone()));
    assert_eq!(points.map(log), before);
    let retried = train(&arguments(&["--retry-failed"]));
    assert_eq!(retried.code, Some(1));
    assert_eq!(rows(&retried.stdout)[1]["failure"], told[1]["failure"]);
    assert_eq!(log(points[0]), before[0]);
    assert_ne!(log(points[1]), before[1]);
}
