//! Splits of one molecule's frames: the published lists beside the file, JMP's shuffle, and fifty rows of it.

use std::fs;
use std::path::{Path, PathBuf};

use shards::legacy_shuffle::permutation;

use crate::error::{IngestError, input_error, io_error};
use crate::input::sorted_dir;
use crate::source::{Members, SplitPlan};

/// The part of JMP's training rows that is held out for validation, truncated to whole rows.
const VALIDATION_FRACTION: f64 = 0.05;
/// Rows of the few-shot split.
const FEW: usize = 50;
/// Bytes that a list of row numbers may have.
const LONGEST_LIST: u64 = 16 << 20;

/// The splits of a file of `rows` whole frames, of which `total` train and validate; none if there are not that many.
pub(super) fn whole_file(
    path: &Path,
    rows: usize,
    total: u64,
    seed: u32,
    id: impl Fn(usize) -> String,
) -> Result<Vec<SplitPlan>, IngestError> {
    let mut splits = Vec::new();
    for (name, list) in published_lists(path) {
        let rows = read_list(&list, rows)?;
        splits.push(SplitPlan {
            name,
            algorithm: format!("published list {}", list.file_name().unwrap_or_default().to_string_lossy()),
            seed: None,
            members: Members::Ids(rows.into_iter().map(&id).collect()),
        });
    }
    if total < rows as u64 {
        splits.extend(jmp(rows, total as usize, seed, id));
    }
    Ok(splits)
}

/// JMP's split, and the first rows of its training set for few-shot training.
fn jmp(rows: usize, total: usize, seed: u32, id: impl Fn(usize) -> String) -> Vec<SplitPlan> {
    let order = permutation(rows as u32, seed);
    let train = total - (total as f64 * VALIDATION_FRACTION) as usize;
    let algorithm = format!(
        "JMP: rows shuffled by numpy's RandomState({seed}); the first {train} train, the next {} val, the rest test",
        total - train
    );
    let few = format!("the first {FEW} of JMP's training rows; which {FEW} JMP itself used is not published");
    let cuts = [
        ("train", 0..train, algorithm.clone()),
        ("val", train..total, algorithm.clone()),
        ("test", total..rows, algorithm),
        ("few_shot_50", 0..FEW, few),
    ];
    let kept = cuts.into_iter().filter(|(name, _, _)| *name != "few_shot_50" || train > FEW);
    kept.map(|(name, range, algorithm)| SplitPlan {
        name: name.to_owned(),
        algorithm,
        seed: Some(u64::from(seed)),
        members: Members::Ids(order[range].iter().map(|&row| id(row as usize)).collect()),
    })
    .collect()
}

/// `index_<name>.csv` beside the file, in `splits/` there, or in `splits/` beside its directory, as the archive unpacks; the
/// first of the three that has any.
fn published_lists(path: &Path) -> Vec<(String, PathBuf)> {
    let Some(dir) = path.parent() else { return Vec::new() };
    let places = [Some(dir.to_path_buf()), Some(dir.join("splits")), dir.parent().map(|p| p.join("splits"))];
    let lists = |dir: PathBuf| -> Vec<(String, PathBuf)> {
        let entries = sorted_dir(&dir).unwrap_or_default().into_iter();
        let named = entries.filter_map(|p| {
            let name = p.file_name()?.to_str()?.strip_prefix("index_")?.strip_suffix(".csv")?.to_owned();
            Some((name, p))
        });
        named.collect()
    };
    places.into_iter().flatten().map(lists).find(|found| !found.is_empty()).unwrap_or_default()
}

fn read_list(path: &Path, rows: usize) -> Result<Vec<usize>, IngestError> {
    let bytes = fs::metadata(path).map_err(io_error("look at", path))?.len();
    if bytes > LONGEST_LIST {
        return Err(input_error(path, format!("{bytes} bytes, expected a list of row numbers")));
    }
    let text = fs::read(path).map_err(io_error("read", path))?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let number = |(at, line): (usize, &str)| {
        let row = line.trim().parse().ok().filter(|&row: &usize| row < rows);
        row.ok_or_else(|| {
            let found: String = line.chars().take(40).collect();
            input_error(path, format!("line {}: expected a row number below {rows}, found {found:?}", at + 1))
        })
    };
    lines.map(number).collect()
}
