use super::GemNetConfig;

/// Parameters that all blocks share and the number that the reference divides their gradients by, after the backward
/// pass and before clipping. Names are relative to the backbone's path.
pub fn gradient_divisors(config: &GemNetConfig) -> Vec<(String, f64)> {
    let blocks = config.num_blocks as f64;
    let linear = |name: &str| format!("bases.{name}.linear.weight");
    let plain = |name: &str| format!("bases.{name}.weight");
    let mut table = vec![
        (linear("mlp_rbf_tint"), blocks),
        (plain("mlp_cbf_tint"), blocks),
        (linear("mlp_rbf_h"), blocks),
        (linear("mlp_rbf_out"), blocks + 1.0),
    ];
    if config.quad_interaction {
        table.push((linear("mlp_rbf_qint"), blocks));
        table.extend(["mlp_cbf_qint", "mlp_sbf_qint"].map(|name| (plain(name), blocks)));
    }
    for (on, name) in [(config.atom_edge_interaction, "aeint"), (config.edge_atom_interaction, "eaint")] {
        if on {
            table.push((linear(&format!("mlp_rbf_{name}")), blocks));
            table.push((plain(&format!("mlp_cbf_{name}")), blocks));
        }
    }
    if config.atom_interaction {
        table.push((plain("mlp_rbf_aint"), blocks));
    }
    table
}
