//! Servers and networks that fail, for a while or for good.

use std::collections::BTreeMap;
use std::fs;

use shards::Dataset;
use shards::reader::Columns;

use crate::server::{Fault, Seen};
use crate::{Served, local_rows, rows};

/// Each distinct request fails once, in turn by each of the kinds.
fn once_each(kinds: &'static [Fault]) -> impl FnMut(&Seen) -> Fault + Send + 'static {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut turn = 0;
    move |seen| {
        let count = counts.entry(format!("{seen:?}")).or_default();
        *count += 1;
        if *count > 1 {
            return Fault::None;
        }
        turn += 1;
        kinds[turn % kinds.len()]
    }
}

#[test]
fn passing_faults_are_got_over() {
    const KINDS: [Fault; 7] = [
        Fault::Reset,
        Fault::Status(503),
        Fault::Truncated,
        Fault::Flipped,
        Fault::Slow,
        Fault::Silent,
        Fault::Status(429),
    ];
    for kind in 0..KINDS.len() {
        let served = Served::new();
        served.server.misbehave(once_each(&KINDS[kind..=kind]));
        let (dataset, remote) = served.open();
        assert_eq!(rows(&dataset).unwrap(), local_rows(&served.dir()), "{:?}", KINDS[kind]);
        let (fails, traffic) = (KINDS[kind] != Fault::Slow, remote.traffic());
        // Manifest, two footers and six row groups, each twice if the first time failed.
        assert_eq!(traffic.retries, if fails { 9 } else { 0 }, "{:?}: {traffic:?}", KINDS[kind]);
        assert_eq!(served.server.seen().len(), if fails { 18 } else { 9 });
        assert_eq!(served.said.lock().unwrap().len(), traffic.retries as usize);
    }
    let served = Served::new();
    served.server.misbehave(once_each(&KINDS));
    let (dataset, _) = served.open();
    assert_eq!(rows(&dataset).unwrap(), local_rows(&served.dir()));
}

#[test]
fn lasting_faults_are_told_with_part_and_row_group() {
    for (fault, attempts, told) in [
        (Fault::Reset, 6, "attempt 6"),
        (Fault::Status(503), 6, "503"),
        (Fault::Status(403), 1, "are the credentials right?"),
        (Fault::Truncated, 6, "attempt 6"),
        (Fault::Flipped, 3, "checksum of row group 1, downloaded 3 times: expected"),
        (Fault::Status(404), 1, "there is no such file on the server"),
        (Fault::NoRanges, 1, "cannot send parts of a file"),
    ] {
        let served = Served::new();
        let (dataset, _) = served.open();
        let group = dataset.row_groups()[4].clone();
        assert_eq!((group.part, group.index), (1, 1));
        let _footer = dataset.read(&dataset.row_groups()[3], Columns::all()).unwrap();
        served.server.seen();
        served.server.misbehave(move |_| fault);
        let error = dataset.read(&group, Columns::all()).unwrap_err().to_string();
        assert!(error.contains("/d/data/part-00001.parquet"), "{error}");
        assert!(error.contains(told), "{fault:?}: {error}");
        let names_group = error.contains("row group 1") || fault == Fault::Status(404);
        assert!(names_group, "{error}");
        assert_eq!(served.server.seen().len(), attempts, "{fault:?}");
        // Nothing wrong was kept.
        served.server.misbehave(|_| Fault::None);
        assert_eq!(rows(&dataset).unwrap(), local_rows(&served.dir()));
    }
}

#[test]
fn a_part_that_is_short_or_changed_at_its_source_is_told() {
    let served = Served::new();
    let part = served.dir().join("data/part-00000.parquet");
    let whole = fs::read(&part).unwrap();
    for (damage, told) in [
        (whole[..whole.len() / 3].to_vec(), "part-00000.parquet (footer)"),
        (whole[..whole.len() - 1].to_vec(), "part-00000.parquet (footer)"),
        ([&whole[..], &[0]].concat(), ""),
    ] {
        fs::write(&part, damage).unwrap();
        let (dataset, _) = served.open();
        match rows(&dataset) {
            Ok(_) => assert_eq!(told, "", "a longer file has the same bytes where they are looked for"),
            Err(error) => assert!(error.to_string().contains(told), "{error}"),
        }
    }
    let mut flipped = whole.clone();
    let last = whole.len() - 20;
    flipped[last] ^= 1;
    fs::write(&part, flipped).unwrap();
    let (dataset, _) = crate::Served { home: tempfile::tempdir().unwrap(), ..served }.open();
    let error = rows(&dataset).unwrap_err().to_string();
    assert!(error.contains("part-00000.parquet: BLAKE3 of the footer, downloaded 3 times"), "{error}");
}

#[test]
fn damaged_manifests_and_splits_are_told() {
    let served = Served::new();
    served.server.misbehave(|_| Fault::Flipped);
    let error = Dataset::open_with(served.url(), &served.remote()).unwrap_err().to_string();
    assert!(error.contains("/d/manifest.json: ") && error.contains("downloaded 3 times"), "{error}");
    served.server.misbehave(|_| Fault::None);
    let (dataset, _) = served.open();
    served.server.misbehave(|_| Fault::Flipped);
    let error = dataset.split("all").unwrap_err().to_string();
    assert!(error.contains("/d/splits/all.parquet: BLAKE3 of the row ranges, downloaded 3 times"), "{error}");
}

#[test]
fn cancelled_reads_end() {
    let served = Served::new();
    let (dataset, _) = served.open();
    served.server.misbehave(|_| Fault::Silent);
    let error = std::thread::scope(|scope| {
        let reading = scope.spawn(|| rows(&dataset).unwrap_err().to_string());
        while served.server.seen().is_empty() {
            std::thread::yield_now();
        }
        dataset.cancel();
        reading.join().unwrap()
    });
    assert!(error.contains("cancelled"), "{error}");
}
