//! The stream's order without data, one JSON object a line: what docs/stream.md's figures are from.
//!
//!     cargo run --release --workspace --example stream_order -- ranks      planning for 1 to 1024 ranks over 120 M structures
//!     cargo run --release --workspace --example stream_order -- resume     the same from structure 10 and from 10^8
//!     cargo run --release --workspace --example stream_order -- shuffle    windows against a true shuffle

#![allow(clippy::print_stdout, reason = "its purpose")]

use shards::ShardError;
use shards::stream::simulation::{MadeDataset, Simulation};
use shards::stream::{StreamConfig, Temperature};

/// Sizes of JMP's pre-training sets (paper, table 1): OC20, OC22, ANI-1x, Transition-1x.
fn pretraining() -> Vec<MadeDataset> {
    let slabs = |rows, atoms| MadeDataset { rows, row_group_rows: 1_000, atoms };
    let molecules = |rows, atoms| MadeDataset { rows, row_group_rows: 5_000, atoms };
    vec![
        slabs(100_000_000, (7, 139)),
        slabs(8_000_000, (17, 143)),
        molecules(2_000_000, (4, 26)),
        molecules(10_000_000, (4, 23)),
    ]
}

fn simulation(micro_batches: usize, batch_size: usize, ranks: u32) -> Simulation {
    Simulation {
        datasets: pretraining(),
        temperature: Temperature::Finite(2.0),
        seed: 0,
        batch_size,
        micro_batches,
        lanes: StreamConfig::lanes_for(micro_batches),
        window: 16,
        ranks,
        start: 0,
        // Many windows of each lane.
        steps: if micro_batches > 512 { 16_000 } else { 20_000 },
    }
}

fn main() -> Result<(), ShardError> {
    match std::env::args().nth(1).as_deref() {
        Some("ranks") => {
            for (micro_batches, batch_size, ranks) in
                [(64, 16, 1), (64, 16, 8), (128, 8, 128), (1024, 4, 128), (1024, 4, 1024)]
            {
                let simulation = simulation(micro_batches, batch_size, ranks);
                let report = simulation.run()?;
                tell(&format!("{ranks} ranks, {micro_batches} micro-batches of {batch_size}"), &report);
            }
        }
        Some("resume") => {
            for position in [10, 100_000_000] {
                let start = position / 1024;
                let simulation = Simulation { start, steps: 200, ..simulation(64, 16, 8) };
                tell(&format!("from structure {position}"), &simulation.run()?);
            }
        }
        Some("shuffle") => {
            let datasets = vec![MadeDataset { rows: 2_000_000, row_group_rows: 1_000, atoms: (7, 139) }];
            for (micro_batches, batch_size) in [(1, 32), (64, 16)] {
                for window in [1, 4, 16, 64] {
                    let datasets = datasets.clone();
                    let simulation =
                        Simulation { datasets, window, ..simulation(micro_batches, batch_size, 1) };
                    let name = format!("window {window}, {micro_batches} micro-batches of {batch_size}");
                    tell(&name, &simulation.shuffle()?);
                }
            }
        }
        _ => println!("say ranks, resume or shuffle"),
    }
    Ok(())
}

/// A report as JSON, with the process's largest memory so far.
fn tell(name: &str, report: &impl serde::Serialize) {
    let peak = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let peak_mb = peak.map(|kilobytes| kilobytes / 1024);
    println!("{}", serde_json::json!({ "case": name, "peak_rss_mb": peak_mb, "report": report }));
}
