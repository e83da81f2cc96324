//! Files of fitted scale factors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tch::{Device, Tensor, nn};
use trainer::checkpoint::{scale_factors, tensors};
use trainer::gemnet::{Backbone, GemNetConfig, Init};

fn backbone(config: &GemNetConfig) -> (nn::VarStore, Backbone) {
    let store = nn::VarStore::new(Device::Cpu);
    let backbone = Backbone::with_init(&(store.root() / "backbone"), config, Init::Zeros);
    (store, backbone)
}

#[test]
fn names_of_all_kinds_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let (store, backbone) = backbone(&GemNetConfig::tiny());
    let factors = backbone.scale_factors();
    let values: BTreeMap<String, f64> =
        factors.iter().enumerate().map(|(i, factor)| (factor.name.clone(), 0.1 + i as f64)).collect();
    let ours = folder.path().join("ours.json");
    scale_factors::write(&ours, &values).unwrap();
    let short =
        |name: &String| name.trim_start_matches("backbone.").trim_end_matches(".scale_factor").to_owned();
    let fairchem = folder.path().join("fairchem.json");
    let mut theirs: BTreeMap<String, serde_json::Value> =
        values.iter().map(|(name, value)| (short(name), (*value).into())).collect();
    theirs.insert("comment".into(), "words".into());
    theirs.insert("out_blocks.9.scale_sum".into(), 1.0.into());
    std::fs::write(&fairchem, serde_json::to_string(&theirs).unwrap()).unwrap();
    let safetensors = folder.path().join("ours.safetensors");
    let named = values.iter().map(|(name, value)| (name.clone(), Tensor::from(*value as f32))).collect();
    tensors::write(&safetensors, &named).unwrap();
    for file in [ours, fairchem, safetensors] {
        factors.iter().for_each(|factor| factor.set(0.0));
        scale_factors::apply(&file, &factors).unwrap();
        for (name, tensor) in store.variables().into_iter().filter(|(name, _)| values.contains_key(name)) {
            assert_eq!(tensor.double_value(&[]) as f32, values[&name] as f32, "{}: {name}", file.display());
        }
    }
}

#[test]
fn missing_and_unfitted_factors_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, backbone) = backbone(&GemNetConfig::tiny());
    let factors = backbone.scale_factors();
    let file = folder.path().join("x.json");
    let told = |text: &str| {
        std::fs::write(&file, text).unwrap();
        scale_factors::apply(&file, &factors).unwrap_err().to_string()
    };
    assert!(told("{}").contains("no scalar `backbone."));
    assert!(told("[1]").contains("x.json"));
    assert!(told("{\"a\": \"b\"}").contains("expected a number, found \"b\""));
    let name = &factors[0].name;
    assert!(told(&format!("{{\"{name}\": 0.0}}")).contains("above 0, found 0"));
}

/// fairchem's own files for OC20 have the same names and number of blocks as JMP-S and JMP-L.
#[test]
#[allow(clippy::disallowed_methods, clippy::print_stderr, reason = "the one switch of tests on real samples")]
fn fairchems_files_fit_the_published_sizes() {
    let Ok(folder) = std::env::var("JMP_REAL_DATA") else {
        eprintln!("skipped: JMP_REAL_DATA is not set");
        return;
    };
    let cases = [
        ("fairchem_oc20_gemnet-oc.pt", GemNetConfig::small()),
        ("fairchem_oc20_gemnet-oc-large.pt", GemNetConfig::large()),
    ];
    for (file, config) in cases {
        let (_store, backbone) = backbone(&config);
        let factors = backbone.scale_factors();
        scale_factors::apply(&PathBuf::from(&folder).join("scale_files").join(file), &factors).unwrap();
        assert!(factors.iter().all(|factor| factor.is_fitted()), "{file}");
    }
}
