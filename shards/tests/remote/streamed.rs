//! The stream over URLs: the batches of local files, whatever the server does.

use std::collections::BTreeMap;

use shards::Dataset;
use shards::stream::{
    BatchRule, Cursor, GlobalBatch, Share, Stream, StreamConfig, StreamDataset, Temperature,
};
use shards::targets::TargetTransform;

use crate::Served;
use crate::molecules::{layout, molecule};
use crate::server::Fault;

fn batches(dirs: &[String]) -> Vec<GlobalBatch> {
    let dataset = |dir: &String| {
        let opened = Dataset::open(dir).unwrap();
        let transform = TargetTransform::of_split(opened.manifest(), opened.dir(), "all").unwrap();
        StreamDataset { dir: dir.into(), split: "all".into(), graph: Some(layout().graph), transform }
    };
    let config = StreamConfig {
        datasets: dirs.iter().map(dataset).collect(),
        temperature: Temperature::Finite(2.0),
        seed: 3,
        batch: BatchRule::Structures(4),
        micro_batches: 1,
        lanes: 1,
        epochs: 2,
        count_free_atoms: false,
        window: 3,
        edge_dropout: 0.1,
        workers: 2,
        prefetch: 3,
        memory: None,
    };
    Stream::open(config, Share::WHOLE, Cursor::default()).unwrap().map(Result::unwrap).collect()
}

#[test]
fn batches_are_those_of_local_files() {
    let large = Served::of(&[(0..23).map(molecule).collect(), (23..50).map(molecule).collect()]);
    let small = Served::new();
    let local = batches(&[&large, &small].map(|s| s.dir().display().to_string()));
    large.options().install();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut turn = 0;
    large.server.misbehave(move |seen| {
        let count = counts.entry(format!("{seen:?}")).or_default();
        *count += 1;
        turn += 1;
        let kinds =
            [Fault::None, Fault::Reset, Fault::Flipped, Fault::Status(503), Fault::Truncated, Fault::Slow];
        if *count == 1 { kinds[turn % kinds.len()] } else { Fault::None }
    });
    let remote = batches(&[large.url(), small.url()]);
    assert_eq!(remote.len(), local.len());
    for (a, b) in remote.iter().zip(&local) {
        assert_eq!((&a.cursor, &a.totals, a.parts.len()), (&b.cursor, &b.totals, b.parts.len()));
        for (a, b) in a.parts.iter().zip(&b.parts) {
            assert_eq!((&a.ids, &a.rows), (&b.ids, &b.rows));
            assert_eq!((&a.positions, &a.energy, &a.forces), (&b.positions, &b.energy, &b.forces));
            assert_eq!(a.graph, b.graph);
        }
    }
    let retries = shards::Remote::installed().unwrap().traffic().retries;
    assert!(retries > 5, "{retries}");
}
