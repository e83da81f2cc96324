//! The commands of docs/data write shards where the configurations look for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use trainer::config::ablation::AblationConfig;
use trainer::config::{Config, RunKind};

use super::{choices, files_below, root};

/// The pages, and the configurations that learn from what they make.
const PAGES: [(&str, &[&str]); 12] = [
    ("ani1x", &["pretrain/jmp-s.toml"]),
    ("ase-formats", &["finetune/own-data.toml"]),
    ("matbench", &["finetune/matbench.toml"]),
    ("md17", &[]),
    ("md22", &["finetune/md22.toml"]),
    ("oc20", &["pretrain/jmp-s.toml"]),
    ("oc22", &["pretrain/jmp-s.toml"]),
    ("qm9", &["finetune/qm9.toml"]),
    ("qmof", &["finetune/qmof.toml"]),
    ("rmd17", &["finetune/rmd17.toml"]),
    ("spice", &["finetune/spice.toml"]),
    ("transition1x", &["pretrain/jmp-s.toml"]),
];

/// Pages and shards that no configuration is for.
const OTHERS: [(&str, &str); 3] =
    [("ase-formats", "shards/omat24"), ("md17", "shards/md17-ethanol"), ("spice", "shards/spice")];

fn pages() -> PathBuf {
    root().join("../docs/data")
}

/// What follows `--output` on a page.
fn written(page: &str) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(pages().join(page).with_extension("md")).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).filter(|pair| pair[0] == "--output").map(|pair| PathBuf::from(pair[1])).collect()
}

/// Where a configuration looks for its datasets; of those of pre-training only for the one with the page's name.
fn looked_for(file: &Path, page: Option<&str>) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for choice in choices(file) {
        let config = Config::read(file, &choice).unwrap_or_else(|e| panic!("{choice:?}: {e:#}"));
        let is_meant = |name: &str| config.kind == RunKind::Finetune || page.is_none_or(|page| page == name);
        let data = config.tasks.iter().map(|task| &task.data);
        paths.extend(data.filter(|data| is_meant(&data.name)).map(|data| data.path.clone()));
    }
    paths
}

#[test]
fn pages_and_configurations_name_the_same_places() {
    let mut known = BTreeSet::new();
    for (page, configs) in PAGES {
        let files = configs.iter().map(|config| root().join(config));
        let wanted: BTreeSet<PathBuf> = files.flat_map(|file| looked_for(&file, Some(page))).collect();
        let mut written = written(page);
        for (_, other) in OTHERS.iter().filter(|(of, _)| *of == page) {
            assert!(written.remove(Path::new(other)), "docs/data/{page}.md no longer writes {other}");
        }
        assert_eq!(written.is_empty(), configs.is_empty(), "docs/data/{page}.md: {written:?}");
        let lost: Vec<_> = written.difference(&wanted).collect();
        assert!(lost.is_empty(), "docs/data/{page}.md writes {lost:?}, configurations look in {wanted:?}");
        known.extend(wanted);
    }
    // Other configurations take their data from the same places.
    let mut files = Vec::new();
    ["pretrain", "finetune"].iter().for_each(|folder| files_below(&root().join(folder), &mut files));
    let ablation = AblationConfig::read(&root().join("ablation/ablation.toml")).unwrap();
    files.extend(ablation.rows.iter().map(|row| root().join("ablation").join(&row.config)));
    for file in files {
        let lost: Vec<_> = looked_for(&file, None).difference(&known).cloned().collect();
        assert!(lost.is_empty(), "{}: no page of docs/data writes {lost:?}", file.display());
    }
}

#[test]
fn every_page_is_known() {
    let names = fs::read_dir(pages()).unwrap().map(|entry| entry.unwrap().path());
    let found: BTreeSet<String> =
        names.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let known: BTreeSet<String> = PAGES.iter().map(|(page, _)| (*page).to_owned()).collect();
    assert_eq!(found, known);
}
