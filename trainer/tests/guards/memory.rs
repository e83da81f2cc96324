//! Memory that is too short for a batch.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::molecules;
use crate::runs::{Run, Workshop};

/// Address space beyond what a small batch needs, KiB: a ninth of what all structures in one need.
const ROOM: u64 = 64 << 10;
/// Exit code where the system sets no limits.
const NO_LIMITS: i32 = 99;

fn pretrain(dir: &str, batch_size: u32) -> Vec<String> {
    let set = [format!("run.dir={dir}"), format!("sampling.batch_size={batch_size}")];
    // All structures once: with a batch of all of them the loader has ended when the only step begins, and nothing but libtorch
    // asks for memory.
    let set = set.into_iter().chain(["schedule.epochs=1".to_owned(), "schedule.max_steps=2".to_owned()]);
    let words = ["pretrain", "pretrain.toml", "--quiet"].map(str::to_owned).into_iter();
    words.chain(set.flat_map(|set| ["--set".to_owned(), set])).collect()
}

/// Most address space that a program has had when it ends, KiB; none where the system does not tell.
fn peak(mut child: Child) -> Option<u64> {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = None;
    while child.try_wait().unwrap().is_none() {
        let told = fs::read_to_string(&status).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmPeak:"));
        peak = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).or(peak);
        thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success(), "the small batch was too large");
    peak
}

#[test]
fn memory_that_is_too_short_is_told_with_the_batch_and_the_run_goes_on_with_more() {
    let structures: Vec<_> = (0..400).map(molecules::molecule).collect();
    let workshop = Workshop::new(&structures, &[]);
    let program = env!("CARGO_BIN_EXE_jmp-train");
    let at = |command: &mut Command| -> Child {
        let command = command.current_dir(workshop.path("")).env("OMP_NUM_THREADS", "1");
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let Some(small) = peak(at(Command::new(program).args(pretrain("small", 1)))) else {
        return eprintln!("skipped: the system does not tell how much memory a program takes");
    };
    let script = format!("ulimit -v {} || exit {NO_LIMITS}; exec \"$0\" \"$@\"", small + ROOM);
    let limited = at(Command::new("sh").args(["-c", &script, program]).args(pretrain("run", 400)));
    let ended = limited.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    if ended.status.code() == Some(NO_LIMITS) {
        return eprintln!("skipped: the system sets no limits: {told}");
    }
    assert_eq!(ended.status.code(), Some(1), "{told}");
    for words in [
        "error: step 0: out of memory for a batch of 400 structures, 2400 atoms, ",
        " atom-atom edges; use a smaller sampling.batch_size with a larger sampling.accumulate",
        "model.recompute = true",
    ] {
        assert!(told.contains(words), "no `{words}` in: {told}");
    }
    assert!(!told.contains("panicked"), "{told}");
    workshop.run(&["pretrain", "--resume", "run", "--quiet"]);
    let run = Run(workshop.path("run"));
    let finished = run.finished();
    assert_eq!((&finished["ending"], &finished["step"]), (&"complete".into(), &1.into()), "{finished}");
    assert_eq!(run.records("train").len(), 1);
}
