//! Heads of another model: whether they predict what is to be learnt, and on what scale.

use std::collections::BTreeMap;

use tch::{Tensor, no_grad};

use super::KeptHeads;
use crate::checkpoint::{Info, TaskRecord};
use crate::config::{ForceMode, RunKind};
use crate::scalar::{self, ScalarTarget};

/// The heads of one task of another model, which predict the label that is to be learnt.
pub(super) struct Heads {
    /// The task's place among joint heads; `None`: single heads.
    joint: Option<usize>,
    task: String,
    /// What they predict, in words.
    label: String,
    /// The file that tells nothing of labels and scales, if it is such a one.
    silent: Option<String>,
    /// Factors on outputs: the scales they were trained with over those that they will be read with.
    energy: f64,
    forces: f64,
    /// The heads' names.
    names: &'static [&'static str],
    /// What a user must know beside it.
    remarks: Vec<String>,
}

impl Heads {
    /// The heads of the task at `place`, for the task `record`.
    ///
    /// # Errors
    /// Heads of another label, pooling, loss or unit, told one by one.
    pub(super) fn of(info: &Info, place: usize, record: &TaskRecord) -> Result<Self, String> {
        let theirs = &info.tasks[place];
        let silent = info.origin.as_ref().map(|origin| origin.file.clone());
        let (label, faults, unit) = match (&theirs.scalar, &record.scalar, &silent) {
            (_, Some(ours), Some(_)) => (described(ours), Vec::new(), 1.0),
            (None, None, _) => {
                let has_bias = theirs.head_bias || info.kind == RunKind::Pretrain;
                ("energy".to_owned(), energy_faults(theirs, record, has_bias), 1.0)
            }
            (Some(a), Some(b), None) => (described(b), scalar_faults(a, b), unit_factor(a, b).unwrap_or(1.0)),
            (a, b, _) => {
                let words =
                    |scalar: &Option<ScalarTarget>| scalar.as_ref().map_or("energy".to_owned(), described);
                (String::new(), vec![differs("label", &words(b), &words(a))], 1.0)
            }
        };
        if !faults.is_empty() {
            return Err(format!("the heads of task `{}` cannot be kept: {}", theirs.name, faults.join("; ")));
        }
        let (then, now) = (&theirs.transform, &record.transform);
        let known = silent.is_none();
        Ok(Self {
            joint: (info.kind == RunKind::Pretrain).then_some(place),
            task: theirs.name.clone(),
            label,
            energy: if known { unit * then.std / now.std } else { 1.0 },
            forces: if known { then.force_std / now.force_std } else { 1.0 },
            silent,
            names: match (&record.scalar, record.forces) {
                (Some(_), _) => &["out_scalar"],
                (None, ForceMode::Direct) => &["out_energy", "out_forces"],
                (None, _) => &["out_energy"],
            },
            remarks: if known { remarks(theirs, record, unit) } else { Vec::new() },
        })
    }

    /// `out_energy.0.weight` as the other model calls it.
    pub(super) fn source_name(&self, name: &str) -> String {
        match (self.joint, name.split_once('.')) {
            (Some(place), Some((head, layer))) => format!("output.{head}.{place}.{layer}"),
            _ => name.to_owned(),
        }
    }

    /// Whether a tensor of the other model belongs to a head that is to be kept.
    pub(super) fn owns(&self, name: &str) -> bool {
        self.names.iter().any(|head| match self.joint {
            Some(place) => name.starts_with(&format!("output.{head}.{place}.")),
            None => name.starts_with(&format!("{head}.")),
        })
    }

    /// Multiplies the last layers, which are linear without bias, so that the outputs mean the same with the new scales.
    /// `taken` are the tensors that were copied. Returns what became of the heads, in words.
    pub(super) fn scale(&self, taken: &BTreeMap<String, Tensor>) -> Vec<String> {
        let tasks = [("out_energy", self.energy), ("out_scalar", self.energy), ("out_forces", self.forces)];
        for (head, factor) in tasks {
            if let Some(weight) = taken.get(&format!("{head}.8.weight")) {
                let mut weight = weight.shallow_clone();
                let _ = no_grad(|| weight.g_mul_scalar_(factor));
            }
        }
        let kept = format!("heads of task `{}` kept ({}), {} tensors", self.task, self.label, taken.len());
        let scales = match (&self.silent, self.names.contains(&"out_forces")) {
            (Some(file), _) => {
                format!("{file} does not tell their label and scale: they are taken to be this dataset's")
            }
            (None, false) => format!("outputs times {:.6} to this dataset's scale", self.energy),
            (None, true) => {
                format!(
                    "outputs times {:.6}, forces times {:.6} to this dataset's scale",
                    self.energy, self.forces
                )
            }
        };
        std::iter::once(format!("{kept}; {scales}")).chain(self.remarks.iter().cloned()).collect()
    }
}

/// The place among a model's tasks of the one whose heads are asked for.
///
/// # Errors
/// No such task, or none at all.
pub(super) fn place(info: &Info, kept: &KeptHeads, record: &TaskRecord) -> Result<usize, String> {
    let wanted = match kept {
        KeptHeads::Task(name) => name,
        KeptHeads::Same if info.tasks.len() == 1 => return Ok(0),
        KeptHeads::Same => &record.name,
    };
    if info.tasks.is_empty() {
        return Err("a backbone without heads: there are none that --keep-heads could keep".to_owned());
    }
    info.tasks.iter().position(|t| t.name == *wanted).ok_or_else(|| {
        let known: Vec<&str> = info.tasks.iter().map(|t| t.name.as_str()).collect();
        format!("no heads of a task `{wanted}`; there are {}: name one, --keep-heads TASK", known.join(", "))
    })
}

/// `band_gap, pooling mean, in eV`.
fn described(scalar: &ScalarTarget) -> String {
    format!("{}, pooling {}, in {}", scalar.name, scalar.pooling.name(), scalar.column_unit())
}

fn differs(what: &str, expected: &str, found: &str) -> String {
    format!("{what}: expected {expected}, found {found}")
}

/// In what two properties differ so that one's head says nothing of the other.
fn scalar_faults(theirs: &ScalarTarget, ours: &ScalarTarget) -> Vec<String> {
    let loss =
        |scalar: &ScalarTarget| if scalar.is_class() { "classes (cross-entropy)" } else { "a number (l1)" };
    let pairs = [
        ("label", ours.name.as_str(), theirs.name.as_str(), ours.name == theirs.name),
        ("heads.pooling", ours.pooling.name(), theirs.pooling.name(), ours.pooling == theirs.pooling),
        ("heads.loss", loss(ours), loss(theirs), ours.is_class() == theirs.is_class()),
        ("unit", ours.column_unit(), theirs.column_unit(), unit_factor(theirs, ours).is_some()),
    ];
    pairs
        .into_iter()
        .filter(|p| !p.3)
        .map(|(what, expected, found, _)| differs(what, expected, found))
        .collect()
}

/// What one of `theirs` is in the unit of `ours`.
fn unit_factor(theirs: &ScalarTarget, ours: &ScalarTarget) -> Option<f64> {
    let (then, now) = (theirs.column_unit(), ours.column_unit());
    scalar::factor(then, now).or_else(|| scalar::factor(now, then).map(f64::recip))
}

/// Why heads of energies and forces cannot serve; `has_bias` tells of theirs.
fn energy_faults(theirs: &TaskRecord, ours: &TaskRecord, has_bias: bool) -> Vec<String> {
    let mut faults = Vec::new();
    if has_bias != ours.head_bias {
        let of = if has_bias { "the biases of the other model's energy head" } else { "that it has none" };
        faults.push(format!("heads.bias: expected {has_bias} for {of}, found {}", ours.head_bias));
    }
    if theirs.forces != ForceMode::Direct && ours.forces == ForceMode::Direct {
        faults.push(differs("heads.forces", "a head of direct forces", "none"));
    }
    if !theirs.has_value() && ours.has_value() {
        faults.push("its energy head was never trained (energy_weight = 0 beside direct forces)".to_owned());
    }
    faults
}

/// What of the other task is not taken over, or not the same here; one of its unit is `factor` of this one's.
fn remarks(theirs: &TaskRecord, ours: &TaskRecord, factor: f64) -> Vec<String> {
    let mut remarks = Vec::new();
    if theirs.forces == ForceMode::Direct && ours.forces != ForceMode::Direct && ours.scalar.is_none() {
        remarks.push(format!(
            "the head of direct forces of task `{}` is not kept: this model has none",
            theirs.name
        ));
    }
    let (then, now) = (&theirs.transform, &ours.transform);
    let mean = factor * then.mean;
    if mean != now.mean || then.reference != now.reference {
        let unit = ours.scalar.as_ref().map_or("eV", |scalar| scalar.column_unit());
        let references =
            if then.reference == now.reference { "" } else { ", and other references of the elements" };
        remarks.push(format!(
            "their zero is this dataset's now: its mean is {:.6} {unit} instead of {:.6}{references}",
            now.mean, mean
        ));
    }
    remarks
}
