//! What a run says before it begins: its datasets, their shares and scales, its length.

use std::io::{self, Write};

use serde::Serialize;
use shards::ShardError;
use shards::stream::Share;

use crate::config::Config;
use crate::config::number::Fraction;
use crate::data::sequential;
use crate::plan::RunPlan;
use crate::task::Task;

/// One dataset of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetRow {
    /// Name of the task.
    pub dataset: String,
    /// Structures of the training split.
    pub structures: u64,
    /// Structures of the validation split, 0 without one.
    pub validation: u64,
    /// Structures it contributes to an epoch.
    pub expanded: u64,
    /// How often a structure comes in an epoch, on average.
    pub repeats: f64,
    /// Share of an epoch.
    pub probability: f64,
    /// λ_E.
    pub energy_weight: f64,
    /// λ_F.
    pub force_weight: f64,
    /// Elements of the linear reference, 0 without one.
    pub reference_elements: usize,
    /// The property that is learnt, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// Unit of the two that follow: eV, or the property's.
    pub unit: String,
    /// Mean of energies (of the property) after the reference.
    pub mean: f64,
    /// Scale of energies (of the property).
    pub std: f64,
    /// Scale of forces, eV/Å.
    pub force_rms: f64,
    /// Interaction cutoff, Å.
    pub cutoff: f64,
    /// Neighbours of the main graph.
    pub neighbors: u32,
}

/// The table and what belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// `plan`.
    pub kind: &'static str,
    /// One row a dataset.
    pub datasets: Vec<DatasetRow>,
    /// Structures of an epoch.
    pub structures_per_epoch: u64,
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: u64,
    /// Structures of an optimiser step.
    pub batch: u64,
    /// Optimiser steps of the run.
    pub total_steps: u64,
    /// Structures of the run.
    pub total_samples: u64,
}

impl Summary {
    /// The summary of a planned run.
    pub fn new(tasks: &[Task], plan: &RunPlan) -> Self {
        let row = |(task, expanded): (&Task, &u64)| {
            let (record, transform) = (&task.record, &task.record.transform);
            DatasetRow {
                dataset: record.name.clone(),
                structures: task.structures,
                validation: task.val_structures,
                expanded: *expanded,
                repeats: *expanded as f64 / task.structures.max(1) as f64,
                probability: *expanded as f64 / plan.epoch.structures.max(1) as f64,
                energy_weight: record.energy_weight,
                force_weight: record.force_weight,
                reference_elements: transform.reference.as_ref().map_or(0, |r| r.coefficients.len()),
                property: record.scalar.as_ref().map(|scalar| scalar.name.clone()),
                unit: record.scalar.as_ref().map_or("eV", |scalar| scalar.column_unit()).to_owned(),
                mean: transform.mean,
                std: transform.std,
                force_rms: transform.force_std,
                cutoff: record.graph.cutoff,
                neighbors: record.graph.main,
            }
        };
        Self {
            kind: "plan",
            datasets: tasks.iter().zip(&plan.epoch.expanded).map(row).collect(),
            structures_per_epoch: plan.epoch.structures,
            steps_per_epoch: plan.steps_per_epoch,
            batch: plan.batch,
            total_steps: plan.total_steps(),
            total_samples: plan.total_samples,
        }
    }

    /// Writes the table for people.
    pub fn write(&self, config: &Config, out: &mut dyn Write) -> io::Result<()> {
        // A run of several datasets learns energies.
        let unit = self.datasets.first().map_or("eV", |d| d.unit.as_str());
        let width = self.datasets.iter().map(|d| d.dataset.len()).max().unwrap_or(0).max(7);
        writeln!(
            out,
            "{:width$}  {:>10}  {:>10}  {:>7}  {:>11}  {:>6}  {:>6}  {:>9}  {:>10}  {:>10}  {:>10}  {:>12}",
            "dataset",
            "structures",
            "validation",
            "repeats",
            "probability",
            "λ_E",
            "λ_F",
            "reference",
            format!("mean {unit}"),
            format!("std {unit}"),
            "RMS eV/Å",
            "graph"
        )?;
        for d in &self.datasets {
            // A property has neither forces nor their weight.
            let of_forces = |text: String| if d.property.is_some() { "none".to_owned() } else { text };
            let reference = if d.reference_elements == 0 {
                "none".into()
            } else {
                format!("{} el.", d.reference_elements)
            };
            writeln!(
                out,
                "{:width$}  {:>10}  {:>10}  {:>7.2}  {:>11.4}  {:>6.1}  {:>6}  {:>9}  {:>10}  {:>10.4}  {:>10}  {:>12}",
                d.dataset,
                d.structures,
                d.validation,
                d.repeats,
                d.probability,
                d.energy_weight,
                of_forces(format!("{:.1}", d.force_weight)),
                reference,
                signed(d.mean),
                d.std,
                of_forces(format!("{:.4}", d.force_rms)),
                format!("{} Å, {}", d.cutoff, d.neighbors)
            )?;
        }
        writeln!(
            out,
            "epoch: {} structures, {} steps of {}; run: {} steps, {} structures; directory {}",
            self.structures_per_epoch,
            self.steps_per_epoch,
            self.batch,
            self.total_steps,
            self.total_samples,
            config.run.dir.display()
        )
    }
}

/// Four decimals; what rounds to zero has no sign.
fn signed(value: f64) -> String {
    let text = format!("{value:.4}");
    if text == "-0.0000" { "0.0000".to_owned() } else { text }
}

/// What is odd though it can be trained: averages over much of a run, and datasets in which no atom takes part in quadruplets.
///
/// # Errors
/// A dataset whose first structures cannot be read.
pub fn warnings(config: &Config, tasks: &[Task], plan: &RunPlan) -> Result<Vec<String>, ShardError> {
    let mut warnings = without_quadruplets(config, tasks)?;
    let decay = config.optimizer.ema.map(Fraction::get);
    warnings.extend(decay.and_then(|decay| long_average(decay, plan.most_steps(config))));
    Ok(warnings)
}

/// Validations and the model that is kept are those of the averaged weights, which in a short run have hardly left the start.
fn long_average(decay: f64, steps: u64) -> Option<String> {
    let back = 1.0 / (1.0 - decay);
    (10.0 * back > steps as f64).then(|| {
        format!(
            "warning: validations and the final model are those of averaged weights, which look back over some {back:.0} steps \
             (optimizer.ema = {decay}), much in a run of {steps}: they lag behind the training; a smaller optimizer.ema, or none, \
             fits so short a run"
        )
    })
}

/// Datasets in which no atom takes part in quadruplets.
///
/// Quadruplets have a surface or adsorbate atom (tag 1 or 2) at one end of their middle edge, as the reference has it;
/// missing tags act as 2. Tags that are all 0 are mostly a converter's mistake. Only the first structures of each training
/// split are looked at.
fn without_quadruplets(config: &Config, tasks: &[Task]) -> Result<Vec<String>, ShardError> {
    if !config.model.interactions.quadruplet {
        return Ok(Vec::new());
    }
    let mut warnings = Vec::new();
    for (index, task) in tasks.iter().enumerate() {
        let whole = (task.record.split.as_str(), u64::MAX);
        let mut batches = sequential(config, task, index, whole, Share::WHOLE)?;
        let Some(batch) = batches.next().transpose()? else { continue };
        if !batch.tags.is_empty() && batch.tags.iter().all(|tag| *tag == 0) {
            warnings.push(format!(
                "warning: dataset `{}`: the tags of its first {} structures are all 0, so none of their atoms takes part in \
                 quadruplets; convert it without tags (they then act as 2), or set model.interactions.quadruplet = false",
                task.record.name,
                batch.structures()
            ));
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_over_much_of_a_run_are_told() {
        assert_eq!(long_average(0.99, 1000), None);
        let told = long_average(0.99, 400).unwrap();
        assert!(told.contains("some 100 steps") && told.contains("a run of 400"), "{told}");
        assert_eq!(long_average(0.9, 400), None);
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!([-1e-5, 0.0, -0.0].map(signed), ["0.0000"; 3]);
        assert_eq!([-6e-5, 6e-5, -12.34567].map(signed), ["-0.0001", "0.0001", "-12.3457"]);
    }
}
