//! The environments of torchrun and srun, emulated.

use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::molecules;
use crate::programs::{Ended, Run, Workshop, distance, free_port, wait_for};

/// Starts two ranks by hand; `variables` gives those of each.
fn two_ranks(workshop: &Workshop, arguments: &[&str], variables: impl Fn(u32, &mut Command)) -> Vec<Child> {
    let start = |rank| {
        let mut command = workshop.command(arguments);
        variables(rank, &mut command);
        command.spawn().unwrap()
    };
    (0..2).map(start).collect()
}

fn torchrun(port: u16) -> impl Fn(u32, &mut Command) {
    move |rank, command| {
        command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
        command.env("WORLD_SIZE", "2").env("LOCAL_WORLD_SIZE", "2");
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        command.env("TORCHELASTIC_RESTART_COUNT", "0");
    }
}

#[test]
fn distributed_torchrun_and_srun_start_ranks() {
    let workshop = Workshop::new();
    let short = ["--set", "schedule.max_steps=6", "--set", "validation.every_steps=6"];
    let one = workshop.pretrain("one", &short);
    let arguments =
        |dir: &'static str| [&["pretrain", "config.toml", "--quiet", "--set", dir][..], &short].concat();
    let finish = |children: Vec<Child>| {
        for child in children {
            let ended = Ended::of(child);
            assert_eq!(ended.code(), Some(0), "{}", ended.errors());
        }
    };
    finish(two_ranks(&workshop, &arguments("run.dir=torchrun"), torchrun(free_port())));
    let port = free_port();
    finish(two_ranks(&workshop, &arguments("run.dir=srun"), |rank, command| {
        command.env("SLURM_PROCID", rank.to_string()).env("SLURM_LOCALID", rank.to_string());
        command.env("SLURM_NTASKS", "2").env("SLURM_JOB_NODELIST", "localhost");
        command.env("MASTER_PORT", port.to_string());
    }));
    for dir in ["torchrun", "srun"] {
        let (apart, name) = distance(&one.tensors(6), &Run(workshop.path(dir)).tensors(6));
        assert!(apart < 1e-12, "{dir}: {name} is {apart:e} apart");
    }
}

#[test]
fn distributed_launchers_that_make_no_sense_are_refused() {
    let workshop = Workshop::new();
    let refused = |variables: &[(&str, &str)], more: &[&str], words: &[&str]| {
        let mut command = workshop.command(&[&["pretrain", "config.toml"], more].concat());
        command.envs(variables.iter().copied());
        let ended = Ended::of(command.spawn().unwrap());
        assert_eq!(ended.code(), Some(2), "{}", ended.errors());
        for word in words {
            assert!(ended.errors().contains(word), "no `{word}` in: {}", ended.errors());
        }
    };
    refused(&[("RANK", "0"), ("WORLD_SIZE", "2")], &[], &["MASTER_ADDR", "expected", "found nothing"]);
    refused(&[("RANK", "2"), ("WORLD_SIZE", "2")], &[], &["RANK", "found 2 of 2"]);
    let place = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")];
    refused(&place, &["--ranks", "3"], &["--ranks 3", "has started 2 ranks"]);
    let slurm = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2"), ("SLURM_JOB_NODELIST", "gpu[")];
    refused(&slurm, &[], &["SLURM_JOB_NODELIST", "gpu["]);
    refused(&[], &["--ranks", "0"], &["--ranks", "0"]);
    assert!(!workshop.path("run").exists(), "something was left behind");
}

/// Waits for a program that was told to stop and does so without complaint.
fn stopped(program: Child) {
    let ended = Ended::of(program);
    assert_eq!(ended.code(), Some(1), "{}", ended.errors());
    assert!(ended.errors().is_empty(), "{}", ended.errors());
}

#[test]
fn distributed_a_signal_to_one_rank_stops_all_at_one_step() {
    let workshop = Workshop::new();
    let arguments = [
        "pretrain",
        "config.toml",
        "--quiet",
        "--set",
        "schedule.max_steps=2000",
        "--set",
        "schedule.epochs=500",
    ];
    let mut ranks = two_ranks(&workshop, &arguments, torchrun(free_port()));
    let run = Run(workshop.path("run"));
    wait_for(&run.checkpoint(4), &mut ranks[0]);
    kill(Pid::from_raw(ranks[1].id() as i32), Signal::SIGTERM).unwrap();
    ranks.into_iter().for_each(stopped);
    let finished = &run.records("finished")[0];
    assert_eq!(finished["ending"], "signal");
    assert!(run.checkpoint(finished["step"].as_u64().unwrap()).exists());
    // Its parent passes signals on as well.
    let mut parent =
        workshop.command(&["pretrain", "--resume", "run", "--quiet", "--ranks", "3"]).spawn().unwrap();
    let later = finished["step"].as_u64().unwrap() + 8;
    let next = (later - later % 4).max(8);
    wait_for(&run.checkpoint(next), &mut parent);
    kill(Pid::from_raw(parent.id() as i32), Signal::SIGTERM).unwrap();
    stopped(parent);
    let finished = run.records("finished").last().cloned().unwrap();
    assert_eq!(finished["ending"], "signal");
    assert!(run.checkpoint(finished["step"].as_u64().unwrap()).exists());
}

/// A step of many micro-batches is given up by all ranks when one of them is signalled, and comes again.
#[test]
fn distributed_a_signal_in_the_middle_of_a_long_step_stops_all_and_nothing_is_lost() {
    let workshop = Workshop::new();
    // A step of a second or more on any machine: a rank hears of the other's signal within half a second.
    let structures: Vec<_> = (200..400).map(molecules::molecule).collect();
    molecules::write(&workshop.path("many"), &molecules::layout(), &[structures], 1);
    let long = [
        "dataset.large.path=many",
        "sampling.accumulate=200",
        "schedule.max_steps=1",
        "validation.every_steps=100",
        "checkpoint.every_steps=1",
        // There before the step begins, so that what waits for it is not late.
        "checkpoint.background=false",
    ];
    let settings: Vec<&str> = long.iter().flat_map(|setting| ["--set", setting]).collect();
    let arguments = [&["pretrain", "config.toml", "--quiet"], &settings[..]].concat();
    let mut ranks = two_ranks(&workshop, &arguments, torchrun(free_port()));
    let run = Run(workshop.path("run"));
    wait_for(&run.checkpoint(0), &mut ranks[0]);
    // The other rank hears of it through the store.
    kill(Pid::from_raw(ranks[1].id() as i32), Signal::SIGTERM).unwrap();
    ranks.into_iter().for_each(stopped);
    let finished = &run.records("finished")[0];
    assert_eq!((&finished["ending"], &finished["step"]), (&"signal".into(), &0.into()), "the step was made");
    assert!(run.records("train").is_empty() && !run.checkpoint(1).exists());
    workshop.run(&["pretrain", "--resume", "run", "--quiet", "--ranks", "3"]);
    let whole = workshop.pretrain("whole", &settings);
    let (apart, name) = distance(&whole.tensors(1), &run.tensors(1));
    assert!(apart < 1e-12, "{name} is {apart:e} apart");
    // Saved in the middle of a step, a run goes on with it.
    let arguments = [&arguments[..], &["--set", "run.dir=saved"]].concat();
    let mut ranks = two_ranks(&workshop, &arguments, torchrun(free_port()));
    let saved = Run(workshop.path("saved"));
    wait_for(&saved.checkpoint(0), &mut ranks[0]);
    kill(Pid::from_raw(ranks[0].id() as i32), Signal::SIGUSR1).unwrap();
    for rank in ranks {
        let ended = Ended::of(rank);
        assert_eq!(ended.code(), Some(0), "{}", ended.errors());
    }
    let log = std::fs::read_to_string(saved.0.join("train.log")).unwrap();
    let first = log.lines().filter(|line| line.ends_with("step-00000000"));
    assert_eq!(first.count(), 2, "not saved in the middle of the first step: {log}");
    let (apart, name) = distance(&whole.tensors(1), &saved.tensors(1));
    assert!(apart < 1e-12, "{name} is {apart:e} apart");
}
