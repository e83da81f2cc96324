use serde::{Deserialize, Serialize};

/// How the energy of a batch with dropped edges is brought back to scale in training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeDropoutScaling {
    /// The sum over neighbours in the output blocks' energy branch is divided by `1 − p`, as the released code does.
    #[default]
    Outputs,
    /// All remaining edge embeddings are divided by `1 − p`, as the paper says (App. B.3).
    Embeddings,
}

/// Sizes of GemNet-OC (arXiv:2310.16802, Table 17); names as in fairchem.
#[allow(clippy::struct_excessive_bools, reason = "independent switches of the reference, named as there")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GemNetConfig {
    /// Elements that have an embedding, Z = 1 … this.
    pub num_elements: i64,
    /// Orders of Legendre polynomials.
    pub num_spherical: i64,
    /// Radial basis functions.
    pub num_radial: i64,
    /// Interaction blocks.
    pub num_blocks: i64,
    /// Atom embedding.
    pub emb_size_atom: i64,
    /// Edge embedding.
    pub emb_size_edge: i64,
    /// Triplet message before the bilinear layer.
    pub emb_size_trip_in: i64,
    /// Triplet message after it.
    pub emb_size_trip_out: i64,
    /// Quadruplet message before the bilinear layer.
    pub emb_size_quad_in: i64,
    /// Quadruplet message after it.
    pub emb_size_quad_out: i64,
    /// Atom-atom message before the bilinear layer.
    pub emb_size_aint_in: i64,
    /// Atom-atom message after it.
    pub emb_size_aint_out: i64,
    /// Embedded radial basis.
    pub emb_size_rbf: i64,
    /// Embedded circular basis.
    pub emb_size_cbf: i64,
    /// Embedded spherical basis.
    pub emb_size_sbf: i64,
    /// Residual blocks before the skip connection.
    pub num_before_skip: i64,
    /// Residual blocks after it.
    pub num_after_skip: i64,
    /// Residual blocks after the concatenation.
    pub num_concat: i64,
    /// Residual blocks in atom updates and output blocks.
    pub num_atom: i64,
    /// Residual blocks in output blocks after adding the atom embedding.
    pub num_output_afteratom: i64,
    /// Residual blocks on atom embeddings.
    pub num_atom_emb_layers: i64,
    /// Residual blocks of the global output networks.
    pub num_global_out_layers: i64,
    /// Whether edges have an output for direct forces; `false` for gradient forces and scalar targets.
    pub direct_forces: bool,
    /// Quadruplets `c→a←b←d`.
    pub quad_interaction: bool,
    /// Atoms into edges.
    pub atom_edge_interaction: bool,
    /// Edges into atoms.
    pub edge_atom_interaction: bool,
    /// Atoms into atoms.
    pub atom_interaction: bool,
    /// Distance that radial functions are scaled by, Å, whatever the graph's cutoff.
    pub absolute_rbf_cutoff: f64,
    /// Exponent of the polynomial envelope.
    pub envelope_exponent: i32,
    /// Dropout after each residual block's layers, in training, outside bases and the global energy output.
    pub dropout: f64,
    /// Share of edges that the loader drops in training (0 = none); the network scales for it.
    pub edge_dropout: f64,
    /// Where it scales.
    pub edge_dropout_scaling: EdgeDropoutScaling,
}

impl Default for GemNetConfig {
    fn default() -> Self {
        Self::small()
    }
}

impl GemNetConfig {
    /// JMP-S.
    pub fn small() -> Self {
        Self {
            num_elements: 120,
            num_spherical: 7,
            num_radial: 128,
            num_blocks: 4,
            emb_size_atom: 256,
            emb_size_edge: 512,
            emb_size_trip_in: 64,
            emb_size_trip_out: 64,
            emb_size_quad_in: 32,
            emb_size_quad_out: 32,
            emb_size_aint_in: 64,
            emb_size_aint_out: 64,
            emb_size_rbf: 16,
            emb_size_cbf: 16,
            emb_size_sbf: 32,
            num_before_skip: 2,
            num_after_skip: 2,
            num_concat: 1,
            num_atom: 3,
            num_output_afteratom: 3,
            num_atom_emb_layers: 2,
            num_global_out_layers: 2,
            direct_forces: true,
            quad_interaction: true,
            atom_edge_interaction: true,
            edge_atom_interaction: true,
            atom_interaction: true,
            absolute_rbf_cutoff: 12.0,
            envelope_exponent: 5,
            dropout: 0.0,
            edge_dropout: 0.0,
            edge_dropout_scaling: EdgeDropoutScaling::Outputs,
        }
    }

    /// JMP-L.
    pub fn large() -> Self {
        Self {
            num_blocks: 6,
            emb_size_edge: 1024,
            emb_size_trip_out: 128,
            emb_size_quad_in: 64,
            emb_size_rbf: 32,
            emb_size_sbf: 64,
            num_concat: 4,
            ..Self::small()
        }
    }

    /// A network of the same structure with all sizes different and small, for tests.
    pub fn tiny() -> Self {
        Self {
            num_spherical: 5,
            num_radial: 32,
            num_blocks: 2,
            emb_size_atom: 24,
            emb_size_edge: 32,
            emb_size_trip_in: 10,
            emb_size_trip_out: 14,
            emb_size_quad_in: 6,
            emb_size_quad_out: 12,
            emb_size_aint_in: 18,
            emb_size_aint_out: 20,
            emb_size_rbf: 8,
            emb_size_cbf: 5,
            emb_size_sbf: 9,
            num_before_skip: 1,
            num_after_skip: 2,
            num_concat: 2,
            num_atom: 1,
            num_output_afteratom: 2,
            num_atom_emb_layers: 1,
            num_global_out_layers: 1,
            ..Self::small()
        }
    }

    /// The first rule that the sizes break, in words; `None` if the network can be built.
    pub fn problem(&self) -> Option<String> {
        let sizes = [
            ("num_elements", self.num_elements),
            ("num_spherical", self.num_spherical),
            ("num_blocks", self.num_blocks),
            ("emb_size_atom", self.emb_size_atom),
            ("emb_size_edge", self.emb_size_edge),
            ("emb_size_trip_in", self.emb_size_trip_in),
            ("emb_size_trip_out", self.emb_size_trip_out),
            ("emb_size_quad_in", self.emb_size_quad_in),
            ("emb_size_quad_out", self.emb_size_quad_out),
            ("emb_size_aint_in", self.emb_size_aint_in),
            ("emb_size_aint_out", self.emb_size_aint_out),
            ("emb_size_rbf", self.emb_size_rbf),
            ("emb_size_cbf", self.emb_size_cbf),
            ("emb_size_sbf", self.emb_size_sbf),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| *size < 1) {
            return Some(format!("{name} = {size}: expected at least 1"));
        }
        if self.num_radial < 2 {
            return Some(format!("num_radial = {}: expected at least 2", self.num_radial));
        }
        if !(self.absolute_rbf_cutoff.is_finite() && self.absolute_rbf_cutoff > 0.0) {
            return Some(format!(
                "absolute_rbf_cutoff = {}: expected a positive number of Å",
                self.absolute_rbf_cutoff
            ));
        }
        let shares = [("dropout", self.dropout), ("edge_dropout", self.edge_dropout)];
        let (name, share) = shares.iter().find(|(_, p)| !(0.0..1.0).contains(p))?;
        Some(format!("{name} = {share}: expected a share in [0, 1)"))
    }
}
