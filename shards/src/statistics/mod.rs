//! What is measured about the rows of a split: counts, elements, moments, references and normalisation.
//!
//! Two passes over few columns. The first gathers counts, extremes, force sums and the least-squares statistics; the second,
//! knowing means and references, gathers the moments about them, so that nothing cancels. All sums are exact, so the result
//! does not depend on the order or the partition of the rows.

mod first_pass;
mod second_pass;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use first_pass::FirstPass;
use second_pass::{Pivot, SecondPass};

use crate::checks::outliers::{self, Residuals};
use crate::error::ShardError;
use crate::linear_reference::{GivenReference, LinearReference};
use crate::reader::{Block, Columns, Dataset};
use crate::row_set::RowSet;

/// The label that every dataset may have.
pub const ENERGY: &str = "energy";

/// Everything measured about one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitStatistics {
    /// Rows.
    pub structures: u64,
    /// Atoms over all rows.
    pub atoms: u64,
    /// Fewest atoms of a structure.
    pub atoms_min: u32,
    /// Most atoms of a structure.
    pub atoms_max: u32,
    /// Structures by number of atoms, in bins of [`ATOMS_BIN`].
    pub atoms_histogram: BTreeMap<u32, u64>,
    /// Atomic number → occurrence.
    pub elements: BTreeMap<u8, ElementCount>,
    /// Label (`energy` or a target's name) → its moments and reference.
    pub labels: BTreeMap<String, LabelStatistics>,
    /// Forces, where any structure has them.
    pub forces: Option<ForceStatistics>,
}

/// Width of the bins of [`SplitStatistics::atoms_histogram`].
pub const ATOMS_BIN: u32 = 5;

/// How often an element occurs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElementCount {
    /// Structures with it.
    pub structures: u64,
    /// Atoms of it.
    pub atoms: u64,
}

/// A scalar label's distribution, in its own unit, before and after its linear reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelStatistics {
    /// Structures that have it.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Least squares over element counts.
    pub reference: LinearReference,
    /// Moments after subtraction of the reference.
    pub referenced: ReferencedMoments,
}

/// Moments of a referenced label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferencedMoments {
    /// Mean residual.
    pub mean: f64,
    /// Population standard deviation of the residual.
    pub std: f64,
    /// Mean absolute residual.
    pub mae: f64,
    /// Largest absolute residual.
    pub max_abs: f64,
}

/// Force components of a split, eV/Å.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceStatistics {
    /// Structures with forces.
    pub structures: u64,
    /// Atoms with forces.
    pub atoms: u64,
    /// Root mean square of the components: the normalisation of forces.
    pub rms: f64,
    /// Mean length of the atoms' force.
    pub mean_norm: f64,
    /// Largest length.
    pub max_norm: f64,
    /// Atoms by force length: bin `k` holds lengths in `[10^(k/4), 10^((k+1)/4))`; zero length is in the lowest bin, −40.
    pub log_norm_histogram: BTreeMap<i32, u64>,
}

/// Measures several splits at once; rows are decoded once a pass, whatever the number of splits. A given reference takes the
/// place of the fit of the energy.
///
/// # Errors
/// When rows cannot be read, or the given reference lacks an element.
pub fn measure(
    dataset: &Dataset,
    splits: &[(String, RowSet)],
    given: Option<&GivenReference>,
) -> Result<Vec<SplitStatistics>, ShardError> {
    passes(dataset, splits, given, None).map(|measured| measured.0)
}

/// [`measure`], and the energies after the reference of all rows together.
pub(crate) fn measure_with_residuals(
    dataset: &Dataset,
    splits: &[(String, RowSet)],
    given: Option<&GivenReference>,
) -> Result<(Vec<SplitStatistics>, Option<Residuals>), ShardError> {
    if let Some(whole) = splits.iter().position(|(_, rows)| rows.len() == dataset.rows()) {
        return passes(dataset, splits, given, Some(whole));
    }
    let all = ("all rows".to_owned(), RowSet::from_range(0..dataset.rows()));
    let extended = [splits, &[all]].concat();
    let (mut statistics, residuals) = passes(dataset, &extended, given, Some(splits.len()))?;
    statistics.truncate(splits.len());
    Ok((statistics, residuals))
}

/// The two passes; `whole` is the split of all rows, if residuals are wanted.
fn passes(
    dataset: &Dataset,
    splits: &[(String, RowSet)],
    given: Option<&GivenReference>,
    whole: Option<usize>,
) -> Result<(Vec<SplitStatistics>, Option<Residuals>), ShardError> {
    let labels = label_names(dataset);
    let first = fold(
        dataset,
        Columns::labels(),
        splits,
        || FirstPass::new(&labels),
        FirstPass::add,
        FirstPass::merge,
    )?;
    let fitted: Vec<Vec<Option<Pivot>>> = first
        .iter()
        .zip(splits)
        .map(|(pass, (name, _))| {
            let given = |label: usize| given.filter(|_| label == 0);
            pass.labels.iter().enumerate().map(|(label, sums)| sums.pivot(name, given(label))).collect()
        })
        .collect::<Result<_, _>>()?;
    let stride = outliers::stride(dataset.rows());
    let second = fold(
        dataset,
        Columns::energies(),
        splits,
        || SecondPass::new(labels.len()),
        |pass, split, block, index| {
            pass.add(&fitted[split], block, index);
            if whole == Some(split) {
                pass.add_residual(&fitted[split], block, index, stride);
            }
        },
        SecondPass::merge,
    )?;
    let residuals = whole.and_then(|whole| second[whole].residuals(&fitted[whole]));
    let statistics = first
        .into_iter()
        .zip(second)
        .zip(fitted)
        .map(|((first, second), pivots)| first.finish(&labels, &second, pivots))
        .collect();
    Ok((statistics, residuals))
}

fn label_names(dataset: &Dataset) -> Vec<String> {
    let targets = dataset.layout().targets.iter().map(|t| t.name.clone());
    std::iter::once(ENERGY.to_string()).chain(targets).collect()
}

/// Runs `add` over the rows of every split, parts in parallel, and merges the accumulators.
fn fold<A: Send>(
    dataset: &Dataset,
    columns: Columns,
    splits: &[(String, RowSet)],
    new: impl Fn() -> A + Sync,
    add: impl Fn(&mut A, usize, &Block, usize) + Sync,
    merge: impl Fn(&mut A, A) + Sync,
) -> Result<Vec<A>, ShardError> {
    let fresh = || -> Vec<A> { splits.iter().map(|_| new()).collect() };
    dataset
        .row_groups()
        .par_iter()
        .try_fold(fresh, |mut all, group| {
            let wanted = splits.iter().any(|(_, rows)| rows.within(group.rows.clone()).next().is_some());
            if wanted {
                let block = dataset.read(group, columns)?;
                for (split, (_, rows)) in splits.iter().enumerate() {
                    for row in rows.within(group.rows.clone()) {
                        add(&mut all[split], split, &block, (row - group.rows.start) as usize);
                    }
                }
            }
            Ok(all)
        })
        .try_reduce(fresh, |mut left, right| {
            left.iter_mut().zip(right).for_each(|(a, b)| merge(a, b));
            Ok(left)
        })
}

/// `(atomic number, count)` pairs of a structure, ascending.
pub fn element_counts(atomic_numbers: &[u8]) -> Vec<(u8, u32)> {
    let mut sorted = atomic_numbers.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
}
