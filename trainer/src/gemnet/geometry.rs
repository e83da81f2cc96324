use tch::{Kind, Tensor};

use crate::batch::GraphTensors;

/// Sine of an angle below which three atoms count as colinear: no plane, hence no dihedral angle, is defined there.
///
/// Far above rounding in double precision (1e-16) and far below any angle that a structure has on purpose.
const COLINEAR: f64 = 1e-9;

/// Distances, unit vectors and cosines of a batch, all in double precision; differentiable in the positions.
#[derive(Debug)]
pub(crate) struct Geometry {
    /// Main distances `[e]`, Å.
    pub(crate) main: Tensor,
    /// Unit vectors source → target `[e, 3]`.
    pub(crate) main_vector: Tensor,
    /// Atom-edge distances `[u]`, Å.
    pub(crate) atom_edge: Tensor,
    /// Quadruplet distances `[q]`, Å.
    pub(crate) quadruplet: Tensor,
    /// Atom-atom distances, Å.
    pub(crate) atom_atom: Tensor,
    /// cos ∠cab between main edges of one atom `[n, k, k]`.
    pub(crate) main_main: Tensor,
    /// cos ∠cab between main and atom-edge edges of one atom `[n, k, w]`.
    pub(crate) main_atom_edge: Tensor,
    /// cos ∠abd as the product of the vectors of `b→a` and `d→b` `[q, k]`.
    pub(crate) middle_input: Tensor,
    /// cos ∠cab between a receiving edge and its quadruplet edges `[x, z]`.
    pub(crate) output_middle: Tensor,
    /// Cosine of the dihedral angle of `c→a←b←d` `[q, k, k]`; 0 where three of its atoms are colinear.
    pub(crate) dihedral: Tensor,
}

impl Geometry {
    /// From positions `[n, 3]`, Å, double precision.
    pub(crate) fn of(positions: &Tensor, graph: &GraphTensors) -> Self {
        let (n, k, w) = (graph.atoms, graph.main.width, graph.atom_edge.width);
        let (main, main_vector) =
            vectors(positions, &graph.main.source, &graph.main.target, &graph.main.shift);
        let ae = &graph.atom_edge;
        let (atom_edge, atom_edge_vector) = vectors(positions, &ae.source, &ae.target, &ae.shift);
        let q = &graph.quadruplet.edges;
        let (quadruplet, middle) = vectors(positions, &q.source, &q.target, &q.shift);
        let aa = &graph.atom_atom;
        let atom_atom = displacement(positions, &aa.source, &aa.target, &aa.shift);
        let atom_atom = length(&atom_atom);

        let main_rows = main_vector.index_select(0, &graph.main.rows).view([n, k, 3]);
        let atom_edge_rows = atom_edge_vector.index_select(0, &ae.rows).view([n, w, 3]);
        let main_main = main_rows.bmm(&main_rows.transpose(1, 2)).clamp(-1.0, 1.0);
        let main_atom_edge = main_rows.bmm(&atom_edge_rows.transpose(1, 2)).clamp(-1.0, 1.0);

        // c→a and d→b of each quadruplet edge b→a, as rows of the atoms at its ends.
        let output = main_rows.index_select(0, &q.target);
        let input = main_rows.index_select(0, &q.source);
        let axis = middle.unsqueeze(1);
        let middle_input = (&input * &axis).sum_dim_intlist(-1, false, None::<Kind>).clamp(-1.0, 1.0);
        let dihedral = normals(&output, &axis).bmm(&normals(&input, &axis).transpose(1, 2)).clamp(-1.0, 1.0);

        let receiving = &graph.quadruplet;
        let (x, z) = (receiving.receiving.size()[0], q.width);
        let c_a = main_vector.index_select(0, &receiving.receiving).unsqueeze(1);
        let b_a = middle.index_select(0, &receiving.receiving_middle).view([x, z, 3]);
        let output_middle = (c_a * b_a).sum_dim_intlist(-1, false, None::<Kind>).clamp(-1.0, 1.0);
        Self {
            main,
            main_vector,
            atom_edge,
            quadruplet,
            atom_atom,
            main_main,
            main_atom_edge,
            middle_input,
            output_middle,
            dihedral,
        }
    }
}

fn displacement(positions: &Tensor, source: &Tensor, target: &Tensor, shift: &Tensor) -> Tensor {
    positions.index_select(0, source) - positions.index_select(0, target) + shift
}

fn length(displacement: &Tensor) -> Tensor {
    displacement.square().sum_dim_intlist(-1, false, None::<Kind>).sqrt()
}

/// Distances `[e]` and unit vectors `[e, 3]` from source to target.
fn vectors(positions: &Tensor, source: &Tensor, target: &Tensor, shift: &Tensor) -> (Tensor, Tensor) {
    let displacement = displacement(positions, source, target, shift);
    let distance = length(&displacement);
    let vector = -displacement / distance.unsqueeze(1);
    (distance, vector)
}

/// Unit normals of the planes that `vector` and `axis` span, and 0 where they are colinear.
///
/// The reference computes `atan2(max(|n₁×n₂|, 1e-9), n₁·n₂)` of the unscaled normals, whose cosine is that of the unit
/// normals except where one of them vanishes: there it gives π/2 with gradients of order 1e9. Zero normals give cosine
/// 0, the same angle, with derivatives that are zero in every order.
fn normals(vector: &Tensor, axis: &Tensor) -> Tensor {
    let normal = vector.cross(&axis.expand_as(vector), -1);
    let square = normal.square().sum_dim_intlist(-1, true, None::<Kind>);
    let colinear = square.le(COLINEAR * COLINEAR);
    let inverse = square.masked_fill(&colinear, 1.0).rsqrt().masked_fill(&colinear, 0.0);
    normal * inverse
}
