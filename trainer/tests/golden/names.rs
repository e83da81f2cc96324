//! Names and shapes of all parameters and buffers against the reference's tables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tch::{Device, nn};
use trainer::gemnet::{Backbone, GemNetConfig, Init, gradient_divisors};
use trainer::heads::{AtomEmbedding, PretrainHeads};

/// Built without anything stored in the network: a constant of the tag filter, and second names of the same tensors.
fn is_elsewhere(kind: &str, name: &str) -> bool {
    kind == "alias" || name == "backbone.qint_tags"
}

#[track_caller]
fn check(config: &GemNetConfig, table: &str) {
    let store = nn::VarStore::new(Device::Cpu);
    let root = store.root();
    let _embedding = AtomEmbedding::new(&(&root / "embedding" / "atom_embedding"), config);
    let _backbone = Backbone::with_init(&(&root / "backbone"), config, Init::Zeros);
    let _heads = PretrainHeads::new(&(&root / "output"), 4, config);
    let text = std::fs::read_to_string(PathBuf::from(crate::OWN_COPY).join(table)).unwrap();
    let (mut want, mut divisors) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().skip(1) {
        let column: Vec<&str> = line.split('\t').collect();
        let [kind, name, shape] = column[..3] else { panic!("{line}") };
        if !is_elsewhere(kind, name) {
            want.insert(name.to_string(), (kind == "param", shape.to_string()));
        }
        if let Some(divisor) = column.get(4).and_then(|d| d.parse::<f64>().ok()) {
            divisors.insert(name.to_string(), divisor);
        }
    }
    let got: BTreeMap<String, (bool, String)> = store
        .variables()
        .into_iter()
        .map(|(name, tensor)| (name, (tensor.requires_grad(), format!("{:?}", tensor.size()))))
        .collect();
    let missing: Vec<_> = want.keys().filter(|name| !got.contains_key(*name)).collect();
    let extra: Vec<_> = got.keys().filter(|name| !want.contains_key(*name)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    assert_eq!(got, want);
    let ours: BTreeMap<String, f64> =
        gradient_divisors(config).into_iter().map(|(name, d)| (format!("backbone.{name}"), d)).collect();
    assert_eq!(ours, divisors);
}

#[test]
fn golden_names_of_jmp_s() {
    check(&GemNetConfig::small(), "params_small.tsv");
}

#[test]
fn golden_names_of_jmp_l() {
    check(&GemNetConfig::large(), "params_large.tsv");
}
