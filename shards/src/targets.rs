//! From labels in eV, eV/Å or a target's own unit to what a model learns, and back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ShardError;
use crate::linear_reference::LinearReference;
use crate::manifest::Manifest;
use crate::statistics::{ENERGY, SplitStatistics};

/// `y_norm = (y − Σ_Z reference − mean) / std`, `F_norm = F / force_std`, in f64 and cast last; `y` is the energy, eV, or a
/// scalar target in its own unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetTransform {
    /// The label `y`: `energy` or a target's name.
    #[serde(default = "energy", skip_serializing_if = "is_energy")]
    pub label: String,
    /// Linear reference of the label; `None`: nothing is subtracted.
    pub reference: Option<LinearReference>,
    /// Mean after the reference, in the label's unit.
    pub mean: f64,
    /// Scale of the label, in its unit.
    pub std: f64,
    /// Scale of force components, eV/Å.
    pub force_std: f64,
    /// Mean number of atoms of a structure: λ_F of eq. 1.
    pub average_atoms: f64,
}

fn energy() -> String {
    ENERGY.to_owned()
}

fn is_energy(label: &str) -> bool {
    label == ENERGY
}

/// Below this, in eV, eV/Å or a target's unit, a measured spread is no scale: few structures, or fitted away.
const SMALLEST_SCALE: f64 = 1e-4;

impl TargetTransform {
    /// What a measured spread is as a scale: itself, or 1 where it is absent or too small to divide by.
    pub fn scale(measured: Option<f64>) -> f64 {
        measured.filter(|s| *s > SMALLEST_SCALE).unwrap_or(1.0)
    }

    /// The transform that the statistics of a split suggest: its own reference, the mean and standard deviation after it,
    /// and the root mean square of the force components.
    ///
    /// Where the fit leaves no residual (as many elements as structures) the energy's scale is 1 eV per structure.
    pub fn measured(statistics: &SplitStatistics) -> Self {
        let energy = statistics.labels.get(ENERGY);
        Self {
            label: ENERGY.to_owned(),
            reference: energy.map(|e| e.reference.clone()),
            mean: energy.map_or(0.0, |e| e.referenced.mean),
            std: Self::scale(energy.map(|e| e.referenced.std)),
            force_std: Self::scale(statistics.forces.as_ref().map(|f| f.rms)),
            average_atoms: statistics.atoms as f64 / (statistics.structures.max(1)) as f64,
        }
    }

    /// The transform of one label, the energy or a scalar target, as the statistics of a split suggest it: with the split's
    /// linear reference where the layout says that the target is learned after it, without it elsewhere.
    ///
    /// `mean` and `std` are in the label's own unit.
    ///
    /// # Errors
    /// When the dataset has no such split or label, or no structure of the split has the label.
    pub fn of_label(manifest: &Manifest, dir: &Path, split: &str, label: &str) -> Result<Self, ShardError> {
        let target = manifest.layout.targets.iter().find(|t| t.name == label);
        if target.is_none() && label != ENERGY {
            let known = std::iter::once(ENERGY.to_owned());
            let targets = manifest.layout.targets.iter().map(|t| t.name.clone());
            return Err(ShardError::UnknownLabel {
                dir: dir.to_path_buf(),
                label: label.to_owned(),
                known: known.chain(targets).collect(),
            });
        }
        let statistics = &manifest.split(dir, split)?.statistics;
        let measured = statistics.labels.get(label).ok_or_else(|| ShardError::NoLabel {
            dir: dir.to_path_buf(),
            split: split.to_owned(),
            label: label.to_owned(),
        })?;
        let referenced = target.is_none_or(|t| t.referenced);
        let (mean, std) = if referenced {
            (measured.referenced.mean, measured.referenced.std)
        } else {
            (measured.mean, measured.std)
        };
        Ok(Self {
            label: label.to_owned(),
            reference: referenced.then(|| measured.reference.clone()),
            mean,
            std: Self::scale(Some(std)),
            ..Self::measured(statistics)
        })
    }

    /// [`TargetTransform::measured`] of a split named in a manifest.
    pub fn of_split(manifest: &Manifest, dir: &Path, split: &str) -> Result<Self, ShardError> {
        Ok(Self::measured(&manifest.split(dir, split)?.statistics))
    }

    /// The part of the label that composition alone fixes, in its unit.
    pub fn offset(&self, atomic_numbers: &[u8]) -> Result<f64, ShardError> {
        let reference = self.reference.as_ref().map_or(Ok(0.0), |r| r.of(atomic_numbers))?;
        Ok(reference + self.mean)
    }
}
