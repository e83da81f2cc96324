//! Finds every flipped byte of a dataset and every broken rule of its rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::checks::{self, Check};
use crate::error::{ShardError, io_error};
use crate::manifest::PartRecord;
use crate::reader::{Columns, Dataset};
use crate::remote::Location;

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
    /// Suspicious structures by physics check: those that one structure alone tells, counted again, and the others as the
    /// manifest tells them.
    pub suspicions: BTreeMap<String, u64>,
}

/// Checks hashes, checksums and the rules of every row. `progress` is told the rows of each finished part.
///
/// # Errors
/// Only if the manifest cannot be trusted; all other faults are findings.
pub fn verify(dir: &Path, progress: impl Fn(u64) + Sync) -> Result<Report, ShardError> {
    let dir = &Location::parse(dir)?.directory()?.to_path_buf();
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
    let listed = manifest.checks.as_ref().and_then(|c| c.outliers_blake3.as_deref());
    for (file, expected) in [
        (crate::rejects::path(dir), manifest.rejects_blake3.as_deref()),
        (crate::suspects::path(dir), listed),
    ] {
        report.files += u64::from(expected.is_some());
        report.findings.extend(verify_list(file, expected));
    }
    let parts: Vec<PartReport> = (0..manifest.parts.len())
        .into_par_iter()
        .map(|part| {
            let findings = verify_part(&dataset, part);
            progress(manifest.parts[part].rows);
            findings
        })
        .collect();
    report.files += parts.len() as u64;
    report.rows = manifest.rows;
    let mut suspicions: BTreeMap<String, u64> = BTreeMap::new();
    for part in parts {
        report.findings.extend(part.findings);
        for (check, count) in part.suspicions {
            *suspicions.entry(check.code().to_owned()).or_default() += count;
        }
    }
    report.findings.extend(strangers(dir, &manifest.parts));
    if report.findings.is_empty() {
        report.findings.extend(compare(&dataset, &suspicions));
    }
    report.suspicions = manifest.checks.as_ref().map_or(suspicions, |c| c.counts.clone());
    Ok(report)
}

/// The suspicions found now are those that the manifest counts.
fn compare(dataset: &Dataset, found: &BTreeMap<String, u64>) -> Vec<Finding> {
    let Some(checks) = &dataset.manifest().checks else { return Vec::new() };
    let local = Check::ALL.into_iter().filter(|c| c.is_local()).map(Check::code);
    let count = |counts: &BTreeMap<String, u64>, code: &str| counts.get(code).copied().unwrap_or(0);
    let differing = local.filter(|code| count(&checks.counts, code) != count(found, code));
    let finding = |code: &str| Finding {
        file: dataset.manifest_path(),
        problem: format!(
            "check {code}: expected {} structures, found {}",
            count(&checks.counts, code),
            count(found, code)
        ),
    };
    differing.map(finding).collect()
}

fn verify_list(file: PathBuf, expected: Option<&str>) -> Option<Finding> {
    let problem = match (expected, hash_file(&file)) {
        (None, _) => None,
        (Some(expected), Ok(found)) if found == expected => None,
        (Some(expected), Ok(found)) => Some(format!("BLAKE3: expected {expected}, found {found}")),
        (Some(_), Err(error)) => Some(error.to_string()),
    };
    problem.map(|problem| Finding { file, problem })
}

#[derive(Default)]
struct PartReport {
    findings: Vec<Finding>,
    suspicions: BTreeMap<Check, u64>,
}

impl From<Finding> for PartReport {
    fn from(finding: Finding) -> Self {
        Self { findings: vec![finding], ..Self::default() }
    }
}

fn verify_part(dataset: &Dataset, part: usize) -> PartReport {
    let record = &dataset.manifest().parts[part];
    let file = dataset.dir().join("data").join(&record.file);
    let finding = |problem: String| Finding { file: file.clone(), problem };
    match hash_file(&file) {
        Ok(found) if found != record.blake3 => {
            return finding(format!("BLAKE3: expected {}, found {found}", record.blake3)).into();
        }
        Ok(_) => {}
        Err(error) => return finding(error.to_string()).into(),
    }
    let PartReport { mut findings, mut suspicions } = PartReport::default();
    let mut atoms = 0;
    for group in dataset.row_groups().iter().filter(|g| g.part == part) {
        match dataset.read(group, Columns::all()) {
            Ok(block) => {
                for index in 0..block.rows() {
                    let structure = block.row(index).to_structure();
                    atoms += structure.atoms() as u64;
                    for suspicion in checks::examine(&structure) {
                        *suspicions.entry(suspicion.check).or_default() += 1;
                    }
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
    PartReport { findings, suspicions }
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
