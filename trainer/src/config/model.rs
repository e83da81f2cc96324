//! `[model]`: GemNet-OC by preset, any size by its fields.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::number::{Count, Fraction, Positive};
use crate::gemnet::{EdgeDropoutScaling, GemNetConfig};

/// A published size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
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
    /// How a training batch with dropped edges is brought back to scale: `outputs` as the released code does, or
    /// `embeddings` as the paper says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub edge_dropout_scaling: EdgeDropoutScaling,
    /// Distance that radial functions are scaled by, Å, whatever the graphs' cutoff; 12 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radial_cutoff: Option<Positive>,
    /// Exponent of the polynomial envelope; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope_exponent: Option<Count>,
    /// Interactions that are left out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interactions: Interactions,
    /// Whether blocks run again in the backward pass instead of keeping their activations: less memory, a third more time.
    /// Only without dropout and gradient forces.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Where the scale factors of a model trained from scratch come from.
    #[serde(default)]
    pub scale_factors: ScaleFactors,
}

/// `[model.interactions]`: what passes messages besides triplets of main edges (Table 17); all do when absent.
#[allow(clippy::struct_excessive_bools, reason = "independent switches of Table 17")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interactions {
    /// Quadruplets.
    pub quadruplet: bool,
    /// Atoms to edges.
    pub atom_edge: bool,
    /// Edges to atoms.
    pub edge_atom: bool,
    /// Atoms to atoms.
    pub atom_atom: bool,
}

impl Default for Interactions {
    fn default() -> Self {
        Self { quadruplet: true, atom_edge: true, edge_atom: true, atom_atom: true }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where scale factors come from when no checkpoint brings them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleFactors {
    /// Fitted before the first step on this many batches of the training data.
    Fit(u32),
    /// Read from a file: one number a name, as `jmp-train fit-scales` writes or fairchem publishes (docs/checkpoints.md).
    File(PathBuf),
    /// Left unfitted: no scaling.
    #[default]
    None,
}

impl Preset {
    /// All presets, the published sizes first.
    const ALL: [Self; 3] = [Self::JmpS, Self::JmpL, Self::Tiny];

    /// As written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::JmpS => "jmp-s",
            Self::JmpL => "jmp-l",
            Self::Tiny => "tiny",
        }
    }

    fn gemnet(self) -> GemNetConfig {
        match self {
            Self::JmpS => GemNetConfig::small(),
            Self::JmpL => GemNetConfig::large(),
            Self::Tiny => GemNetConfig::tiny(),
        }
    }
}

impl ModelSection {
    /// The network's sizes. `direct_forces` says whether edges need outputs of their own.
    pub fn gemnet(&self, direct_forces: bool) -> GemNetConfig {
        let mut config = self.preset.gemnet();
        self.sizes.apply(&mut config);
        config.direct_forces = direct_forces;
        config.dropout = self.dropout.map_or(0.0, Fraction::get);
        config.edge_dropout = self.edge_dropout.map_or(0.0, Fraction::get);
        config.edge_dropout_scaling = self.edge_dropout_scaling;
        let Interactions { quadruplet, atom_edge, edge_atom, atom_atom } = self.interactions;
        config.quad_interaction = quadruplet;
        config.atom_edge_interaction = atom_edge;
        config.edge_atom_interaction = edge_atom;
        config.atom_interaction = atom_atom;
        config.absolute_rbf_cutoff = self.radial_cutoff.map_or(config.absolute_rbf_cutoff, Positive::get);
        if let Some(exponent) = self.envelope_exponent {
            config.envelope_exponent = exponent.get() as i32;
        }
        config
    }

    /// The section that describes a network's sizes and interactions, from the preset that differs least; `None` where a
    /// size is below 1.
    pub fn of(config: &GemNetConfig) -> Option<Self> {
        let candidates = Preset::ALL.into_iter().map(|preset| {
            Sizes::between(&preset.gemnet(), config).map(|(sizes, count)| (count, preset, sizes))
        });
        let (_, preset, sizes) = candidates.collect::<Option<Vec<_>>>()?.into_iter().min_by_key(|c| c.0)?;
        Some(Self {
            preset,
            sizes,
            dropout: None,
            edge_dropout: None,
            edge_dropout_scaling: EdgeDropoutScaling::default(),
            radial_cutoff: None,
            envelope_exponent: None,
            interactions: Interactions {
                quadruplet: config.quad_interaction,
                atom_edge: config.atom_edge_interaction,
                edge_atom: config.edge_atom_interaction,
                atom_atom: config.atom_interaction,
            },
            recompute: false,
            scale_factors: ScaleFactors::default(),
        })
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

            /// How many differ from the preset's.
            pub fn count(&self) -> usize {
                [$(self.$field.is_some()),*].into_iter().filter(|set| *set).count()
            }

            fn apply(&self, config: &mut GemNetConfig) {
                $(if let Some(size) = self.$field { config.$field = size.get() as i64; })*
            }

            /// The sizes in which `wanted` differs from `preset`; `None` if one of them is below 1, which no section can say.
            fn between(preset: &GemNetConfig, wanted: &GemNetConfig) -> Option<(Self, usize)> {
                let (mut sizes, mut count) = (Self::default(), 0);
                $(if wanted.$field != preset.$field {
                    sizes.$field = Some(Count::try_from(wanted.$field).ok()?);
                    count += 1;
                })*
                Some((sizes, count))
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
