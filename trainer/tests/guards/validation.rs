//! Validations that tell nothing.

use crate::runs::{Workshop, structures};

/// One step throws the weights out of any range; its own loss is finite.
const DIVERGES: [&str; 5] = [
    "optimizer.lr=1e300",
    "schedule.warmup_steps=0",
    "validation.every_steps=1",
    "dataset.set.val=all",
    "schedule.max_steps=1",
];

#[test]
fn a_metric_that_is_not_finite_stops_the_run_and_spoils_nothing() {
    let workshop = Workshop::new(&structures(), &[]);
    let words = ["the run stopped: step 1: the validation's metric is ", "guard.non_finite=skip"];
    let run = workshop.stops("pretrain", "run", &DIVERGES, 1, &words);
    assert!(run.state(0)["best"].is_null());
    // What is there can be used.
    let resumed = ["pretrain", "--resume", "run", "--quiet", "--set", "guard.non_finite=skip"];
    workshop.run(&resumed);
    assert_eq!(run.finished()["ending"], "max-steps");
}

#[test]
fn a_metric_that_is_not_finite_is_never_the_best() {
    let workshop = Workshop::new(&structures(), &[]);
    let run = workshop.train("pretrain", "run", &[&DIVERGES[..], &["guard.non_finite=skip"]].concat());
    assert!(run.finished()["best"].is_null());
    let state = run.state(1);
    assert_eq!(
        (&state["best"], &state["skipped"], &state["stale_validations"]),
        (&().into(), &1.into(), &1.into())
    );
    assert!(!run.0.join("checkpoints/best.json").exists());
    assert_eq!(run.records("skipped")[0]["step"], 1);
    assert!(run.log().contains("the validation's metric is"), "{}", run.log());
    workshop.run(&["pretrain", "--resume", "run", "--quiet"]);
    let spent = [&DIVERGES[..4], &["guard={ non_finite = \"skip\", max_skips = 1 }"]].concat();
    workshop.stops("pretrain", "spent", &spent, 1, &["guard.max_skips = 1 are used up"]);
}
