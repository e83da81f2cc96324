//! What is wrong is told, with exit code 2.

use crate::{runs, tools};

#[track_caller]
fn refused(arguments: &[&str], expected: &str) {
    let home = tempfile::tempdir().unwrap();
    runs::write(&home.path().join("run"), "[model]\npreset = \"tiny\"\n", &[(1.0, 0.5)], None);
    std::fs::write(home.path().join("text.parquet"), "no parquet").unwrap();
    std::fs::create_dir(home.path().join("empty")).unwrap();
    std::fs::create_dir(home.path().join("shards")).unwrap();
    std::fs::write(home.path().join("shards/manifest.json"), "{}").unwrap();
    runs::write(&home.path().join("broken"), "", &[(1.0, 0.5)], None);
    let not_a_number = "{\"kind\":\"evaluation\",\"tasks\":{\"a\":{\"energy_mae\":NaN}}}";
    std::fs::write(home.path().join("broken/evaluation.json"), not_a_number).unwrap();
    let done = tools(home.path(), arguments);
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{told}");
    assert!(told.contains(expected), "expected {expected:?}, told {told:?}");
    assert!(!home.path().join("report.html").exists());
}

#[test]
fn what_is_wrong_is_told() {
    refused(&["compare"], "nothing to compare");
    refused(&["compare", "empty"], "holds no metrics.jsonl");
    refused(&["compare", "shards"], "shards is a dataset, not a run of jmp-train");
    refused(&["stats", "run"], "run is a run, not a dataset: give it as --run run");
    refused(
        &["compare", "run", "--split", "gold"],
        "--split gold: none of the runs was evaluated on it, no split",
    );
    refused(
        &["stats", "--run", "broken"],
        "evaluation.json: expected one JSON object as `jmp-train evaluate --json` prints it, found expected value at line 1",
    );
    refused(&["compare", "--method", "B"], "expected NAME=RUN,RUN,…");
    refused(
        &["results", "run"],
        "expected an evaluation of a test split, found none; run `jmp-train evaluate",
    );
    refused(&["results", "rmd17/gold=run"], "expected one of the paper's tasks before `=`");
    refused(&["cost", "run"], "--power WATTS is needed");
    refused(&["cost", "run=0", "--power", "1"], "expected RUN=N");
    refused(&["cost", "run", "--power=-3"], "--power: expected the watts of one device");
    refused(&["cost", "--hours", "x", "--power", "1"], "expected LABEL=HOURS");
    refused(&["cost", "--output", "page.pdf"], "expected a name that ends with .html");
    refused(&["embedding-map", "none.parquet"], "no such file; expected the --output of `jmp-train embed`");
    refused(&["embedding-map", "text.parquet"], "expected the --output of `jmp-train embed` with columns");
    refused(
        &["element-similarity", "text.parquet"],
        "expected the --atoms of `jmp-train embed` with columns",
    );
}
