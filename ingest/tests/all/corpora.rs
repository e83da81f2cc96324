//! The fuzz corpora through every reader, with the ordinary compiler: no panic, no long run.

#[allow(unreachable_pub, reason = "the fuzz targets use the same file")]
#[path = "../../fuzz/readers.rs"]
mod readers;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Any of these files takes milliseconds; the machine may be busy.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn every_corpus_file_through_its_reader() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let names: BTreeSet<&str> = readers::TARGETS.iter().map(|t| t.0).collect();
    for folder in ingest::input::sorted_dir(&corpora).unwrap() {
        let name = folder.file_name().unwrap().to_str().unwrap();
        assert!(names.contains(name), "the corpus {name} has no target");
    }
    for (name, target) in readers::TARGETS {
        let binary = corpora.join(format!("../fuzz_targets/{name}.rs"));
        assert!(binary.exists(), "{name} has no program");
        let files = ingest::input::sorted_dir(&corpora.join(name)).unwrap();
        assert!(!files.is_empty(), "{name} has no seeds");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let start = Instant::now();
            target(&bytes);
            assert!(start.elapsed() < LONGEST, "{} took {:?}", file.display(), start.elapsed());
        }
    }
}

/// Seeds of one reader are junk to another, and no reader may mind.
#[test]
fn every_corpus_file_through_every_reader() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for folder in ingest::input::sorted_dir(&corpora).unwrap() {
        for file in ingest::input::sorted_dir(&folder).unwrap() {
            let bytes = std::fs::read(&file).unwrap();
            for (_, target) in readers::TARGETS {
                target(&bytes);
            }
        }
    }
}
