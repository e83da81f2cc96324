//! What an import took, left out and did without.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::Weights;
use super::names::Group;
use crate::config::model::ModelSection;

/// One part of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GroupRow {
    /// Tensors taken from the file.
    pub taken: usize,
    /// Their elements.
    pub elements: u64,
    /// Tensors that the file does not have and that have one possible value.
    pub missing: usize,
}

/// Tensors of the file that have no place in the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// Why.
    pub reason: String,
    /// Which.
    pub names: Vec<String>,
}

/// The whole import.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `import`.
    pub kind: &'static str,
    /// The file.
    pub file: String,
    /// Where the checkpoint is; set once it is written.
    pub checkpoint: Option<String>,
    /// Which weights were taken.
    pub weights: Weights,
    /// Whether the file has averaged weights.
    pub has_averages: bool,
    /// Sizes read off the shapes.
    pub model: ModelSection,
    /// Tasks with heads.
    pub tasks: Vec<String>,
    /// Optimiser steps that the file says were done.
    pub step: Option<u64>,
    /// Elements of trained tensors.
    pub parameters: u64,
    /// By part of the model.
    pub groups: BTreeMap<Group, GroupRow>,
    /// What was left out.
    pub ignored: Vec<Ignored>,
    /// Scale factors that are fitted (not 0).
    pub fitted_scale_factors: usize,
}

impl Report {
    /// `jmp-s`, `jmp-l`, or the nearest preset and how many sizes differ.
    pub fn size(&self) -> String {
        let differing = self.model.sizes.count();
        match differing {
            0 => self.model.preset.name().to_owned(),
            n => format!("other ({} with {n} sizes changed)", self.model.preset.name()),
        }
    }

    /// Writes the table for people.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{:<14}  {:>6}  {:>13}  {:>7}", "part", "taken", "elements", "missing")?;
        for (group, row) in &self.groups {
            let elements = thousands(row.elements);
            writeln!(out, "{:<14}  {:>6}  {elements:>13}  {:>7}", group.title(), row.taken, row.missing)?;
        }
        for ignored in &self.ignored {
            let (n, reason) = (ignored.names.len(), &ignored.reason);
            writeln!(out, "ignored: {n} {reason} ({}{})", ignored.names[0], if n > 1 { ", …" } else { "" })?;
        }
        let constants = self.groups.get(&Group::Constants).map_or(0, |row| row.missing);
        if constants > 0 {
            writeln!(out, "missing constants of the radial basis are computed")?;
        }
        let weights = match (self.weights, self.has_averages) {
            (Weights::Ema, _) => "averaged over training (EMA)",
            (Weights::Model, true) => "of the last step (the file has averaged ones too: --weights ema)",
            (Weights::Model, false) => "as they stand in the file, which has no averaged ones",
        };
        writeln!(out, "weights: {weights}")?;
        writeln!(out, "model: {}, {} parameters", self.size(), thousands(self.parameters))?;
        let all = self.groups.get(&Group::ScaleFactors).map_or(0, |row| row.taken);
        writeln!(out, "scale factors: {} of {all} fitted", self.fitted_scale_factors)?;
        match self.tasks.as_slice() {
            [] => writeln!(out, "heads: none")?,
            tasks => writeln!(out, "heads: {}", tasks.join(", "))?,
        }
        if let Some(step) = self.step {
            writeln!(out, "trained for {} steps", thousands(step))?;
        }
        if let Some(checkpoint) = &self.checkpoint {
            writeln!(out, "checkpoint: {checkpoint}")?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
