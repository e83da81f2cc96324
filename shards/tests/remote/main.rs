//! Datasets at URLs: the same bytes as from a directory, whatever the server does, and a cache that can be trusted.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

#[path = "../molecules/mod.rs"]
mod molecules;
mod server;

mod faults;
mod kept;
mod streamed;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use molecules::{layout, molecule, write};
use server::Server;
use shards::reader::Columns;
use shards::remote::{ByteSize, Log, Traffic};
use shards::{Dataset, Remote, RemoteOptions, ShardError, Structure};

/// A dataset of 22 rows in two parts, six row groups, served below its name `d`.
struct Served {
    home: tempfile::TempDir,
    server: Server,
    said: Arc<Mutex<Vec<String>>>,
}

impl Served {
    fn new() -> Self {
        Self::of(&[(0..12).map(molecule).collect(), (12..22).map(molecule).collect()])
    }

    fn of(units: &[Vec<Structure>]) -> Self {
        let home = tempfile::tempdir().unwrap();
        write(&home.path().join("d"), &layout(), units, 1);
        let server = Server::start(home.path());
        Self { home, server, said: Arc::default() }
    }

    fn dir(&self) -> std::path::PathBuf {
        self.home.path().join("d")
    }

    fn url(&self) -> String {
        self.server.url("d")
    }

    fn options(&self) -> RemoteOptions {
        let said = self.said.clone();
        RemoteOptions {
            cache: Some(self.home.path().join("cache")),
            cache_size: ByteSize::new(10 << 20),
            attempts: 6,
            first_wait: Duration::from_millis(1),
            silence: Duration::from_millis(400),
            connections: 4,
            log: Log::new(move |line| said.lock().unwrap().push(line.to_owned())),
            ..RemoteOptions::default()
        }
    }

    fn remote(&self) -> Arc<Remote> {
        Remote::new(self.options()).unwrap()
    }

    fn open(&self) -> (Dataset, Arc<Remote>) {
        let remote = self.remote();
        (Dataset::open_with(self.url(), &remote).unwrap(), remote)
    }
}

/// Everything in a dataset.
fn rows(dataset: &Dataset) -> Result<Vec<Structure>, ShardError> {
    let mut rows = Vec::new();
    for group in dataset.row_groups() {
        let block = dataset.read(group, Columns::all())?;
        rows.extend((0..block.rows()).map(|i| block.row(i).to_structure()));
    }
    Ok(rows)
}

fn local_rows(dir: &Path) -> Vec<Structure> {
    rows(&Dataset::open(dir).unwrap()).unwrap()
}

#[test]
fn a_url_gives_what_the_directory_gives() {
    let served = Served::new();
    let (dataset, remote) = served.open();
    let local = Dataset::open(served.dir()).unwrap();
    assert_eq!(dataset.manifest(), local.manifest());
    assert_eq!(dataset.split("all").unwrap(), local.split("all").unwrap());
    assert_eq!(rows(&dataset).unwrap(), rows(&local).unwrap());
    assert_eq!(dataset.structure(13).unwrap(), molecule(13));
    let requests = served.server.seen();
    // One manifest, one split, two footers, six row groups.
    assert_eq!(requests.len(), 10, "{requests:?}");
    let Traffic { requests, retries, .. } = remote.traffic();
    assert_eq!((requests, retries), (10, 0));
}

#[test]
fn what_cannot_be_there_is_told() {
    let served = Served::new();
    let remote = served.remote();
    let error = |url: &str| Dataset::open_with(url, &remote).unwrap_err().to_string();
    assert!(error(&served.server.url("nothing")).contains("there is no manifest.json in it"));
    assert!(error("http://example.org/x").contains("is not encrypted"));
    assert!(error("ftp://example.org/x").contains("unknown kind of URL"));
    // Nothing listens there.
    let refused = error("http://127.0.0.1:9/x");
    assert!(
        refused.contains("cannot download http://127.0.0.1:9/x/manifest.json")
            && refused.contains("attempt 5")
    );
    let (dataset, _) = served.open();
    assert!(dataset.split("none").unwrap_err().to_string().contains("has no split `none`"));
    assert!(dataset.directory().unwrap_err().to_string().contains("needs a local directory"));
    let refused = shards::verify::verify(Path::new(&served.url()), |_| {}).unwrap_err().to_string();
    assert!(refused.contains("needs a local directory"), "{refused}");
}
