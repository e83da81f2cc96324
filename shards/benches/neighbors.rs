//! How long neighbour lists and graphs take: `cargo bench -p shards --bench neighbors -- [CASE…] [--rounds N]`.
//!
//! Prints one JSON object a line: what was measured, case, atoms and pairs (means), µs per structure (median, least and
//! largest of the rounds). `--structures FILE` reads the structures from a file that `--write FILE` has written, so
//! that other programs can be given the same; `scripts/bench-neighbors` does that.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to its user")]

mod structures;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use shards::graph::{
    GraphBatch, GraphCounts, GraphSpec, NeighborList, Quadruplets, StructureGraph, Triplets,
};
use structures::{Case, Sample};

/// Each round repeats the structures until it has lasted this long.
const ROUND: Duration = Duration::from_millis(100);

type Failure = Box<dyn std::error::Error>;

struct Arguments {
    cases: Vec<String>,
    what: Option<String>,
    rounds: usize,
    structures: Option<String>,
    write: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut arguments = Self { cases: vec![], what: None, rounds: 7, structures: None, write: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word}: expected a value behind it"));
            match word.as_str() {
                "--rounds" => arguments.rounds = value()?.parse::<usize>()?.max(1),
                "--only" => arguments.what = Some(value()?),
                "--structures" => arguments.structures = Some(value()?),
                "--write" => arguments.write = Some(value()?),
                // Cargo's own word for "this is a bench".
                "--bench" => {}
                option if option.starts_with('-') => {
                    return Err(format!(
                        "unknown option {option}; there are --rounds N, --only neighbors|graphs|parts, \
                         --structures FILE and --write FILE"
                    )
                    .into());
                }
                _ => arguments.cases.push(word),
            }
        }
        Ok(arguments)
    }

    fn measures(&self, what: &str) -> bool {
        self.what.as_deref().is_none_or(|only| only == what)
    }
}

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.write {
        std::fs::write(path, serde_json::to_vec(&structures::cases())?)
            .map_err(|error| format!("{path}: {error}"))?;
        return Ok(());
    }
    let cases: Vec<Case> = match &arguments.structures {
        Some(path) => {
            let text = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
            serde_json::from_slice(&text).map_err(|error| format!("{path}: {error}"))?
        }
        None => structures::cases(),
    };
    if let Some(unknown) = arguments.cases.iter().find(|name| cases.iter().all(|case| case.name != **name)) {
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        return Err(format!("no case {unknown}; there are {}", names.join(", ")).into());
    }
    for case in &cases {
        if arguments.cases.is_empty() || arguments.cases.contains(&case.name) {
            measure(case, arguments)?;
        }
    }
    Ok(())
}

fn measure(case: &Case, arguments: &Arguments) -> Result<(), Failure> {
    let pairs = pairs_of(case)?;
    let atoms: usize = case.structures.iter().map(|sample| sample.positions.len()).sum();
    let report = |what: &str, mut pass: Box<dyn FnMut() + '_>| {
        let us = rounds(arguments.rounds, case.structures.len(), &mut pass);
        let count = case.structures.len();
        let mean = |n: usize| n as f64 / count as f64;
        println!(
            "{}",
            json!({
                "what": what, "case": case.name, "structures": count, "atoms": mean(atoms), "pairs": mean(pairs),
                "median_us": us[us.len() / 2], "min_us": us[0], "max_us": us[us.len() - 1],
            })
        );
    };
    if arguments.measures("neighbors") {
        report("neighbors", Box::new(|| drop(black_box(pairs_of(case)))));
    }
    if arguments.measures("graphs") {
        report("graphs", Box::new(|| drop(black_box(prepare(case)))));
        report(
            "graphs with listed triplets and quadruplets",
            Box::new(|| drop(black_box(prepare_and_list(case)))),
        );
    }
    if arguments.measures("parts") {
        parts(case, report)?;
    }
    Ok(())
}

/// Finds all neighbours within the cutoff, one structure after the other; how many there are in all.
fn pairs_of(case: &Case) -> Result<usize, Failure> {
    let build = |sample: &Sample| NeighborList::build(&sample.geometry(), case.cutoff, u32::MAX);
    case.structures.iter().map(|sample| Ok(black_box(build(sample)?).len())).sum()
}

fn graphs(structures: &[Sample], case: &Case) -> Result<Vec<StructureGraph>, Failure> {
    let spec = GraphSpec::new(case.cutoff, case.main);
    structures.iter().map(|sample| Ok(StructureGraph::build(&sample.geometry(), &spec)?)).collect()
}

/// What a training step is given, one batch after the other: neighbours, four graphs, exceptions of triplets and
/// quadruplets, counts, tensors to be.
fn prepare(case: &Case) -> Result<(), Failure> {
    for batch in case.structures.chunks(case.batch) {
        let graphs = graphs(batch, case)?;
        black_box(graphs.iter().map(GraphCounts::of).collect::<Vec<_>>());
        black_box(GraphBatch::collate(&graphs));
    }
    Ok(())
}

/// The same, and every triplet and quadruplet spelled out, as the reference does.
fn prepare_and_list(case: &Case) -> Result<(), Failure> {
    for batch in case.structures.chunks(case.batch) {
        let graphs = graphs(batch, case)?;
        black_box(GraphBatch::collate(&graphs));
        for graph in &graphs {
            black_box(Triplets::edge_to_edge(graph));
            black_box(Triplets::atom_to_edge(graph));
            black_box(Triplets::edge_to_atom(graph));
            black_box(Triplets::of_quadruplet_input(graph));
            black_box(Triplets::of_quadruplet_output(graph));
            black_box(Quadruplets::of(graph));
        }
    }
    Ok(())
}

/// The steps of a preparation, one by one.
fn parts(case: &Case, report: impl Fn(&str, Box<dyn FnMut() + '_>)) -> Result<(), Failure> {
    let spec = GraphSpec::new(case.cutoff, case.main);
    let limited: Vec<NeighborList> = case
        .structures
        .iter()
        .map(|sample| NeighborList::build(&sample.geometry(), spec.cutoff, spec.atom_atom))
        .collect::<Result<_, _>>()?;
    let select = move || {
        for (sample, list) in case.structures.iter().zip(&limited) {
            drop(black_box(StructureGraph::from_neighbors(&sample.geometry(), &spec, list)));
        }
    };
    report("part: graphs from neighbours", Box::new(select));
    let built = graphs(&case.structures, case)?;
    let again = built.clone();
    report(
        "part: counts",
        Box::new(move || {
            for graph in &built {
                black_box(GraphCounts::of(graph));
            }
        }),
    );
    report(
        "part: batches",
        Box::new(move || {
            for batch in again.chunks(case.batch) {
                drop(black_box(GraphBatch::collate(batch)));
            }
        }),
    );
    Ok(())
}

/// µs of this thread per structure in each round, ascending.
fn rounds(count: usize, structures: usize, pass: &mut dyn FnMut()) -> Vec<f64> {
    pass();
    let mut us: Vec<f64> = (0..count)
        .map(|_| {
            let (start, mut passes) = (Clock::start(), 0u32);
            while start.begun.elapsed() < ROUND {
                pass();
                passes += 1;
            }
            start.seconds() * 1e6 / f64::from(passes) / structures as f64
        })
        .collect();
    us.sort_by(f64::total_cmp);
    us
}

/// Time that this thread has had a processor, so that other programs on it do not count.
struct Clock {
    begun: Instant,
    processor: Option<f64>,
}

impl Clock {
    fn start() -> Self {
        Self { begun: Instant::now(), processor: Self::processor() }
    }

    /// Seconds since the start; wall-clock time where the system does not tell the other.
    fn seconds(&self) -> f64 {
        match (self.processor, Self::processor()) {
            (Some(start), Some(end)) => end - start,
            _ => self.begun.elapsed().as_secs_f64(),
        }
    }

    fn processor() -> Option<f64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(text.split_whitespace().next()?.parse::<f64>().ok()? * 1e-9)
    }
}
