//! The learning rates of layers: which rate each tensor of the published models has, and where it goes.

use std::path::Path;

use trainer::plan::group_of;

use super::rates::{at, close, plan};
use super::read_with;

/// Table 18: embedding, blocks, everything else.
const FACTORS: [(&str, &[f64]); 2] = [
    ("size=small", &[0.3, 0.35, 0.4, 0.55, 0.625, 1.0]),
    ("size=large", &[0.3, 0.55, 0.4, 0.3, 0.4, 0.55, 0.625, 1.0]),
];

/// The rates of every layer of both sizes in every phase, worked out by hand from App. B.3's words and Table 18's numbers.
#[test]
fn layers_follow_their_own_rates_to_a_common_end() {
    for (size, factors) in FACTORS {
        let config = read_with("finetune/qm9.toml", &["task=U_0", size]);
        let mut schedule = plan().schedule(&config);
        for (layer, factor) in factors.iter().enumerate() {
            let what = |phase: &str| format!("{size}, layer {layer}, {phase}");
            let peak = 8e-5 * factor;
            close(at(&schedule, 0)[layer], 0.1 * peak, &what("first step"));
            // Half-way between 0.1 and 1 of the peak lies at half of the 49 intervals of 50 warm-up steps.
            let tenth = peak * (0.1 + 0.9 * 10.0 / 49.0);
            close(at(&schedule, 10)[layer], tenth, &what("warm-up"));
            close(at(&schedule, 49)[layer], peak, &what("end of the warm-up"));
            close(at(&schedule, 50)[layer], peak, &what("start of the cosine"));
            // The cosine ends at epoch 32: 270 steps of it, half of them done at step 185, a third at 140.
            close(at(&schedule, 185)[layer], f64::midpoint(peak, 8e-6), &what("middle of the cosine"));
            close(at(&schedule, 140)[layer], 8e-6 + (peak - 8e-6) * 0.75, &what("third of the cosine"));
            close(at(&schedule, 320)[layer], 8e-6, &what("end of the cosine"));
        }
        // Six validations without a better one exceed a patience of five: a tenth, for all layers alike.
        for validation in 0..7 {
            assert!(at(&schedule, 330).iter().all(|lr| (lr - 8e-6).abs() < 1e-18), "validation {validation}");
            schedule.validated(330 + validation, 1.0);
        }
        for lr in at(&schedule, 400) {
            close(lr, 8e-7, "after the plateau");
        }
    }
}

/// Table 18, "JMP Large - MD17": a hundredth; the small model's cosine ends at a tenth there, too.
#[test]
fn the_large_models_cosine_on_rmd17_ends_at_a_hundredth() {
    for ((size, factors), floor) in FACTORS.into_iter().zip([8e-6, 8e-7]) {
        let config = read_with("finetune/rmd17.toml", &["task=aspirin", size]);
        let schedule = plan().schedule(&config);
        assert_eq!(at(&schedule, 320).len(), factors.len());
        for (layer, factor) in factors.iter().enumerate() {
            let what = |phase: &str| format!("{size}, layer {layer}, {phase}");
            close(at(&schedule, 50)[layer], 8e-5 * factor, &what("start of the cosine"));
            close(at(&schedule, 185)[layer], f64::midpoint(8e-5 * factor, floor), &what("middle"));
            close(at(&schedule, 320)[layer], floor, &what("end of the cosine"));
        }
    }
}

/// The parameters of a published model by the reference's table.
fn parameters(table: &str) -> Vec<String> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/gemnet"));
    let text = std::fs::read_to_string(folder.join(table)).unwrap();
    let columns = text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    columns.filter(|columns| columns[0] == "param").map(|columns| columns[1].to_owned()).collect()
}

/// Names that there are in fine-tuning alone.
const OF_FINE_TUNING: [&str; 4] =
    ["embedding.weight", "out_energy.0.weight", "out_forces.8.weight", "out_scalar.2.bias"];

/// How the names of what goes with an interaction block begin: an output block goes with the interaction block before
/// it, and what comes before the first one with that.
fn of_block(block: usize) -> Vec<String> {
    let after = block + 1;
    let own = vec![format!("backbone.int_blocks.{block}."), format!("backbone.out_blocks.{after}.")];
    let before = vec!["backbone.out_blocks.0.".to_owned()];
    if block == 0 { [own, before].concat() } else { own }
}

#[test]
fn every_tensor_of_the_published_models_has_the_rate_of_its_layer() {
    for ((size, factors), table) in FACTORS.into_iter().zip(["params_small.tsv", "params_large.tsv"]) {
        let config = read_with("finetune/rmd17.toml", &["task=ethanol", size]);
        let peaks = at(&plan().schedule(&config), 50);
        let (names, blocks) = (parameters(table), factors.len() - 2);
        for begin in (0..blocks).flat_map(of_block) {
            assert!(names.iter().any(|name| name.starts_with(&begin)), "{table}: nothing is {begin}…");
        }
        let mut members = vec![0; factors.len()];
        for name in names.iter().map(String::as_str).chain(OF_FINE_TUNING) {
            let layer = if name.starts_with("embedding.") {
                0
            } else {
                let its = |block: &usize| of_block(*block).iter().any(|begin| name.starts_with(begin));
                (0..blocks).find(its).map_or(blocks + 1, |block| block + 1)
            };
            assert_eq!(group_of(&config, name), layer, "{size}: {name}");
            close(peaks[group_of(&config, name)], 8e-5 * factors[layer], name);
            members[layer] += 1;
        }
        // The embedding twice, by both of its names; the heads, the global outputs and the bases have the full rate.
        assert!(members[0] == 2 && members.iter().all(|members| *members > 0), "{size}: {members:?}");
        let is_full = |name: &&String| {
            ["output.", "backbone.out_mlp_", "backbone.bases."].iter().any(|b| name.starts_with(b))
        };
        assert_eq!(members[blocks + 1], names.iter().filter(is_full).count() + 3, "{size}");
    }
}
