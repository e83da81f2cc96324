//! GemNet-OC as JMP uses it (arXiv:2204.02782; GemNet: arXiv:2106.08903), with the reference's parameter names.
//!
//! Letters for shapes: `g` structures, `n` atoms, `e` main edges, `u` atom-edge edges, `q` quadruplet edges, `p` atom
//! pairs, `x` main edges that receive quadruplets; `a` atom and `m` edge embedding, `r` radial functions, `s` angular
//! orders; `k`, `w`, `z` widths of the main, atom-edge and quadruplet rows. `c→a` receives, `b→a` and `d→b` send.
//!
//! Sums over triplets and quadruplets are products of small dense matrices, one an atom or quadruplet edge: all edges
//! into one atom meet each other, so their angles fill a matrix, and the few pairs that do not count are zeroed in it.
//! Nothing is gathered by triplet, and padding is the difference between an atom's degree and the batch's largest.
//!
//! Distances, directions and angles are computed in double precision from double-precision positions, whatever the
//! width of the network, and rounded once: single precision then agrees with double even where atoms are colinear.

mod angular;
mod atom_update;
mod backbone;
mod bases;
mod config;
mod dense;
mod edge_embedding;
mod fit;
mod geometry;
mod init;
mod interaction;
mod output;
mod pair;
mod quadruplet;
mod radial;
mod scale;
mod shared;
mod stack;
mod triplet;

pub use backbone::{Backbone, Embeddings, Stage};
pub use config::{EdgeDropoutScaling, GemNetConfig};
pub use dense::{Dense, Dropout, Residual};
pub use fit::{FittedScale, fit_scale_factors};
pub use init::{Init, he_orthogonal};
pub use scale::ScaleFactor;
pub use shared::gradient_divisors;

/// Stops with names and sizes when a tensor has not the shape that the algebra says.
macro_rules! shape {
    ($tensor:expr, [$($dim:expr),+]) => {
        assert_eq!($tensor.size(), [$($dim),+], "shape of `{}` should be {}", stringify!($tensor), stringify!([$($dim),+]))
    };
}
pub(crate) use shape;
