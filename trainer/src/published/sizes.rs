//! A network's sizes from its tensors' shapes.

use std::collections::BTreeMap;

use super::Offer;
use crate::config::ForceMode;
use crate::gemnet::GemNetConfig;
use crate::heads::Pooling;
use crate::network::{Bias, HeadLayout};

/// What a set of named tensors is.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The backbone's sizes and interactions.
    pub config: GemNetConfig,
    /// Its heads; `Joint(0)` for a backbone alone. A property's pooling is the sum where biases show that it is not the squared
    /// radius; whether it is another shows in no shape.
    pub heads: HeadLayout,
}

/// Names and shapes, asked for with the reasons of refusals.
struct Shapes<'a>(&'a BTreeMap<String, Offer>);

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Shape of a tensor of `N` axes; `name` is under `backbone.`.
    fn of<const N: usize>(&self, name: &str) -> Result<[i64; N], String> {
        let name = format!("backbone.{name}");
        let Some(offer) = self.0.get(&name) else { return Err(format!("tensor `{name}` is missing")) };
        <[i64; N]>::try_from(offer.shape.as_slice())
            .map_err(|_| format!("tensor `{name}`: expected {N} axes, found shape {:?}", offer.shape))
    }

    /// How many of `prefix.0.suffix`, `prefix.1.suffix`, … there are, counted from `first`.
    fn count(&self, prefix: &str, first: i64, suffix: &str) -> i64 {
        let mut n = first;
        while self.has(&format!("{prefix}.{n}{suffix}")) {
            n += 1;
        }
        n - first
    }
}

/// Reads sizes, interactions and heads off the shapes.
///
/// # Errors
/// A tensor that every such network has is missing, or has another number of axes.
pub fn infer(offers: &BTreeMap<String, Offer>) -> Result<Layout, String> {
    let shapes = Shapes(offers);
    let [num_elements, emb_size_atom] = embedding(offers)?;
    let [num_radial, num_spherical, emb_size_cbf] = shapes.of("bases.mlp_cbf_tint.weight")?;
    let [emb_size_rbf, _] = shapes.of("bases.mlp_rbf_h.linear.weight")?;
    let [emb_size_edge, _] = shapes.of("int_blocks.0.dense_ca.linear.weight")?;
    let [emb_size_trip_in, _] = shapes.of("int_blocks.0.trip_interaction.down_projection.linear.weight")?;
    let [_, emb_size_trip_out] = shapes.of("int_blocks.0.trip_interaction.up_projection_ca.linear.weight")?;
    let direct_forces = shapes.has("backbone.out_mlp_F.out_mlp.0.linear.weight");
    let block = |layers: &str| {
        shapes.count(&format!("backbone.int_blocks.0.{layers}"), 0, ".dense_mlp.0.linear.weight")
    };
    let mut config = GemNetConfig {
        num_elements,
        num_spherical,
        num_radial,
        num_blocks: shapes.count("backbone.int_blocks", 0, ".dense_ca.linear.weight"),
        emb_size_atom,
        emb_size_edge,
        emb_size_trip_in,
        emb_size_trip_out,
        emb_size_rbf,
        emb_size_cbf,
        num_before_skip: block("layers_before_skip"),
        num_after_skip: block("layers_after_skip"),
        num_concat: block("residual_m"),
        num_atom_emb_layers: block("atom_emb_layers"),
        num_atom: shapes.count("backbone.int_blocks.0.atom_update.layers", 1, ".dense_mlp.0.linear.weight"),
        num_output_afteratom: shapes.count(
            "backbone.out_blocks.0.seq_energy2",
            0,
            ".dense_mlp.0.linear.weight",
        ),
        num_global_out_layers: shapes.count("backbone.out_mlp_E.out_mlp", 1, ".dense_mlp.0.linear.weight"),
        direct_forces,
        ..GemNetConfig::small()
    };
    interactions(&shapes, &mut config)?;
    let heads = heads(&shapes);
    // Joint heads have force networks, which need the edges' outputs; without them their absence is told by name.
    config.direct_forces |=
        matches!(heads, HeadLayout::Joint(1..) | HeadLayout::Single(ForceMode::Direct, _));
    Ok(Layout { config, heads })
}

/// Which interactions there are, and the sizes that only they show.
fn interactions(shapes: &Shapes<'_>, config: &mut GemNetConfig) -> Result<(), String> {
    let has = |name: &str, tensor: &str| {
        shapes.has(&format!("backbone.int_blocks.0.{name}.{tensor}.linear.weight"))
    };
    config.quad_interaction = has("quad_interaction", "dense_db");
    if config.quad_interaction {
        [_, _, config.emb_size_sbf] = shapes.of("bases.mlp_sbf_qint.weight")?;
        [config.emb_size_quad_in, _] =
            shapes.of("int_blocks.0.quad_interaction.down_projection.linear.weight")?;
        [_, config.emb_size_quad_out] =
            shapes.of("int_blocks.0.quad_interaction.up_projection_ca.linear.weight")?;
    }
    config.atom_edge_interaction = has("atom_edge_interaction", "dense_ba");
    config.edge_atom_interaction = has("edge_atom_interaction", "dense_ba");
    config.atom_interaction = has("atom_interaction", "bilinear");
    if config.atom_interaction {
        [config.emb_size_aint_in, _] =
            shapes.of("int_blocks.0.atom_interaction.down_projection.linear.weight")?;
        [_, config.emb_size_aint_out] =
            shapes.of("int_blocks.0.atom_interaction.up_projection.linear.weight")?;
    }
    Ok(())
}

/// Names of the atom embedding in pre-training and in fine-tuning.
pub(super) const EMBEDDINGS: [&str; 2] = ["embedding.atom_embedding.weight", "embedding.weight"];

fn embedding(offers: &BTreeMap<String, Offer>) -> Result<[i64; 2], String> {
    let found = EMBEDDINGS.iter().find_map(|name| Some((name, offers.get(*name)?)));
    let Some((name, offer)) = found else {
        return Err(format!("tensor `{}` (or `{}`) is missing", EMBEDDINGS[0], EMBEDDINGS[1]));
    };
    <[i64; 2]>::try_from(offer.shape.as_slice())
        .map_err(|_| format!("tensor `{name}`: expected 2 axes, found shape {:?}", offer.shape))
}

fn heads(shapes: &Shapes<'_>) -> HeadLayout {
    let bias = Bias::when(shapes.has("out_energy.0.bias"));
    if shapes.has("out_forces.0.weight") {
        HeadLayout::Single(ForceMode::Direct, bias)
    } else if shapes.has("out_energy.0.weight") {
        // Whether an energy's derivative is used shows in no shape.
        HeadLayout::Single(ForceMode::Gradient, bias)
    } else if shapes.has("out_scalar.0.weight") {
        let biased = shapes.has("out_scalar.0.bias");
        HeadLayout::Scalar(if biased { Pooling::Sum } else { Pooling::SquaredRadius })
    } else {
        HeadLayout::Joint(shapes.count("output.out_energy", 0, ".0.weight") as usize)
    }
}
