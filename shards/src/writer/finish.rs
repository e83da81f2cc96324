//! From finished units to a dataset: splits, statistics, what the checks found, and the manifest, last.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::record::keys_path;
use super::{DatasetWriter, PROGRESS};
use crate::checks::keys::KeyFiles;
use crate::checks::outliers::{self, Outliers, Residuals};
use crate::checks::{Check, CheckSummary, ConsistencySums, LISTED, Suspect};
use crate::error::ShardError;
use crate::manifest::{Manifest, PartRecord, SourceFile};
use crate::reader::Dataset;
use crate::rejects::RejectList;
use crate::schema::SCHEMA_VERSION;
use crate::splits::{self, SplitDefinition};
use crate::{statistics, suspects};

/// What to do with rows that share an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DuplicateIds {
    /// Stop.
    #[default]
    Refuse,
    /// Count and list them.
    Allow,
}

/// What the units' records add up to.
#[derive(Default)]
struct Gathered {
    parts: Vec<PartRecord>,
    keys: Vec<(PathBuf, u64)>,
    sources: Vec<SourceFile>,
    rejects: BTreeMap<String, u64>,
    rejects_blake3: Option<String>,
    suspicions: BTreeMap<String, u64>,
    suspects: Vec<Suspect>,
    consistency: ConsistencySums,
}

impl DatasetWriter {
    /// Makes splits, measures them, looks for duplicates and outliers, and writes the manifest last. `make_splits` sees the
    /// rows in their final order.
    ///
    /// # Errors
    /// When a unit is missing, a source file changed meanwhile, ids are not unique, or files cannot be read or written. What
    /// is finished stays.
    pub fn finish(
        self,
        duplicate_ids: DuplicateIds,
        make_splits: impl FnOnce(&Dataset) -> Result<Vec<SplitDefinition>, ShardError>,
    ) -> Result<Manifest, ShardError> {
        let gathered = self.gather()?;
        let Gathered { parts, keys, sources, rejects, rejects_blake3, suspicions, suspects, consistency } =
            gathered;
        let manifest = Manifest {
            schema_version: SCHEMA_VERSION,
            tool: self.plan.tool.clone(),
            dataset: self.plan.header.clone(),
            layout: self.plan.layout.clone(),
            sources,
            rows: parts.iter().map(|p| p.rows).sum(),
            atoms: parts.iter().map(|p| p.atoms).sum(),
            parts,
            rejects,
            rejects_blake3,
            checks: None,
            splits: BTreeMap::new(),
            hash: String::new(),
        };
        let dataset = Dataset::assemble(self.dir.clone(), manifest);
        let keys = KeyFiles::new(keys);
        let repeated = find_repeats(&dataset, &keys, duplicate_ids)?;
        let definitions = make_splits(&dataset)?;
        let named = splits::named_rows(&dataset, &definitions)?;
        let (measured, residuals) =
            statistics::measure_with_residuals(&dataset, &named, self.plan.reference.as_ref())?;
        let records = splits::write(&dataset, definitions, measured)?;
        let found = Found { suspicions, suspects, consistency, repeated };
        let checks = summarise(&dataset, found, &keys, residuals)?;
        let mut manifest = dataset.into_manifest();
        manifest.splits = records;
        manifest.checks = Some(checks);
        manifest.write(&self.dir)?;
        // The dataset is complete; what may be left of this folder does no harm.
        let _ = fs::remove_dir_all(self.dir.join(PROGRESS));
        Ok(manifest)
    }

    fn gather(&self) -> Result<Gathered, ShardError> {
        let mut all = Gathered::default();
        let mut rejects = RejectList::new(&self.dir);
        let mut first_row = 0;
        for unit in 0..self.plan.units.len() as u32 {
            let record = self.record(unit)?;
            rejects.push(&record.rejects)?;
            for reject in &record.rejects {
                *all.rejects.entry(reject.code.clone()).or_default() += 1;
            }
            for (code, count) in record.suspicions {
                *all.suspicions.entry(code).or_default() += count;
            }
            all.suspects.extend(record.suspects.into_iter().map(|s| Suspect { row: s.row + first_row, ..s }));
            limit_listed(&mut all.suspects);
            all.consistency.merge(&record.consistency);
            all.sources.extend(record.sources.into_iter().map(|s| s.file));
            if all.sources.len() > 4096 {
                all.sources.sort();
                all.sources.dedup();
            }
            if let Some(part) = record.part {
                first_row += part.rows;
                all.keys.push((keys_path(&self.progress(), unit), part.rows));
                all.parts.push(part);
            }
        }
        all.rejects_blake3 = rejects.finish()?;
        all.sources.sort();
        all.sources.dedup();
        match all.sources.windows(2).find(|pair| pair[0].name == pair[1].name) {
            None => Ok(all),
            Some(pair) => Err(ShardError::Output {
                dir: self.dir.clone(),
                problem: format!(
                    "`{}` changed while it was converted; remove the directory and convert again",
                    pair[0].name
                ),
            }),
        }
    }
}

/// Keeps the first [`LISTED`] rows of each check.
fn limit_listed(suspects: &mut Vec<Suspect>) {
    let mut listed: BTreeMap<Check, usize> = BTreeMap::new();
    suspects.retain(|s| {
        let count = listed.entry(s.check).or_default();
        *count += 1;
        *count <= LISTED
    });
}

fn find_repeats(
    dataset: &Dataset,
    keys: &KeyFiles,
    duplicate_ids: DuplicateIds,
) -> Result<[Outliers; 2], ShardError> {
    let [ids, structures] = keys.repeats(LISTED)?;
    if let (DuplicateIds::Refuse, Some(&(second, first))) = (duplicate_ids, ids.listed.first()) {
        let id = dataset.structure(second)?.id;
        return Err(ShardError::DuplicateId {
            dir: dataset.dir().to_path_buf(),
            count: ids.count,
            id,
            first,
            second,
        });
    }
    let kinds = [(ids, Check::DuplicateId), (structures, Check::DuplicateStructure)];
    Ok(kinds.map(|(repeats, check)| Outliers {
        spread: None,
        count: repeats.count,
        listed: repeats
            .listed
            .into_iter()
            .map(|(row, first)| Suspect { row, id: String::new(), check, value: 0.0, limit: first as f64 })
            .collect(),
    }))
}

struct Found {
    suspicions: BTreeMap<String, u64>,
    suspects: Vec<Suspect>,
    consistency: ConsistencySums,
    repeated: [Outliers; 2],
}

fn summarise(
    dataset: &Dataset,
    found: Found,
    keys: &KeyFiles,
    residuals: Option<Residuals>,
) -> Result<CheckSummary, ShardError> {
    let Found { suspicions, mut suspects, consistency, repeated: [ids, structures] } = found;
    let energies = residuals.map(|r| outliers::energies(dataset, r)).transpose()?.unwrap_or_default();
    let forces = outliers::forces(keys, dataset.rows())?;
    let mut summary = CheckSummary {
        counts: Check::ALL.iter().map(|c| (c.code().to_owned(), 0)).collect(),
        energy: energies.spread,
        forces: forces.spread,
        consistency: consistency.finish(),
        outliers_blake3: None,
    };
    summary.counts.extend(suspicions);
    for (check, kind) in [
        (Check::DuplicateId, ids),
        (Check::DuplicateStructure, structures),
        (Check::EnergyOutlier, energies),
        (Check::ForceOutlier, forces),
    ] {
        summary.counts.insert(check.code().to_owned(), kind.count);
        suspects.extend(kind.listed);
    }
    outliers::name(dataset, &mut suspects)?;
    summary.outliers_blake3 = suspects::write(dataset.dir(), &suspects)?;
    Ok(summary)
}
