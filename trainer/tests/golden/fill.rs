//! The deterministic weights that all golden values were made with.

use tch::{Tensor, nn, no_grad};

/// SplitMix64 numbers in [0, 1), seeded by the FNV-1a hash of a name.
pub(crate) fn uniform(name: &str) -> impl Iterator<Item = f64> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (1u64..).map(move |i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 * f64::powi(2.0, -53)
    })
}

/// Values in [−1, 1): `2u − 1`.
pub(crate) fn centred(name: &str) -> impl Iterator<Item = f64> {
    uniform(name).map(|u| 2.0 * u - 1.0)
}

/// Half the width of the interval that values of a tensor fill.
pub(crate) fn width(name: &str, shape: &[i64]) -> f64 {
    match shape {
        _ if name.starts_with("embedding.") => 3f64.sqrt(),
        [_] => 0.1,
        [r, s, _] => (2.4 / (r * s) as f64).sqrt(),
        [_, b] => (2.4 / *b as f64).sqrt(),
        _ => panic!("{name}: no rule for shape {shape:?}"),
    }
}

/// Value that fitted factors lie around.
pub(crate) fn scale_base(name: &str) -> f64 {
    let parts: Vec<&str> = name.rsplit('.').collect();
    match (parts[2], parts[1]) {
        (_, "scale_sum") => 0.5,
        ("quad_interaction", "scale_cbf") => 16.0,
        ("trip_interaction", "scale_cbf_sum") => 2.0,
        ("edge_atom_interaction", "scale_cbf_sum") | ("atom_interaction", "scale_rbf_sum") => 0.25,
        (_, "scale_rbf_F" | "scale_rbf" | "scale_sbf_sum" | "scale_cbf_sum") => 4.0,
        other => panic!("{name}: no rule for {other:?}"),
    }
}

/// Fills every parameter and scale factor; the constants of the radial basis stay as computed.
pub(crate) fn fill(store: &nn::VarStore) {
    for (name, tensor) in store.variables() {
        if name.contains(".rbf.") {
            continue;
        }
        let values: Vec<f64> = if name.ends_with("scale_factor") {
            vec![scale_base(&name) * (0.75 + 0.5 * uniform(&name).next().unwrap())]
        } else {
            let width = width(&name, &tensor.size());
            centred(&name).take(tensor.numel()).map(|v| v * width).collect()
        };
        let mut tensor = tensor;
        no_grad(|| tensor.copy_(&Tensor::from_slice(&values).view(&tensor.size()[..])));
    }
}

#[test]
fn golden_fill_rule() {
    let first = |name: &str| uniform(name).take(3).collect::<Vec<_>>();
    let want = [0.657_281_225_539_806_1, 0.120_481_156_111_260_2, 0.314_351_221_783_508_5];
    assert_eq!(first("embedding.atom_embedding.weight"), want);
    let name = "backbone.int_blocks.0.quad_interaction.scale_cbf.scale_factor";
    let value = scale_base(name) * (0.75 + 0.5 * first(name)[0]);
    assert!((value - 15.386_966_013_024_631).abs() < 1e-14, "{value}");
}
