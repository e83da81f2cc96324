//! What the reference's names mean.

use serde::Serialize;

/// Parts of a model, as reports count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Vectors of the elements.
    Embedding,
    /// Trained tensors of the backbone.
    Backbone,
    /// Networks from the backbone's outputs to energies, forces and properties.
    Heads,
    /// Centres and widths of the Gaussian basis.
    Constants,
    /// Fitted constants of the activations' variance.
    ScaleFactors,
}

impl Group {
    /// The group of a tensor.
    pub(super) fn of(name: &str) -> Self {
        match name {
            _ if name.ends_with(".scale_factor") => Self::ScaleFactors,
            _ if name.ends_with(".rbf.offset") || name.ends_with(".rbf.temps") => Self::Constants,
            _ if name.starts_with("embedding.") => Self::Embedding,
            _ if name.starts_with("backbone.") => Self::Backbone,
            _ => Self::Heads,
        }
    }

    /// In words.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Backbone => "backbone",
            Self::Heads => "heads",
            Self::Constants => "constants",
            Self::ScaleFactors => "scale factors",
        }
    }
}

/// The first of a tensor's two names, if `name` is the second. The reference registers some modules twice, and its
/// state dicts hold both.
pub(super) fn first_name(name: &str) -> Option<String> {
    if name.contains(".seq_energy_pre.") {
        return Some(name.replace(".seq_energy_pre.", ".layers."));
    }
    let shared = ["cbf_basis_aeint", "cbf_basis_tint"].into_iter().find(|basis| {
        name.strip_prefix("backbone.bases.").and_then(|n| n.strip_prefix(basis)).is_some_and(is_gaussian)
    })?;
    Some(name.replace(shared, "sbf_basis_qint"))
}

fn is_gaussian(rest: &str) -> bool {
    matches!(rest, ".radial_basis.rbf.offset" | ".radial_basis.rbf.temps")
}

/// The second names under which a state dict of the reference holds a tensor too.
pub(super) fn second_names(name: &str) -> Vec<String> {
    if name.starts_with("backbone.out_blocks.") && name.contains(".layers.") {
        return vec![name.replace(".layers.", ".seq_energy_pre.")];
    }
    match name.strip_prefix("backbone.bases.sbf_basis_qint") {
        Some(rest) if is_gaussian(rest) => ["cbf_basis_aeint", "cbf_basis_tint"]
            .map(|basis| format!("backbone.bases.{basis}{rest}"))
            .to_vec(),
        _ => Vec::new(),
    }
}

/// Whether the tuple of averaged weights has an entry for this name of the state dict.
pub(super) fn is_averaged(name: &str) -> bool {
    let constant = ["rbf.offset", "rbf.temps", "scale_factor"].iter().any(|end| name.ends_with(end));
    !(constant || name.contains(".seq_energy_pre.") || name.starts_with("task_steps"))
}

/// Why a tensor that no model of ours has may be left out.
pub(super) fn reason_to_ignore(name: &str) -> Option<&'static str> {
    if first_name(name).is_some() {
        return Some("second names of tensors taken");
    }
    if name.starts_with("task_steps") {
        return Some("counters of training steps");
    }
    (name == "backbone.qint_tags").then_some("constant of the quadruplets' tag filter")
}
