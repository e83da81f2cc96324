//! What OC20's energies are: totals, or relative to slab and gas-phase adsorbate. Files of records do not say it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::EnergyKind;
use crate::error::{IngestError, input_error, io_error};
use crate::pickle::{Item, Limits, decode};

/// Adsorption energies lie within ±10 eV, where upstream cut them off; raw DFT energies of slabs are far below.
const REFERENCED_RANGE_EV: f64 = 12.0;

/// Compares energies with what they are said to be.
#[derive(Debug)]
pub(super) struct EnergyCheck {
    kind: EnergyKind,
    /// Whether the user's word decides: if not, another choice would not help.
    chosen: bool,
    labelled: AtomicU64,
    near_zero: AtomicU64,
}

impl EnergyCheck {
    pub(super) fn new(kind: EnergyKind, chosen: bool) -> Self {
        Self { kind, chosen, labelled: AtomicU64::new(0), near_zero: AtomicU64::new(0) }
    }

    /// Notes an energy as the file has it.
    pub(super) fn note(&self, energy: f64) {
        self.labelled.fetch_add(1, Ordering::Relaxed);
        self.near_zero.fetch_add(u64::from(energy.abs() <= REFERENCED_RANGE_EV), Ordering::Relaxed);
    }

    /// What contradicts.
    pub(super) fn warnings(&self) -> Vec<String> {
        let (labelled, near) =
            (self.labelled.load(Ordering::Relaxed), self.near_zero.load(Ordering::Relaxed));
        if labelled == 0 {
            return Vec::new();
        }
        let range = format!("{near} of {labelled} energies lie within ±{REFERENCED_RANGE_EV} eV");
        match (self.kind, self.chosen) {
            (EnergyKind::Total, true) if 2 * near > labelled => vec![format!(
                "{range}: they look like referenced (adsorption) energies, but were stored as totals; convert with --energy referenced"
            )],
            (EnergyKind::Total, false) if 2 * near > labelled => {
                vec![format!(
                    "{range}: they look like referenced (adsorption) energies, though these files hold totals"
                )]
            }
            (EnergyKind::Referenced, true) if 2 * near < labelled => vec![format!(
                "{range}: they look like total energies, but were stored as referenced ones; convert with --energy total"
            )],
            _ => Vec::new(),
        }
    }
}

/// `oc20_ref.pkl`: the energy to add to a referenced one, by system (`random<sid>`).
#[derive(Debug)]
pub(super) struct References {
    pub(super) path: PathBuf,
    energies: BTreeMap<String, f64>,
}

impl References {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, IngestError> {
        let bytes = std::fs::read(path).map_err(io_error("read", path))?;
        let pickle = |source| IngestError::Pickle {
            path: path.to_path_buf(),
            key: "the whole file".to_owned(),
            source: Box::new(source),
        };
        let decoded = decode(&bytes, Limits::FILE).map_err(pickle)?;
        let Item::Dict(entries) = decoded.item(decoded.root()) else {
            return Err(input_error(path, "expected a dict of random<sid> → energy (oc20_ref.pkl)"));
        };
        let mut energies = BTreeMap::new();
        for (key, value) in entries {
            let energy = match decoded.item(*value) {
                Item::Float(energy) if energy.is_finite() => energy,
                Item::Int(energy) => energy as f64,
                other => return Err(input_error(path, format!("expected energies, found {other:?}"))),
            };
            let Item::Str(name) = decoded.item(*key) else {
                return Err(input_error(path, "expected the names of systems (random<sid>) as keys"));
            };
            energies.insert(name.to_owned(), energy);
        }
        Ok(Self { path: path.to_path_buf(), energies })
    }

    /// The reference energy of a system, eV.
    pub(super) fn of(&self, system: &str) -> Result<f64, String> {
        let known = || format!("{} has no energy for `{system}`", self.path.display());
        self.energies.get(system).copied().ok_or_else(known)
    }
}

/// What sets the ids of the rattled and MD sets apart from those of the relaxations.
pub(super) fn id_prefix(split: Option<&str>) -> &'static str {
    match split {
        // The same systems and frame numbers occur in the relaxations.
        Some("rattled") => "rattled/",
        Some("md") => "md/",
        _ => "",
    }
}
