//! From the splits that a source names to row sets of the finished dataset.

use std::collections::BTreeSet;
use std::ops::Range;

use shards::reader::Columns;
use shards::splits::SplitDefinition;
use shards::{Dataset, RowSet, ShardError};

use crate::source::{Members, SplitPlan};

/// The rows of each planned split, found in one pass over ids and groups. Splits without rows are left out.
///
/// # Errors
/// When the dataset cannot be read back, or a name is no valid split name.
pub fn resolve(dataset: &Dataset, plans: &[SplitPlan]) -> Result<Vec<SplitDefinition>, ShardError> {
    let mut rows: Vec<Vec<Range<u64>>> = vec![Vec::new(); plans.len()];
    let by_row = plans.iter().any(|p| !matches!(p.members, Members::Units(_)));
    for group in dataset.row_groups() {
        let unit = dataset.manifest().parts[group.part].unit;
        for (plan, rows) in plans.iter().zip(&mut rows) {
            if matches!(&plan.members, Members::Units(units) if units.contains(&unit)) {
                add(rows, group.rows.clone());
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
                    Members::Groups(groups) if inside(groups, view.group) => add(rows, row..row + 1),
                    Members::Ids(ids) if inside(ids, view.id) => add(rows, row..row + 1),
                    _ => {}
                }
            }
        }
    }
    let filled = plans.iter().zip(rows).filter(|(_, rows)| !rows.is_empty());
    filled
        .map(|(plan, rows)| {
            SplitDefinition::new(&plan.name, &plan.algorithm, plan.seed, RowSet::from_ranges(rows))
        })
        .collect()
}

/// Adds rows that come in ascending order; neighbours share a range, so that whole units take no memory to speak of.
fn add(ranges: &mut Vec<Range<u64>>, rows: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == rows.start => last.end = rows.end,
        _ => ranges.push(rows),
    }
}
