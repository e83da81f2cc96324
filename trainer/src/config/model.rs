//! `[model]`: GemNet-OC by preset, any size by its fields.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::number::{Count, Fraction};
use crate::gemnet::GemNetConfig;

/// A published size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
    /// 30 M parameters (Table 17, small).
    #[serde(rename = "jmp-s")]
    JmpS,
    /// 235 M parameters (Table 17, large).
    #[serde(rename = "jmp-l")]
    JmpL,
    /// 0.1 M parameters: demonstrations and tests.
    #[serde(rename = "tiny")]
    Tiny,
}

/// `[model]` as in the file: a preset, and whatever differs from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Where all sizes start from.
    pub preset: Preset,
    /// Sizes that differ from the preset's.
    #[serde(default, skip_serializing_if = "Sizes::is_empty")]
    pub sizes: Sizes,
    /// Dropout of the backbone's residual layers; the preset's is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<Fraction>,
    /// Share of edges that the loader leaves out in training; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge_dropout: Option<Fraction>,
    /// Where the scale factors of a model trained from scratch come from.
    #[serde(default)]
    pub scale_factors: ScaleFactors,
}

/// Where scale factors come from when no checkpoint brings them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleFactors {
    /// Fitted before the first step on this many batches of the training data.
    Fit(u32),
    /// Read from a safetensors file, one scalar each, by name.
    File(PathBuf),
    /// Left unfitted: no scaling.
    #[default]
    None,
}

impl ModelSection {
    /// The network's sizes. `direct_forces` says whether edges need outputs of their own.
    pub fn gemnet(&self, direct_forces: bool) -> GemNetConfig {
        let mut config = match self.preset {
            Preset::JmpS => GemNetConfig::small(),
            Preset::JmpL => GemNetConfig::large(),
            Preset::Tiny => GemNetConfig::tiny(),
        };
        self.sizes.apply(&mut config);
        config.direct_forces = direct_forces;
        config.dropout = self.dropout.map_or(0.0, Fraction::get);
        config.edge_dropout = self.edge_dropout.map_or(0.0, Fraction::get);
        config
    }
}

macro_rules! sizes {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// `[model.sizes]`: each field replaces the preset's (names as in Table 17 and the reference's code).
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Sizes {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<Count>,)*
        }

        impl Sizes {
            /// Whether the preset stands as it is.
            pub fn is_empty(&self) -> bool {
                *self == Self::default()
            }

            fn apply(&self, config: &mut GemNetConfig) {
                $(if let Some(size) = self.$field { config.$field = size.get() as i64; })*
            }
        }
    };
}

sizes! {
    /// Spherical basis functions.
    num_spherical,
    /// Radial basis functions.
    num_radial,
    /// Interaction blocks.
    num_blocks,
    /// Atom embedding.
    emb_size_atom,
    /// Edge embedding.
    emb_size_edge,
    /// Triplet interaction, in.
    emb_size_trip_in,
    /// Triplet interaction, out.
    emb_size_trip_out,
    /// Quadruplet interaction, in.
    emb_size_quad_in,
    /// Quadruplet interaction, out.
    emb_size_quad_out,
    /// Atom interaction, in.
    emb_size_aint_in,
    /// Atom interaction, out.
    emb_size_aint_out,
    /// Radial basis embedding.
    emb_size_rbf,
    /// Circular basis embedding.
    emb_size_cbf,
    /// Spherical basis embedding.
    emb_size_sbf,
    /// Residual layers before the skip connection.
    num_before_skip,
    /// Residual layers after the skip connection.
    num_after_skip,
    /// Residual layers after the concatenation.
    num_concat,
    /// Residual layers of an atom update.
    num_atom,
    /// Residual layers after an atom update of the output.
    num_output_afteratom,
    /// Residual layers on atom embeddings.
    num_atom_emb_layers,
    /// Residual layers of the global output.
    num_global_out_layers,
}
