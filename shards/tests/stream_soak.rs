//! Memory of a stream that runs for long: it grows to its windows and batches, and then no more.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod molecules;

use std::time::{Duration, Instant};

use molecules::{layout, molecule, write};
use shards::stream::{BatchRule, Cursor, Share, Stream, StreamConfig, StreamDataset, Survey, Temperature};
use shards::targets::TargetTransform;
use shards::{Dataset, Layout};

/// Resident megabytes of this process; the test has a binary of its own.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[test]
fn memory_stays_level() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("all");
    let rows: Vec<_> = (0..6_000).map(molecule).collect();
    write(&out, &Layout { row_group_rows: 250, ..layout() }, &[rows], 1);
    let manifest = Dataset::open(&out).unwrap().manifest().clone();
    let transform = TargetTransform::of_split(&manifest, &out, "all").unwrap();
    let dataset = StreamDataset { dir: out, split: "all".into(), graph: Some(layout().graph), transform };
    let config = StreamConfig {
        datasets: vec![dataset],
        temperature: Temperature::Finite(1.0),
        seed: 1,
        batch: BatchRule::Structures(16),
        micro_batches: 4,
        lanes: 2,
        window: 4,
        edge_dropout: 0.1,
        epochs: u64::MAX,
        count_free_atoms: false,
        workers: 2,
        prefetch: 8,
        memory: None,
    };
    let (_, survey) = Survey::of(&config, 1, 1).unwrap();
    let needed = survey.memory[1];
    let refused = Survey::of(&StreamConfig { memory: Some(1_000), ..config.clone() }, 1, 1).unwrap_err();
    assert!(refused.to_string().contains("`memory` is 1 MB"), "{refused}");
    let config = StreamConfig { memory: Some(needed), ..config };
    let before = resident_mb();
    let mut stream = Stream::open(config, Share::WHOLE, Cursor::default()).unwrap();
    let steps = stream.plan().unwrap().steps;
    // Two epochs to reach the level.
    for _ in 0..2 * steps {
        stream.next().unwrap().unwrap();
    }
    let (level, begin, mut seen) = (resident_mb(), Instant::now(), 0u64);
    while begin.elapsed() < Duration::from_secs(4) {
        stream.next().unwrap().unwrap();
        seen += 1;
    }
    let grown = resident_mb() - level;
    assert!(seen > 2 * steps, "only {seen} steps, too few to tell");
    // The allocator and the threads take theirs as well.
    let (taken, needed) = (level + grown - before, needed as f64 / 1e6);
    assert!(taken < needed + 32.0, "{taken:.1} MB where {needed:.1} MB were reckoned");
    assert!(grown < 16.0, "{grown:.1} MB more than the first {level:.1} after {seen} steps");
}
