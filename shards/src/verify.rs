//! Finds every flipped byte of a dataset and every broken rule of its rows.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{ShardError, io_error};
use crate::manifest::PartRecord;
use crate::reader::{Columns, Dataset};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file at fault.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// What was checked and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Files whose bytes were hashed.
    pub files: u64,
    /// Rows whose columns were decoded and checked.
    pub rows: u64,
    /// Faults, in the order of the files.
    pub findings: Vec<Finding>,
}

/// Checks hashes, checksums and the rules of every row. `progress` is told the rows of each finished part.
///
/// # Errors
/// Only if the manifest cannot be trusted; all other faults are findings.
pub fn verify(dir: &Path, progress: impl Fn(u64) + Sync) -> Result<Report, ShardError> {
    let dataset = Dataset::open(dir)?;
    let manifest = dataset.manifest();
    let mut report = Report { files: 1, ..Report::default() };
    for name in manifest.splits.keys() {
        report.files += 1;
        match dataset.split(name) {
            Ok(rows) if rows.len() != manifest.splits[name].rows => report.findings.push(Finding {
                file: dir.join(&manifest.splits[name].file),
                problem: format!("expected {} rows, found {}", manifest.splits[name].rows, rows.len()),
            }),
            Ok(_) => {}
            Err(error) => {
                report.findings.push(Finding {
                    file: dir.join(&manifest.splits[name].file),
                    problem: error.to_string(),
                });
            }
        }
    }
    report.findings.extend(verify_rejects(dir, manifest.rejects_blake3.as_deref()));
    let parts: Vec<Vec<Finding>> = (0..manifest.parts.len())
        .into_par_iter()
        .map(|part| {
            let findings = verify_part(&dataset, part);
            progress(manifest.parts[part].rows);
            findings
        })
        .collect();
    report.files += parts.len() as u64;
    report.rows = manifest.rows;
    report.findings.extend(parts.into_iter().flatten());
    report.findings.extend(strangers(dir, &manifest.parts));
    Ok(report)
}

fn verify_rejects(dir: &Path, expected: Option<&str>) -> Option<Finding> {
    let file = crate::rejects::path(dir);
    let problem = match (expected, hash_file(&file)) {
        (None, _) => None,
        (Some(expected), Ok(found)) if found == expected => None,
        (Some(expected), Ok(found)) => Some(format!("BLAKE3: expected {expected}, found {found}")),
        (Some(_), Err(error)) => Some(error.to_string()),
    };
    problem.map(|problem| Finding { file, problem })
}

fn verify_part(dataset: &Dataset, part: usize) -> Vec<Finding> {
    let record = &dataset.manifest().parts[part];
    let file = dataset.dir().join("data").join(&record.file);
    let finding = |problem: String| Finding { file: file.clone(), problem };
    match hash_file(&file) {
        Ok(found) if found != record.blake3 => {
            return vec![finding(format!("BLAKE3: expected {}, found {found}", record.blake3))];
        }
        Ok(_) => {}
        Err(error) => return vec![finding(error.to_string())],
    }
    let mut findings = Vec::new();
    let mut atoms = 0;
    for group in dataset.row_groups().iter().filter(|g| g.part == part) {
        match dataset.read(group, Columns::all()) {
            Ok(block) => {
                for index in 0..block.rows() {
                    let structure = block.row(index).to_structure();
                    atoms += structure.atoms() as u64;
                    if let Err(fault) = structure.check() {
                        findings.push(finding(format!(
                            "row {} (`{}`): {fault}",
                            group.rows.start + index as u64,
                            structure.id
                        )));
                    }
                }
            }
            Err(error) => findings.push(finding(error.to_string())),
        }
    }
    if findings.is_empty() && atoms != record.atoms {
        findings.push(finding(format!("expected {} atoms, found {atoms}", record.atoms)));
    }
    findings
}

/// Files below `data/` that the manifest does not know.
fn strangers(dir: &Path, parts: &[PartRecord]) -> Vec<Finding> {
    // A missing folder shows in its parts.
    let entries = fs::read_dir(dir.join("data")).into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    names.sort();
    let known = |path: &PathBuf| parts.iter().any(|p| path.file_name().is_some_and(|n| n == p.file.as_str()));
    let finding = |file| Finding { file, problem: "not in the manifest; readers ignore it".to_string() };
    names.into_iter().filter(|p| !known(p)).map(finding).collect()
}

/// BLAKE3 of a file, read in pieces.
pub fn hash_file(path: &Path) -> Result<String, ShardError> {
    let file = fs::File::open(path).map_err(io_error("open", path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(io_error("read", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}
