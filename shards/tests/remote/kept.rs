//! The cache: what is there is not asked for, what is damaged is not read, and the limit holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use shards::layout::NeighborStorage;
use shards::reader::Columns;
use shards::remote::ByteSize;
use shards::{Dataset, Layout, Remote, RemoteOptions};

use crate::molecules::{layout, molecule};
use crate::server::Fault;
use crate::{Served, local_rows, rows};

fn objects(cache: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(cache.join("objects")).unwrap().map(|f| f.unwrap().path());
    folders.flat_map(|f| fs::read_dir(f).unwrap()).map(|e| e.unwrap().path()).collect()
}

fn stored(cache: &Path) -> u64 {
    objects(cache).iter().filter_map(|p| fs::metadata(p).ok()).map(|m| m.len()).sum()
}

/// A limit that half of the row groups fit into; footers, which are larger here, do not.
fn half(served: &Served) -> u64 {
    let local = Dataset::open(served.dir()).unwrap();
    local.manifest().parts.iter().map(|part| part.footer_start).sum::<u64>() / 2
}

#[test]
fn a_second_reader_asks_for_the_manifest_alone_and_offline_for_nothing() {
    let served = Served::new();
    let expected = local_rows(&served.dir());
    let (first, _) = served.open();
    first.split("all").unwrap();
    assert_eq!(rows(&first).unwrap(), expected);
    served.server.seen();
    let (second, remote) = served.open();
    assert_eq!(second.split("all").unwrap().len(), 22);
    assert_eq!(rows(&second).unwrap(), expected);
    let seen = served.server.seen();
    assert_eq!(seen.iter().map(|s| s.path.as_str()).collect::<Vec<_>>(), ["d/manifest.json"]);
    // A split, two footers, six row groups.
    assert_eq!((remote.traffic().requests, remote.traffic().hits), (1, 9));

    let offline = Remote::new(RemoteOptions { offline: true, ..served.options() }).unwrap();
    let third = Dataset::open_with(served.url(), &offline).unwrap();
    assert_eq!(rows(&third).unwrap(), expected);
    assert!(served.server.seen().is_empty());
    fs::remove_dir_all(served.home.path().join("cache/objects")).unwrap();
    let error =
        rows(&Dataset::open_with(served.url(), &offline).map_or(third, |d| d)).unwrap_err().to_string();
    assert!(error.contains("not in the cache") && error.contains("part-00000.parquet"), "{error}");
}

#[test]
fn a_new_split_is_seen() {
    let served = Served::new();
    let (before, _) = served.open();
    assert!(!before.manifest().splits.contains_key("few"));
    let few = shards::RowSet::from_rows(vec![3, 5]);
    let few = shards::splits::SplitDefinition::new("few", "by hand", None, few).unwrap();
    shards::splits::add(&served.dir(), vec![few]).unwrap();
    let (after, _) = served.open();
    assert_eq!(after.split("few").unwrap().iter().collect::<Vec<_>>(), [3, 5]);
}

#[test]
fn what_is_damaged_in_the_cache_is_fetched_again() {
    let served = Served::new();
    rows(&served.open().0).unwrap();
    let files = objects(&served.home.path().join("cache"));
    for (k, path) in files.iter().enumerate() {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        match k % 3 {
            0 => bytes[middle] ^= 1,
            1 => bytes.truncate(middle),
            _ => bytes.clear(),
        }
        fs::write(path, bytes).unwrap();
    }
    served.server.seen();
    assert_eq!(rows(&served.open().0).unwrap(), local_rows(&served.dir()));
    assert_eq!(served.server.seen().len(), files.len());
}

#[test]
fn the_limit_holds_while_a_larger_dataset_is_read() {
    let served = Served::new();
    let expected = local_rows(&served.dir());
    let (cache, limit) = (served.home.path().join("cache"), half(&served));
    let options = RemoteOptions { cache_size: ByteSize::new(limit), ..served.options() };
    let dataset = Dataset::open_with(served.url(), &Remote::new(options).unwrap()).unwrap();
    let sources = crate::molecules::tree(&served.dir());
    for _ in 0..3 {
        for (group, first) in dataset.row_groups().iter().zip([0, 4, 8, 12, 16, 20]) {
            let block = dataset.read(group, Columns::all()).unwrap();
            assert_eq!(block.row(0).to_structure(), expected[first]);
            assert!(stored(&cache) <= limit);
        }
    }
    assert!(stored(&cache) > limit / 4, "the cache is of use");
    assert_eq!(crate::molecules::tree(&served.dir()), sources);
}

#[test]
fn readers_who_share_a_cache_fetch_everything_once() {
    let served = Served::new();
    let expected = local_rows(&served.dir());
    served.server.misbehave(|_| Fault::Slow);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            // Each with a handle of its own, as the ranks of a machine have.
            scope.spawn(|| assert_eq!(rows(&served.open().0).unwrap(), expected));
        }
    });
    let seen = served.server.seen();
    let manifests = seen.iter().filter(|s| s.path == "d/manifest.json").count();
    assert_eq!((manifests, seen.len()), (8, 8 + 2 + 6), "{seen:?}");
}

#[test]
fn what_is_fetched_ahead_is_not_fetched_again() {
    let served = Served::new();
    let (dataset, remote) = served.open();
    served.server.misbehave(|_| Fault::Slow);
    for group in dataset.row_groups() {
        dataset.prefetch(group);
    }
    assert_eq!(rows(&dataset).unwrap(), local_rows(&served.dir()));
    assert_eq!(served.server.seen().len(), 1 + 2 + 6);
    assert_eq!(remote.traffic().requests, 9);
    assert!(served.server.busiest() > 2, "{} at a time", served.server.busiest());
}

/// Row groups so large that their graph counts are worth a request of their own.
fn large() -> Served {
    let home = tempfile::tempdir().unwrap();
    let layout = Layout { row_group_rows: 3000, neighbors: NeighborStorage::Full, ..layout() };
    crate::write(&home.path().join("d"), &layout, &[(0..3500).map(molecule).collect()], 1);
    let server = crate::Server::start(home.path());
    Served { home, server, said: Arc::default() }
}

#[test]
fn graph_counts_are_fetched_alone() {
    let served = large();
    let local = Dataset::open(served.dir()).unwrap();
    let (dataset, remote) = served.open();
    let size = local.manifest().parts[0].bytes;
    for _ in 0..2 {
        for group in dataset.row_groups() {
            let (ours, theirs) = (
                dataset.read_columns(group, Columns::counts()),
                local.read_columns(group, Columns::counts()),
            );
            let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
            assert_eq!(ours.rows(), theirs.rows());
            for row in 0..ours.rows() {
                assert_eq!((ours.natoms(row), ours.counts(row)), (theirs.natoms(row), theirs.counts(row)));
            }
        }
    }
    let counted = remote.traffic();
    assert!(counted.bytes < size / 3, "{counted:?} of {size}");
    // They agree with the whole.
    assert_eq!(rows(&dataset).unwrap(), rows(&local).unwrap());
    served.server.seen();
    dataset.read_columns(&dataset.row_groups()[0], Columns::counts()).unwrap();
    assert!(served.server.seen().is_empty());
}

/// Changes a byte of every content of a cache that no checksum protects, as if it had changed on the way.
fn change_columns(cache: &Path, at: usize) -> usize {
    let mut changed = 0;
    for path in objects(cache) {
        let mut content = fs::read(&path).unwrap();
        let end = content.len() - 32;
        if *blake3::hash(&content[..end]).as_bytes() == content[end..] {
            content[at % end] ^= 1;
            let hash = blake3::hash(&content[..end]);
            content[end..].copy_from_slice(hash.as_bytes());
            fs::write(&path, content).unwrap();
            changed += 1;
        }
    }
    changed
}

#[test]
fn wrong_graph_counts_are_found_out() {
    let served = large();
    let cache = served.home.path().join("cache");
    let group = served.open().0.row_groups()[0].clone();
    let mut decodable = 0;
    for at in 0..40 {
        served.open().0.read_columns(&group, Columns::counts()).unwrap();
        assert_eq!(change_columns(&cache, 4_001 * at), 1);
        let (dataset, remote) = served.open();
        dataset.read_columns(&group, Columns::counts()).unwrap();
        if remote.traffic().requests == 1 {
            decodable += 1;
            // Fetched ahead or by the read itself: it is compared either way.
            if decodable % 2 == 0 {
                dataset.prefetch(&group);
                while remote.traffic().requests == 1 {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
            let error = dataset.read(&group, Columns::all()).unwrap_err().to_string();
            assert!(error.contains("columns of row group 0 as read before"), "{error}");
            assert!(dataset.read(&group, Columns::all()).is_ok());
            assert!(dataset.read_columns(&group, Columns::counts()).is_ok());
        }
        fs::remove_dir_all(&cache).unwrap();
    }
    assert!(decodable > 2, "{decodable}");
}

#[test]
fn columns_that_cannot_be_decoded_come_with_their_row_group() {
    let served = large();
    let (dataset, _) = served.open();
    let group = dataset.row_groups()[0].clone();
    dataset.read(&dataset.row_groups()[1], Columns::all()).unwrap();
    let size = fs::metadata(served.dir().join("data/part-00000.parquet")).unwrap().len();
    // Ranges that are not most of the file come with a wrong byte in the middle.
    served.server.misbehave(move |seen| match seen.range {
        Some((from, to)) if to - from < size / 4 => Fault::Flipped,
        _ => Fault::None,
    });
    let local = Dataset::open(served.dir()).unwrap();
    let (ours, theirs) =
        (dataset.read_columns(&group, Columns::identity()), local.read(&group, Columns::identity()));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert!((0..ours.rows()).all(|row| ours.row(row).id == theirs.row(row).id));
}

/// What tells a process that it is the one to be killed: a URL, a cache and its limit.
const TO_BE_KILLED: [&str; 3] = ["JMP_TEST_URL", "JMP_TEST_CACHE", "JMP_TEST_LIMIT"];

/// Reads a dataset over and over with a cache that is always full.
fn read_until_killed([url, cache, limit]: [String; 3]) -> ! {
    let options = RemoteOptions {
        cache: Some(cache.into()),
        cache_size: ByteSize::new(limit.parse().unwrap()),
        ..RemoteOptions::default()
    };
    let dataset = Dataset::open_with(url, &Remote::new(options).unwrap()).unwrap();
    loop {
        rows(&dataset).unwrap();
    }
}

#[test]
fn killed_readers_leave_nothing_that_misleads() {
    if std::env::var_os(TO_BE_KILLED[0]).is_some() {
        read_until_killed(TO_BE_KILLED.map(|name| std::env::var_os(name).unwrap().into_string().unwrap()));
    }
    let served = Served::new();
    let (cache, limit) = (served.home.path().join("cache"), half(&served));
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            // This very test, which then is the reader.
            .args(["--exact", "kept::killed_readers_leave_nothing_that_misleads"])
            .env(TO_BE_KILLED[0], served.url())
            .env(TO_BE_KILLED[1], &cache)
            .env(TO_BE_KILLED[2], limit.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut requests = 0;
        while requests < 3 * round {
            requests += served.server.seen().len();
            assert!(child.try_wait().unwrap().is_none(), "it reads until it is killed");
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let options = RemoteOptions { cache_size: ByteSize::new(limit), ..served.options() };
        let dataset = Dataset::open_with(served.url(), &Remote::new(options).unwrap()).unwrap();
        assert_eq!(rows(&dataset).unwrap(), local_rows(&served.dir()));
        assert!(stored(&cache) <= limit);
        let said = served.said.lock().unwrap();
        assert!(said.iter().all(|line| !line.contains("damaged")), "{said:?}");
    }
}
