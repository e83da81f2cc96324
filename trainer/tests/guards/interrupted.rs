//! Signals at a run's end: its last validation is made when the run goes on.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::molecules;
use crate::runs::{Run, Workshop};

#[test]
fn a_last_validation_that_a_signal_cuts_short_is_made_when_the_run_goes_on() {
    let many: Vec<_> = (0..80).map(molecules::molecule).collect();
    let workshop = Workshop::new(&many, &[("few", 0..8)]);
    let settings = [
        "run.dir=cut",
        "schedule.max_steps=1",
        "dataset.set.train=few",
        "dataset.set.val=all",
        "validation.batch_size=1",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_jmp-train"));
    command.current_dir(workshop.path("")).env("OMP_NUM_THREADS", "1").args(["pretrain", "pretrain.toml"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut running = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let run = Run(workshop.path("cut"));
    // With the record of the only step, its validation begins: eighty batches.
    let begin = Instant::now();
    let is_stepped = || {
        std::fs::read_to_string(run.0.join("metrics.jsonl"))
            .is_ok_and(|text| text.contains("\"kind\":\"train\""))
    };
    while !is_stepped() {
        assert!(begin.elapsed() < Duration::from_mins(2), "no step");
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = Command::new("kill").arg("-TERM").arg(running.id().to_string()).status().unwrap();
    assert!(sent.success());
    assert_eq!(running.wait().unwrap().code(), Some(1));
    assert_eq!(run.finished()["ending"], "signal");
    assert!(run.records("validation").is_empty());
    assert_eq!(run.state(1)["validation_due"], true);

    workshop.run(&["pretrain", "--resume", "cut", "--quiet"]);
    assert_eq!(run.finished()["ending"], "max-steps");
    let validations = run.records("validation");
    assert_eq!(validations.len(), 1);
    assert_eq!(run.state(1)["best"]["metric"], validations[0]["metric"]);
    assert!(run.state(1).get("validation_due").is_none());
    // Nothing is left to do.
    workshop.run(&["pretrain", "--resume", "cut", "--quiet"]);
    assert_eq!(run.records("validation").len(), 1);
}
