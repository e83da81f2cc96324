//! Structures that exceed a limit, and the number of those validated on.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::runs::{Run, Workshop, structures, without_times};

const SKIP: [&str; 4] = [
    "sampling.max_atoms=15",
    "sampling.oversize=\"skip\"",
    "dataset.set.val=all",
    "checkpoint.every_steps=2",
];

/// With a limit of atoms that the largest molecules exceed by themselves.
fn skipping(workshop: &Workshop, dir: &str, more: &[&str]) -> Run {
    let set = SKIP.map(|set| set.replace("=15", "=7"));
    let set: Vec<&str> = set.iter().map(String::as_str).chain(more.iter().copied()).collect();
    workshop.train("pretrain", dir, &set)
}

/// Rows left out in all steps, by how often.
fn left_out(run: &Run) -> BTreeMap<u64, u32> {
    let mut rows = BTreeMap::new();
    for record in run.records("left-out") {
        for row in record["rows"]["set"].as_array().unwrap() {
            *rows.entry(row.as_u64().unwrap()).or_default() += 1;
        }
    }
    rows
}

#[test]
fn structures_that_are_too_large_are_counted_and_the_run_comes_to_its_end() {
    let workshop = Workshop::new(&structures(), &[]);
    let run = skipping(&workshop, "run", &[]);
    let finished = run.finished();
    // Thirty structures twice, of which six each time have eight atoms.
    assert_eq!(
        (&finished["ending"], &finished["samples"], &finished["left_out"]),
        (&"complete".into(), &60.into(), &12.into())
    );
    let large: BTreeMap<u64, u32> = (0..30).filter(|row| row % 5 == 4).map(|row| (row, 2)).collect();
    assert_eq!(left_out(&run), large);
    assert!(run.log().contains("structures left out for their size (set row "), "{}", run.log());
    // Validated and saved after the last step, whose rate is near the cosine's floor.
    let step = finished["step"].as_u64().unwrap();
    let state = run.state(step);
    assert_eq!((&state["position"]["samples"], &state["left_out"]), (&60.into(), &12.into()));
    assert_eq!(run.records("validation").last().unwrap()["step"], step);
    let last = run.records("train").pop().unwrap()["lr"].as_f64().unwrap();
    assert!(last < 1.5e-4, "{last}");
    // A kill and a resumption in the middle count nothing twice.
    let killed = run.killed_after(4, &workshop.path("killed"));
    assert!(step > 6);
    workshop.run(&["pretrain", "--resume", "killed", "--quiet"]);
    assert_eq!(killed.tensors(step), run.tensors(step));
    assert_eq!(killed.finished()["left_out"], 12);
    assert_eq!(left_out(&killed), large);
    assert_eq!(without_times(killed.records("train")), without_times(run.records("train")));
}

#[test]
fn a_fraction_of_an_epoch_ends_with_a_checkpoint_where_structures_are_left_out() {
    let workshop = Workshop::new(&structures(), &[]);
    let run = skipping(&workshop, "run", &["schedule.epochs=0.5", "checkpoint.every_steps=1000"]);
    let finished = run.finished();
    assert_eq!(finished["ending"], "complete");
    assert!(finished["samples"].as_u64().unwrap() >= 15);
    assert!(run.checkpoint(finished["step"].as_u64().unwrap()).is_dir());
}

#[test]
fn budgets_of_atoms_bound_batches() {
    let workshop = Workshop::new(&structures(), &[]);
    let run = workshop.train("pretrain", "run", &SKIP);
    let steps = run.records("train");
    // Structures of a step: at most 15 atoms, so at most three of the smallest, and none left out.
    let samples: Vec<u64> = steps.iter().map(|step| step["samples"].as_u64().unwrap()).collect();
    let sizes = samples.iter().scan(0, |before, now| Some(now - std::mem::replace(before, *now)));
    assert!(sizes.clone().all(|n| (1..=3).contains(&n)) && sizes.clone().any(|n| n > 1), "{samples:?}");
    assert_eq!(samples.last(), Some(&60));
    assert_eq!(run.finished()["left_out"], 0);
    workshop.stops("pretrain", "error", &["sampling.max_atoms=7"], 2, &["atoms", "7", "oversize"]);
}

#[test]
fn as_many_structures_are_validated_on_as_asked_for() {
    let workshop = Workshop::new(&structures(), &[]);
    let judged = |dir: &str, set: &[&str]| -> Value {
        let set = [&["dataset.val=all", "validation.max_structures=13", "stop.max_steps=1"], set].concat();
        workshop.train("finetune", dir, &set).records("validation").pop().unwrap()
    };
    let one = judged("one", &["validation.batch_size=1"]);
    let metric = |record: &Value| record["metric"].as_f64().unwrap();
    for (dir, set) in [
        ("four", "validation.batch_size=4"),
        ("thirty", "validation.batch_size=30"),
        ("budget", "sampling={ batch_size = 8, max_atoms = 40 }"),
    ] {
        let other = judged(dir, &[set]);
        assert_eq!(other["tasks"]["set"]["structures"], 13, "{dir}");
        if dir != "budget" {
            assert!((metric(&other) - metric(&one)).abs() < 1e-12 * metric(&one), "{dir}: {other} {one}");
        }
    }
}
