//! What happens to the others when a rank is killed or fails.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::programs::{Ended, Run, Workshop, distance, free_port, wait_for};

/// How long ranks may go on after one of them is gone.
const BOUND: Duration = Duration::from_secs(40);

/// Processes that `parent` started, by rank.
fn children(parent: &Child) -> Vec<Pid> {
    let id = parent.id();
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let mut ids: Vec<i32> = text.split_whitespace().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    ids.into_iter().map(Pid::from_raw).collect()
}

fn is_running(id: Pid) -> bool {
    kill(id, None::<Signal>).is_ok()
}

#[test]
fn distributed_a_killed_rank_stops_the_others_and_the_run_goes_on_with_any_number() {
    let workshop = Workshop::new();
    let whole = workshop.pretrain("whole", &[]);
    for (dir, victim, resumed_with) in [("first", 0, "3"), ("second", 1, "1"), ("third", 2, "2")] {
        let setting = format!("run.dir={dir}");
        let mut parent = workshop
            .command(&["pretrain", "config.toml", "--quiet", "--ranks", "3", "--set", &setting])
            .spawn()
            .unwrap();
        let run = Run(workshop.path(dir));
        wait_for(&run.checkpoint(4), &mut parent);
        let ranks = children(&parent);
        assert_eq!(ranks.len(), 3);
        kill(ranks[victim], Signal::SIGKILL).unwrap();
        let begin = Instant::now();
        let ended = Ended::of(parent);
        assert!(begin.elapsed() < BOUND, "it took {:?}", begin.elapsed());
        assert_eq!(ended.code(), Some(1), "{}", ended.errors());
        let told = format!("error: rank {victim} was killed by signal SIGKILL");
        assert!(ended.errors().contains(&told), "{}", ended.errors());
        assert!(!ended.errors().contains("panicked"), "{}", ended.errors());
        assert!(ranks.into_iter().all(|rank| !is_running(rank)), "a rank was left behind");
        assert!(!run.checkpoint(22).exists(), "it was killed too late to show anything");
        workshop.run(&["pretrain", "--resume", dir, "--quiet", "--ranks", resumed_with]);
        let (apart, name) = distance(&whole.tensors(22), &run.tensors(22));
        assert!(apart < 1e-12, "{dir}: {name} is {apart:e} apart");
        let (a, b) = (whole.losses(), run.losses());
        assert_eq!(a.len(), b.len(), "steps are there twice or not at all");
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-9 * a), "another order of data");
    }
}

#[test]
fn distributed_bad_data_on_one_rank_ends_all_with_its_message() {
    let workshop = Workshop::new();
    // One rank reads a copy of a dataset whose rows are damaged behind the same manifest: from the first, which is read before
    // training, or only later ones.
    damage(&workshop, "from-first", |_| 4);
    damage(&workshop, "from-middle", |pages| pages / 2);
    // Rank 0 also serves the store through which a failing rank says why.
    for (failing, damaged) in [(1, "from-first"), (0, "from-middle")] {
        let port = free_port();
        let start = |rank: u32| {
            let path = if rank == failing { damaged } else { "large" };
            let set = [format!("dataset.large.path={path}"), format!("run.dir=failing-{failing}")];
            let mut command: Command =
                workshop.command(&["pretrain", "config.toml", "--quiet", "--set", &set[0], "--set", &set[1]]);
            command.env("RANK", rank.to_string()).env("WORLD_SIZE", "2").env("LOCAL_WORLD_SIZE", "2");
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
            command.spawn().unwrap()
        };
        let begin = Instant::now();
        let mut ended: Vec<Ended> = [start(0), start(1)].into_iter().map(Ended::of).collect();
        assert!(begin.elapsed() < BOUND, "it took {:?}", begin.elapsed());
        let (failed, other) = (ended.remove(failing as usize), ended.remove(0));
        assert_eq!(failed.code(), Some(2), "{}", failed.errors());
        assert!(failed.errors().contains("part-00000.parquet"), "{}", failed.errors());
        assert_eq!(other.code(), Some(1), "{}", other.errors());
        let (told, why) = (other.errors(), format!("stops because rank {failing} failed: "));
        assert!(told.contains(&why) && told.contains("part-00000.parquet"), "{told}");
    }
}

/// A copy of the dataset `large` with damaged pages from the byte on that `first` makes of their end.
fn damage(workshop: &Workshop, name: &str, first: impl Fn(usize) -> usize) {
    let (from, copy) = (workshop.path("large"), workshop.path(name));
    for file in walk(&from) {
        let to = copy.join(file.strip_prefix(&from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        if file.extension().is_some_and(|e| e == "parquet") && file.to_string_lossy().contains("part-") {
            // The footer stays whole, so that the file opens.
            let pages = bytes.len() * 2 / 3;
            bytes[first(pages)..pages].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
        }
        std::fs::write(to, bytes).unwrap();
    }
}

#[test]
fn distributed_ranks_with_different_settings_are_refused() {
    let workshop = Workshop::new();
    let port = free_port();
    let start = |rank: u32| {
        let lr = if rank == 1 { "optimizer.lr=2e-3" } else { "optimizer.lr=1e-3" };
        let mut command = workshop.command(&["pretrain", "config.toml", "--quiet", "--set", lr]);
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", "2").env("LOCAL_WORLD_SIZE", "2");
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        command.spawn().unwrap()
    };
    for ended in [start(0), start(1)].into_iter().map(Ended::of) {
        assert_eq!(ended.code(), Some(2), "{}", ended.errors());
        assert!(
            ended.errors().contains("rank 1 has another configuration than rank 0"),
            "{}",
            ended.errors()
        );
    }
    assert!(!workshop.path("run/checkpoints").exists(), "something was left behind");
}

#[test]
fn distributed_a_rank_that_never_comes_is_waited_for_in_vain_but_not_for_long() {
    let workshop = Workshop::new();
    let mut command =
        workshop.command(&["pretrain", "config.toml", "--quiet", "--set", "run.distributed_timeout=3"]);
    command.env("RANK", "0").env("WORLD_SIZE", "2").env("LOCAL_WORLD_SIZE", "2");
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", free_port().to_string());
    let begin = Instant::now();
    let ended = Ended::of(command.spawn().unwrap());
    assert!(begin.elapsed() < BOUND, "it took {:?}", begin.elapsed());
    assert_eq!(ended.code(), Some(1), "{}", ended.errors());
    assert!(ended.errors().contains("rank 0 of 2 could not join the others"), "{}", ended.errors());
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
