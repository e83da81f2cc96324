//! Properties of the order, whatever the mix, the batch rule, the lanes, the ranks and the place where it is taken up.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod molecules;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use molecules::{layout, molecule, write};
use proptest::prelude::*;
use shards::batch::HostBatch;
use shards::stream::{
    BatchRule, Budget, Cursor, GlobalBatch, Oversize, Share, Stream, StreamConfig, StreamDataset, Tally,
    Temperature,
};
use shards::targets::TargetTransform;
use shards::{Dataset, Floats};

/// Three datasets, in the last of which some labels are absent.
fn datasets() -> &'static [StreamDataset] {
    static MADE: OnceLock<(tempfile::TempDir, Vec<StreamDataset>)> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let all = [61u64, 17, 9].iter().enumerate().map(|(d, &rows)| dataset(dir.path(), d, rows)).collect();
        (dir, all)
    });
    &made.1
}

fn dataset(dir: &Path, number: usize, rows: u64) -> StreamDataset {
    let out = dir.join(number.to_string());
    let mut all: Vec<_> = (0..rows).map(|i| molecule(1000 * number as u64 + i)).collect();
    for (i, structure) in all.iter_mut().enumerate().filter(|_| number == 2) {
        let n = structure.atomic_numbers.len();
        structure.fixed = Some((0..n).map(|atom| (atom + i) % 3 == 0).collect());
        if i % 3 == 1 {
            structure.energy = None;
        }
        if i % 4 == 2 {
            structure.forces = None;
        }
    }
    let half = all.len() / 2;
    write(&out, &layout(), &[all[..half].to_vec(), all[half..].to_vec()], 1);
    let manifest = Dataset::open(&out).unwrap().manifest().clone();
    let transform = TargetTransform::of_split(&manifest, &out, "all").unwrap();
    StreamDataset { dir: out, split: "all".into(), graph: None, transform }
}

fn base() -> StreamConfig {
    StreamConfig {
        datasets: datasets().to_vec(),
        temperature: Temperature::Finite(2.0),
        seed: 3,
        batch: BatchRule::Structures(2),
        micro_batches: 4,
        lanes: 2,
        window: 3,
        edge_dropout: 0.0,
        epochs: 1,
        count_free_atoms: true,
        workers: 2,
        prefetch: 8,
        memory: None,
    }
}

fn configs() -> impl Strategy<Value = StreamConfig> {
    let rules = prop_oneof![
        (1usize..5).prop_map(BatchRule::Structures),
        (8u64..40).prop_map(|atoms| BatchRule::Budget(Budget { atoms: Some(atoms), ..Budget::default() })),
    ];
    let lanes =
        prop_oneof![Just((1, 1)), Just((2, 1)), Just((4, 2)), Just((6, 3)), Just((6, 6)), Just((5, 1))];
    let temperature = prop_oneof![
        Just(Temperature::Finite(1.0)),
        Just(Temperature::Finite(2.0)),
        Just(Temperature::Infinite)
    ];
    (rules, lanes, temperature, 1usize..7, any::<u64>()).prop_map(
        |(batch, (micro_batches, lanes), temperature, window, seed)| StreamConfig {
            batch,
            micro_batches,
            lanes,
            temperature,
            window,
            seed,
            ..base()
        },
    )
}

fn run(config: &StreamConfig, share: Share, start: &Cursor) -> Vec<GlobalBatch> {
    Stream::open(config.clone(), share, start.clone()).unwrap().map(Result::unwrap).collect()
}

fn whole(config: &StreamConfig) -> Vec<GlobalBatch> {
    run(config, Share::WHOLE, &Cursor::default())
}

fn parts(globals: &[GlobalBatch]) -> impl Iterator<Item = &HostBatch> {
    globals.iter().flat_map(|g| &g.parts)
}

/// BLAKE3 over the ids of a sequence, micro-batch by micro-batch.
fn hash<'a>(parts: impl Iterator<Item = &'a HostBatch>) -> String {
    let mut hasher = blake3::Hasher::new();
    for batch in parts {
        hasher.update(&batch.index.to_le_bytes());
        batch.ids.iter().for_each(|id| {
            hasher.update(id.as_bytes());
            hasher.update(b"\n");
        });
    }
    hasher.finalize().to_hex().to_string()
}

/// All ranks' parts of one global batch, in the order of their places.
fn joined(ranks: &[Vec<GlobalBatch>], step: usize) -> Vec<&HostBatch> {
    let mut all: Vec<&HostBatch> = ranks.iter().flat_map(|rank| &rank[step].parts).collect();
    all.sort_by_key(|part| part.index);
    all
}

/// Steps of an epoch from which on their number is estimated where batches are filled to a budget.
const ESTIMATED_FROM: u64 = 100;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_epoch_is_a_permutation_with_exact_multiplicities(config in configs()) {
        let plan = shards::stream::plan_of(&config).unwrap();
        let globals = whole(&config);
        let mut seen: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for batch in parts(&globals) {
            batch.rows.iter().for_each(|r| *seen.entry((r.dataset, r.row)).or_default() += 1);
        }
        for (d, (&rows, &expanded)) in plan.rows.iter().zip(&plan.expanded).enumerate() {
            let counts: Vec<u64> = (0..rows).map(|r| seen.get(&(d as u32, r)).copied().unwrap_or(0)).collect();
            prop_assert_eq!(counts.iter().sum::<u64>(), expanded);
            prop_assert!(counts.iter().all(|&c| c == expanded / rows || c == expanded.div_ceil(rows)));
        }
        let steps = globals.len() as u64;
        if matches!(config.batch, BatchRule::Structures(_)) || steps < ESTIMATED_FROM {
            prop_assert_eq!(steps, plan.steps);
        } else {
            // By the first batches: the others hold nearly as many structures each.
            prop_assert!(steps.abs_diff(plan.steps) <= steps / 10, "{} steps, planned {}", steps, plan.steps);
        }
        prop_assert_eq!(globals.last().unwrap().cursor.clone(), Cursor { epoch: 1, ..Cursor::default() });
        if let BatchRule::Structures(size) = config.batch {
            let full = (size * config.micro_batches) as u64;
            let (last, others) = globals.split_last().unwrap();
            prop_assert!(others.iter().all(|g| g.totals.all.structures == full));
            prop_assert!(last.totals.all.structures <= full);
        }
    }

    #[test]
    fn ranks_share_each_global_batch(config in configs(), ranks in 1u32..9) {
        let alone = whole(&config);
        let ranks: Vec<Vec<GlobalBatch>> =
            (0..ranks).map(|rank| run(&config, Share { rank, ranks }, &Cursor::default())).collect();
        for (step, global) in alone.iter().enumerate() {
            let all = joined(&ranks, step);
            prop_assert_eq!(all.len(), global.parts.len());
            for (a, b) in all.iter().zip(&global.parts) {
                prop_assert_eq!((&a.ids, &a.positions, a.index), (&b.ids, &b.positions, b.index));
            }
            for rank in &ranks {
                prop_assert_eq!((&rank[step].totals, &rank[step].cursor), (&global.totals, &global.cursor));
            }
        }
        prop_assert!(ranks.iter().all(|rank| rank.len() == alone.len()));
    }

    #[test]
    fn resumed_anywhere_on_other_ranks_the_sequence_is_the_same(
        config in configs(), at in any::<prop::sample::Index>(), ranks in 1u32..6
    ) {
        let alone = whole(&config);
        let at = at.index(alone.len());
        let start = &alone[at].cursor;
        let saved: Cursor = serde_json::from_value(serde_json::to_value(start).unwrap()).unwrap();
        let config = StreamConfig { epochs: start.epoch.max(1), ..config };
        let ranks: Vec<Vec<GlobalBatch>> =
            (0..ranks).map(|rank| run(&config, Share { rank, ranks }, &saved)).collect();
        let steps = alone.len() - at - 1;
        prop_assert!(ranks.iter().all(|rank| rank.len() == steps));
        let resumed = (0..steps).flat_map(|step| joined(&ranks, step));
        prop_assert_eq!(hash(resumed), hash(parts(&alone[at + 1..])));
    }

    #[test]
    fn totals_are_what_the_batches_hold(config in configs()) {
        for global in whole(&config) {
            let mut tasks = vec![Tally::default(); 3];
            for batch in &global.parts {
                let mut atom = 0;
                for g in 0..batch.structures() {
                    let n = batch.natoms[g] as usize;
                    let free = batch.fixed[atom..atom + n].iter().filter(|fixed| !**fixed).count() as u64;
                    let (n, forces) = (n as u64, u64::from(batch.has_forces[g]));
                    let tally = &mut tasks[batch.task[g] as usize];
                    tally.structures += 1;
                    tally.atoms += n;
                    tally.energies += u64::from(batch.has_energy[g]);
                    tally.forces += forces;
                    tally.force_atoms += forces * n;
                    tally.free_force_atoms += forces * free;
                    atom += n as usize;
                }
            }
            prop_assert_eq!(&global.totals.tasks, &tasks);
            prop_assert_eq!(global.totals.all.atoms, tasks.iter().map(|t| t.atoms).sum::<u64>());
            prop_assert_eq!(global.totals.micro_batches as usize, global.parts.len());
        }
    }
}

#[test]
fn absent_labels_are_counted_as_absent() {
    let globals = whole(&base());
    let third = |of: fn(&Tally) -> u64| globals.iter().map(|g| of(&g.totals.tasks[2])).sum::<u64>();
    assert!(third(|t| t.energies) < third(|t| t.structures));
    assert!(third(|t| t.forces) < third(|t| t.structures));
    assert!(third(|t| t.free_force_atoms) < third(|t| t.force_atoms));
}

fn budget(atoms: u64, oversize: Oversize) -> StreamConfig {
    let budget = Budget { atoms: Some(atoms), oversize, ..Budget::default() };
    StreamConfig { batch: BatchRule::Budget(budget), ..base() }
}

#[test]
fn budgets_are_kept_and_used() {
    let globals = whole(&budget(24, Oversize::Error));
    let atoms: Vec<usize> = parts(&globals).map(HostBatch::atoms).collect();
    assert!(atoms.iter().all(|&n| n <= 24), "{atoms:?}");
    // The largest molecule has 8 atoms, so that no batch but the last of a lane stops before 17.
    let short = atoms.iter().filter(|&&n| n < 17).count();
    assert!(short <= 2 * 2, "{atoms:?}");
}

#[test]
fn oversize_structures_follow_the_policy() {
    let small = |atoms: usize| atoms <= 6;
    let error = Stream::open(budget(6, Oversize::Error), Share::WHOLE, Cursor::default());
    let error = error.map_or_else(|e| e.to_string(), |mut s| s.find_map(Result::err).unwrap().to_string());
    assert!(
        error.contains("row ") && error.contains("more than the 6 that a micro-batch may have"),
        "{error}"
    );

    let alone = whole(&budget(6, Oversize::Alone));
    assert!(parts(&alone).all(|b| small(b.atoms()) || b.structures() == 1));
    assert!(parts(&alone).any(|b| !small(b.atoms())));

    let skipped = whole(&budget(6, Oversize::Skip));
    assert!(parts(&skipped).all(|b| small(b.atoms())));
    let left_out: u64 = skipped.iter().map(|g| g.skipped.len() as u64).sum();
    let yielded: u64 = skipped.iter().map(|g| g.totals.all.structures).sum();
    let all: u64 = alone.iter().map(|g| g.totals.all.structures).sum();
    assert!(left_out > 0);
    assert_eq!(left_out + yielded, all);
    for row in skipped.iter().flat_map(|g| &g.skipped) {
        let dataset = Dataset::open(&datasets()[row.dataset as usize].dir).unwrap();
        assert!(!small(dataset.structure(row.row).unwrap().atomic_numbers.len()));
    }
    for (k, global) in skipped.iter().enumerate() {
        let rest = run(&budget(6, Oversize::Skip), Share::WHOLE, &global.cursor);
        let expected = if global.cursor.epoch > 0 { &[] } else { &skipped[k + 1..] };
        assert_eq!(hash(parts(&rest)), hash(parts(expected)), "after global batch {k}");
    }

    let nothing = Stream::open(budget(2, Oversize::Skip), Share::WHOLE, Cursor::default()).unwrap();
    let error = nothing.map(Result::unwrap_err).map(|e| e.to_string()).next().unwrap();
    assert!(error.contains("no structure of the epoch fits"), "{error}");
}

#[test]
fn graph_budgets_count_the_models_graphs() {
    // Fewer neighbours than what was counted when the data was written: counted again.
    for neighbors in [layout().graph.main, 3] {
        let mut config = base();
        let spec = shards::graph::GraphSpec::new(8.0, neighbors);
        config.datasets.iter_mut().for_each(|d| d.graph = Some(spec));
        let limits = Budget {
            edges: Some(80),
            quadruplets: Some(400),
            oversize: Oversize::Alone,
            ..Budget::default()
        };
        config.batch = BatchRule::Budget(limits);
        let globals = whole(&config);
        for batch in parts(&globals).filter(|b| b.structures() > 1) {
            let edges = batch.graph.main.edges.source.len();
            assert!(edges <= 80, "{edges}");
        }
        let mean =
            parts(&globals).map(HostBatch::structures).sum::<usize>() as f64 / parts(&globals).count() as f64;
        assert!(mean > 1.2, "{mean} structures a batch with {neighbors} neighbours");
    }
}

#[test]
fn lanes_balance_micro_batches_by_atoms() {
    let config = StreamConfig { batch: BatchRule::Structures(3), micro_batches: 4, lanes: 1, ..base() };
    for global in whole(&config).iter().take(6) {
        let atoms: Vec<usize> = global.parts.iter().map(HostBatch::atoms).collect();
        let spread = atoms.iter().max().unwrap() - atoms.iter().min().unwrap();
        // The greedy rule's bound is the largest structure, of 8 atoms.
        assert!(spread <= 8, "{atoms:?}");
    }
}

#[test]
fn cursors_of_other_streams_are_refused() {
    let globals = whole(&base());
    let cursor = globals[2].cursor.clone();
    let refused = |config: StreamConfig, cursor: Cursor| {
        Stream::open(config, Share::WHOLE, cursor).map(|_| ()).unwrap_err().to_string()
    };
    let other = StreamConfig { micro_batches: 6, ..base() };
    assert!(refused(other, cursor.clone()).contains("none of this stream's"));
    let far = Cursor { step: 1_000_000, position: 8_000_000, ..cursor.clone() };
    assert!(refused(base(), far).contains("none of this stream's"));
    assert!(refused(budget(24, Oversize::Error), cursor).contains("none of this stream's"));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let refused = |config: StreamConfig| {
        Stream::open(config, Share::WHOLE, Cursor::default()).map(|_| ()).unwrap_err().to_string()
    };
    let odd = StreamConfig { micro_batches: 4, lanes: 3, ..base() };
    assert!(refused(odd).contains("3 lanes for 4 micro-batches"));
    let empty = StreamConfig { batch: BatchRule::Budget(Budget::default()), ..base() };
    assert!(refused(empty).contains("a budget without limits"));
    let share = Share { rank: 2, ranks: 2 };
    let error = Stream::open(base(), share, Cursor::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("rank 2 of 2"), "{error}");
}

#[test]
fn too_little_memory_is_refused_with_the_number_needed() {
    let small = StreamConfig { memory: Some(1000), ..base() };
    let error = Stream::open(small, Share::WHOLE, Cursor::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`memory` is 1 MB") && error.contains("need about"), "{error}");
    let enough = StreamConfig { memory: Some(100_000_000), ..base() };
    assert_eq!(hash(parts(&whole(&enough))), hash(parts(&whole(&base()))));
}

#[test]
fn stored_and_computed_lists_give_the_same_batches() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..40).map(periodic).collect();
    let mut streams = Vec::new();
    for (name, neighbors) in
        [("full", shards::NeighborStorage::Full), ("none", shards::NeighborStorage::None)]
    {
        let out = dir.path().join(name);
        let layout = shards::Layout { neighbors, ..layout() };
        write(&out, &layout, std::slice::from_ref(&all), 1);
        let manifest = Dataset::open(&out).unwrap().manifest().clone();
        let transform = TargetTransform::of_split(&manifest, &out, "all").unwrap();
        let entry = StreamDataset { dir: out, split: "all".into(), graph: Some(layout.graph), transform };
        for edge_dropout in [0.0, 0.2] {
            let config = StreamConfig { datasets: vec![entry.clone()], edge_dropout, ..base() };
            let globals = whole(&config);
            let stored: u32 = parts(&globals).map(|b| b.stored_neighbors).sum();
            assert_eq!(stored, if name == "full" { 40 } else { 0 }, "the counter of {name}");
            streams.push(globals);
        }
    }
    for (stored, computed) in [(0, 2), (1, 3)] {
        for (a, b) in parts(&streams[stored]).zip(parts(&streams[computed])) {
            assert_eq!((&a.ids, &a.graph), (&b.ids, &b.graph));
        }
    }
}

/// A molecule in a small periodic cell.
fn periodic(i: u64) -> shards::Structure {
    let mut structure = molecule(i);
    structure.cell = Some([7.0, 0.0, 0.0, 1.0, 7.5, 0.0, 0.0, 0.5, 8.0]);
    structure.pbc = [true; 3];
    structure.forces = Some(Floats::F64(vec![0.1; 3 * structure.atomic_numbers.len()]));
    structure
}
