//! The stream's promises: exact multiplicities, one order whatever the machine, exact resume.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod molecules;

use std::collections::BTreeMap;
use std::path::Path;

use molecules::{layout, molecule, write};
use shards::batch::HostBatch;
use shards::splits::{SplitDefinition, add};
use shards::stream::{
    BatchRule, Budget, Cursor, GlobalBatch, RowsInOrder, Share, Stream, StreamConfig, StreamDataset,
    Temperature,
};
use shards::targets::TargetTransform;
use shards::{Dataset, Layout, RowSet};

fn datasets(dir: &Path) -> Vec<StreamDataset> {
    [41u64, 13, 6]
        .into_iter()
        .enumerate()
        .map(|(d, rows)| {
            let out = dir.join(d.to_string());
            let all: Vec<_> = (0..rows).map(|i| molecule(1000 * d as u64 + i)).collect();
            write(
                &out,
                &layout(),
                &[all[..rows as usize / 2].to_vec(), all[rows as usize / 2..].to_vec()],
                1,
            );
            let dataset = Dataset::open(&out).unwrap();
            let transform = TargetTransform::of_split(dataset.manifest(), &out, "all").unwrap();
            StreamDataset { dir: out, split: "all".into(), graph: Some(layout().graph), transform }
        })
        .collect()
}

fn config(dir: &Path) -> StreamConfig {
    StreamConfig {
        datasets: datasets(dir),
        temperature: Temperature::Finite(2.0),
        seed: 7,
        batch: BatchRule::Structures(4),
        micro_batches: 1,
        lanes: 1,
        window: 3,
        edge_dropout: 0.0,
        epochs: 2,
        count_free_atoms: false,
        workers: 2,
        prefetch: 3,
        memory: None,
    }
}

fn run(config: &StreamConfig, start: Cursor) -> Vec<GlobalBatch> {
    Stream::open(config.clone(), Share::WHOLE, start).unwrap().map(Result::unwrap).collect()
}

fn parts(globals: &[GlobalBatch]) -> impl Iterator<Item = &HostBatch> {
    globals.iter().flat_map(|g| &g.parts)
}

fn ids(globals: &[GlobalBatch]) -> Vec<String> {
    parts(globals).flat_map(|b| b.ids.clone()).collect()
}

#[test]
fn each_epoch_has_exact_multiplicities() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let stream = Stream::open(config.clone(), Share::WHOLE, Cursor::default()).unwrap();
    let plan = stream.plan().unwrap();
    assert_eq!(plan.rows, [41, 13, 6]);
    // T = 2: n·√(n_max/n), rounded up.
    assert_eq!(plan.expanded, [41, 24, 16]);
    let globals = run(&config, Cursor::default());
    assert_eq!(globals.len() as u64, 2 * plan.steps);
    for epoch in 0..2 {
        let mut seen: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        let steps = plan.steps as usize;
        for batch in parts(&globals[epoch * steps..(epoch + 1) * steps]) {
            batch.rows.iter().for_each(|r| *seen.entry((r.dataset, r.row)).or_default() += 1);
        }
        for (d, (&rows, &expanded)) in plan.rows.iter().zip(&plan.expanded).enumerate() {
            let counts: Vec<u64> =
                (0..rows).map(|r| seen.get(&(d as u32, r)).copied().unwrap_or(0)).collect();
            assert_eq!(counts.iter().sum::<u64>(), expanded);
            assert!(
                counts.iter().all(|&c| c == expanded / rows || c == expanded.div_ceil(rows)),
                "{counts:?}"
            );
        }
    }
}

/// Batches as text: every field to the last digit.
fn text(parts: &[HostBatch]) -> Vec<String> {
    parts.iter().map(|batch| serde_json::to_string(batch).unwrap()).collect()
}

#[test]
fn batches_made_in_memory_given_back_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = StreamConfig { micro_batches: 3, edge_dropout: 0.2, ..config(dir.path()) };
    let kept: Vec<Vec<String>> = run(&config, Cursor::default()).iter().map(|g| text(&g.parts)).collect();
    let mut stream = Stream::open(config, Share::WHOLE, Cursor::default()).unwrap();
    let mut again = Vec::new();
    while let Some(global) = stream.next() {
        let global = global.unwrap();
        again.push(text(&global.parts));
        stream.give_back(global.parts);
    }
    assert_eq!(again, kept);
}

#[test]
fn a_sparse_split_is_decoded_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("all");
    let rows: Vec<_> = (0..4_000).map(molecule).collect();
    write(&out, &Layout { row_group_rows: 100, ..layout() }, &[rows], 1);
    let sparse = RowSet::from_rows((0..4_000).step_by(10).collect());
    add(&out, vec![SplitDefinition::new("sparse", "every tenth", None, sparse).unwrap()]).unwrap();
    let manifest = Dataset::open(&out).unwrap().manifest().clone();
    let transform = TargetTransform::of_split(&manifest, &out, "sparse").unwrap();
    let dataset = StreamDataset { dir: out, split: "sparse".into(), graph: None, transform };
    // What is levelled together, 512 structures of a lane, spans all of a lane's ten windows of ten structures each.
    let config = StreamConfig {
        datasets: vec![dataset],
        micro_batches: 8,
        lanes: 4,
        window: 4,
        epochs: 1,
        ..config(dir.path())
    };
    for workers in [1, 3] {
        let config = StreamConfig { workers, ..config.clone() };
        let mut stream = Stream::open(config, Share::WHOLE, Cursor::default()).unwrap();
        let globals: Vec<_> = stream.by_ref().map(Result::unwrap).collect();
        assert_eq!(ids(&globals).len(), 400);
        // 40 row groups, of which neighbouring lanes may share one.
        let decoded = stream.work().row_groups;
        assert!((40..=43).contains(&decoded), "{decoded} row groups decoded");
    }
}

#[test]
fn workers_and_prefetch_do_not_change_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let config = StreamConfig { micro_batches: 4, lanes: 2, ..config(dir.path()) };
    let reference = run(&config, Cursor::default());
    for (workers, prefetch) in [(1, 1), (4, 9), (64, 2)] {
        let other = run(&StreamConfig { workers, prefetch, ..config.clone() }, Cursor::default());
        assert_eq!(ids(&other), ids(&reference));
        for (a, b) in other.iter().zip(&reference) {
            assert_eq!((&a.totals, &a.cursor), (&b.totals, &b.cursor));
        }
        for (a, b) in parts(&other).zip(parts(&reference)) {
            assert_eq!(a.graph, b.graph);
            assert_eq!((&a.energy, &a.forces, a.index), (&b.energy, &b.forces, b.index));
        }
    }
}

#[test]
fn seeds_and_epochs_give_unrelated_orders() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (a, b) = (
        ids(&run(&config, Cursor::default())),
        ids(&run(&StreamConfig { seed: 8, ..config.clone() }, Cursor::default())),
    );
    let half = a.len() / 2;
    let same = |x: &[String], y: &[String]| x.iter().zip(y).filter(|(p, q)| p == q).count();
    assert!(same(&a[..half], &a[half..]) < half / 4);
    assert!(same(&a, &b) < a.len() / 4);
    assert_ne!(a[half..], b[..half], "seed 7, epoch 1 must not repeat seed 8, epoch 0");
}

#[test]
fn resuming_anywhere_gives_the_suffix() {
    let dir = tempfile::tempdir().unwrap();
    let config = StreamConfig { edge_dropout: 0.2, ..config(dir.path()) };
    let whole = run(&config, Cursor::default());
    for (k, global) in whole.iter().enumerate() {
        let rest = run(&config, global.cursor.clone());
        assert_eq!(ids(&rest), ids(&whole[k + 1..]), "after global batch {k}");
        for (a, b) in parts(&rest).zip(parts(&whole[k + 1..])).take(3) {
            assert_eq!(a.graph, b.graph);
        }
    }
}

#[test]
fn edge_dropout_takes_edges_away() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let edges = |c: &StreamConfig| -> usize {
        parts(&run(c, Cursor::default())).map(|b| b.graph.atom_atom.source.len()).sum()
    };
    let (all, kept) = (edges(&config), edges(&StreamConfig { edge_dropout: 0.3, ..config.clone() }));
    let share = kept as f64 / all as f64;
    assert!((share - 0.7).abs() < 0.03, "{share}");
}

#[test]
fn targets_are_referenced_and_normalised() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    for batch in parts(&run(&config, Cursor::default())).take(6) {
        let mut atom = 0;
        for (g, id) in batch.rows.iter().enumerate() {
            let entry = &config.datasets[id.dataset as usize];
            let s = Dataset::open(&entry.dir).unwrap().structure(id.row).unwrap();
            let t = &entry.transform;
            let reference: f64 =
                s.atomic_numbers.iter().map(|z| t.reference.as_ref().unwrap().coefficients[z]).sum();
            let expected = (s.energy.unwrap() - reference - t.mean) / t.std;
            assert!((batch.energy[g] - expected).abs() < 1e-9);
            assert!((batch.energy_offset[g] + t.std * batch.energy[g] - s.energy.unwrap()).abs() < 1e-9);
            for (k, f) in s.forces.unwrap().to_f64().iter().enumerate() {
                assert_eq!(batch.forces[3 * atom + k], f / t.force_std);
            }
            atom += s.atomic_numbers.len();
        }
    }
}

#[test]
fn flat_batches_hold_the_same_without_graphs() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut flat = config.clone();
    flat.datasets.iter_mut().for_each(|d| d.graph = None);
    let (with, without) = (run(&config, Cursor::default()), run(&flat, Cursor::default()));
    for (a, b) in parts(&with).zip(parts(&without)) {
        assert_eq!((&a.ids, &a.positions, &a.forces), (&b.ids, &b.positions, &b.forces));
        assert!(b.graph.main.edges.source.is_empty() && !a.graph.main.edges.source.is_empty());
    }
}

#[test]
fn rows_in_order_are_shared_by_batches() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = datasets(dir.path()).remove(0);
    let rule = (BatchRule::Structures(8), u64::MAX);
    let open = |share| RowsInOrder::open(&dataset, 5, rule, share, (2, 2)).unwrap();
    let batches: Vec<HostBatch> = open(Share::WHOLE).map(Result::unwrap).collect();
    let rows: Vec<u64> = batches.iter().flat_map(|b| b.rows.iter().map(|r| r.row)).collect();
    assert_eq!(rows, (0..41).collect::<Vec<_>>());
    assert!(batches.iter().all(|b| b.task.iter().all(|&t| t == 5)));
    for ranks in [2, 3, 9] {
        let mut all: Vec<HostBatch> =
            (0..ranks).flat_map(|rank| open(Share { rank, ranks })).map(Result::unwrap).collect();
        all.sort_by_key(|batch| batch.index);
        assert!(all.iter().map(|b| &b.rows).eq(batches.iter().map(|b| &b.rows)), "{ranks} ranks");
    }
}

#[test]
fn rows_in_order_keep_a_budget_and_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let dataset = datasets(dir.path()).remove(0);
    let open = |rule, limit| -> Vec<HostBatch> {
        let rows = RowsInOrder::open(&dataset, 0, (rule, limit), Share::WHOLE, (2, 2)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let rows =
        |batches: &[HostBatch]| batches.iter().flat_map(|b| b.rows.iter().map(|r| r.row)).collect::<Vec<_>>();
    let whole = open(BatchRule::Structures(41), u64::MAX).remove(0);
    // By hand: a batch ends before the row that would exceed a limit; one that exceeds it alone stands alone.
    for (structures, atoms) in [(8, 20), (3, 20), (100, 7)] {
        let budget = Budget { structures: Some(structures), atoms: Some(atoms), ..Budget::default() };
        let (mut want, mut sum) = (vec![0], 0);
        for n in &whole.natoms {
            let n = u64::from(*n);
            if *want.last().unwrap() > 0 && (*want.last().unwrap() == structures || sum + n > atoms) {
                want.push(0);
                sum = 0;
            }
            *want.last_mut().unwrap() += 1;
            sum += n;
        }
        let batches = open(BatchRule::Budget(budget), u64::MAX);
        assert_eq!(batches.iter().map(|b| b.structures() as u64).collect::<Vec<_>>(), want);
        assert_eq!(rows(&batches), (0..41).collect::<Vec<_>>());
    }
    let edges = whole.graph.main.edges.source.len() as u64 / 5;
    let batches = open(BatchRule::Budget(Budget { edges: Some(edges), ..Budget::default() }), u64::MAX);
    assert!(batches.len() > 4 && batches.iter().all(|b| b.graph.main.edges.source.len() as u64 <= edges));
    // The limit is of structures, however they are cut.
    for size in [1, 4, 8, 13, 50] {
        let batches = open(BatchRule::Structures(size), 13);
        assert_eq!(rows(&batches), (0..13).collect::<Vec<_>>());
        assert_eq!(batches.len(), 13_usize.div_ceil(size));
    }
}

#[test]
fn dropping_a_stream_stops_its_threads() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    for _ in 0..20 {
        let mut stream = Stream::open(config.clone(), Share::WHOLE, Cursor::default()).unwrap();
        stream.next().unwrap().unwrap();
    }
}

#[test]
fn damage_is_told_by_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let part = config.datasets[0].dir.join("data/part-00000.parquet");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let mut stream = Stream::open(config, Share::WHOLE, Cursor::default()).unwrap();
    let error = stream.find_map(Result::err).unwrap().to_string();
    assert!(error.contains("part-00000.parquet: checksum of row group"), "{error}");
    assert!(stream.next().is_none());
}
