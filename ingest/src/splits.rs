//! From the splits that a source names to row sets of the finished dataset.

use std::collections::BTreeSet;

use shards::reader::Columns;
use shards::splits::SplitDefinition;
use shards::{Dataset, RowSet, ShardError};

use crate::source::{Members, SplitPlan};

/// The rows of each planned split, found in one pass over ids and groups. Splits without rows are left out.
///
/// # Errors
/// When the dataset cannot be read back, or a name is no valid split name.
pub fn resolve(dataset: &Dataset, plans: &[SplitPlan]) -> Result<Vec<SplitDefinition>, ShardError> {
    let mut rows: Vec<Vec<u64>> = vec![Vec::new(); plans.len()];
    let by_row = plans.iter().any(|p| !matches!(p.members, Members::Units(_)));
    for group in dataset.row_groups() {
        let unit = dataset.manifest().parts[group.part].unit;
        for (plan, rows) in plans.iter().zip(&mut rows) {
            if matches!(&plan.members, Members::Units(units) if units.contains(&unit)) {
                rows.extend(group.rows.clone());
            }
        }
        if !by_row {
            continue;
        }
        let block = dataset.read(group, Columns::identity())?;
        for (index, row) in group.rows.clone().enumerate() {
            let view = block.row(index);
            for (plan, rows) in plans.iter().zip(&mut rows) {
                let inside = |set: &BTreeSet<String>, name: &str| set.contains(name);
                match &plan.members {
                    Members::Groups(groups) if inside(groups, view.group) => rows.push(row),
                    Members::Ids(ids) if inside(ids, view.id) => rows.push(row),
                    _ => {}
                }
            }
        }
    }
    let filled = plans.iter().zip(rows).filter(|(_, rows)| !rows.is_empty());
    filled
        .map(|(plan, rows)| {
            SplitDefinition::new(&plan.name, &plan.algorithm, plan.seed, RowSet::from_rows(rows))
        })
        .collect()
}
