//! Sizes read off shapes.

use std::collections::BTreeMap;

use tch::Kind;
use trainer::config::model::{ModelSection, Preset};
use trainer::gemnet::GemNetConfig;
use trainer::network::HeadLayout;
use trainer::published::{Offer, infer};

/// Names and shapes of the reference's state dict.
fn table(name: &str) -> BTreeMap<String, Offer> {
    let text = std::fs::read_to_string(crate::goldens().join(name)).unwrap();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let shape = fields[2].trim_matches(['[', ']']).split(", ").filter_map(|n| n.parse().ok()).collect();
        (fields[1].to_owned(), Offer { kind: Kind::Float, shape })
    };
    text.lines().skip(1).map(row).collect()
}

#[test]
fn published_sizes_are_recognised() {
    let cases = [
        ("params_small.tsv", GemNetConfig::small(), Preset::JmpS),
        ("params_large.tsv", GemNetConfig::large(), Preset::JmpL),
    ];
    for (file, config, preset) in cases {
        let layout = infer(&table(file)).unwrap();
        assert_eq!(layout.heads, HeadLayout::Joint(4), "{file}");
        assert_eq!(layout.config, config, "{file}");
        let section = ModelSection::of(&layout.config).unwrap();
        assert_eq!((section.preset, section.sizes.count()), (preset, 0), "{file}");
    }
}

#[test]
fn a_network_without_quadruplets_or_direct_forces_is_recognised() {
    let mut offers = table("params_small.tsv");
    offers.retain(|name, _| {
        let quadruplets = name.contains("quad_interaction") || name.contains("qint");
        let forces = name.contains("out_mlp_F") || name.contains("seq_forces") || name.contains("rbf_F");
        !quadruplets && !forces && !name.starts_with("output.")
    });
    let layout = infer(&offers).unwrap();
    assert_eq!(layout.heads, HeadLayout::Joint(0));
    assert!(!layout.config.quad_interaction && !layout.config.direct_forces);
    assert!(layout.config.atom_interaction && layout.config.edge_atom_interaction);
    assert!(!ModelSection::of(&layout.config).unwrap().interactions.quadruplet);
}

/// The section made of a network's sizes gives them back.
#[test]
fn a_section_of_any_sizes_gives_them_back() {
    let odd =
        GemNetConfig { num_blocks: 3, emb_size_edge: 640, atom_interaction: false, ..GemNetConfig::large() };
    assert_eq!(ModelSection::of(&odd).unwrap().gemnet(odd.direct_forces), odd);
    assert!(ModelSection::of(&GemNetConfig { num_concat: 0, ..GemNetConfig::small() }).is_none());
}
