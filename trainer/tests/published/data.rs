//! Commands that read training data: scale factors fitted and used, tags that leave no quadruplets.

use std::path::Path;
use std::process::Command;

use crate::molecules;

/// A dataset of 24 molecules whose atoms all have this tag.
fn dataset(folder: &Path, name: &str, tag: Option<u8>) {
    let structures: Vec<_> = (0..24)
        .map(|i| {
            let mut molecule = molecules::molecule(i);
            molecule.tags = tag.map(|tag| vec![tag; molecule.atomic_numbers.len()]);
            molecule
        })
        .collect();
    molecules::write(&folder.join(name), &molecules::layout(), &[structures], 1);
}

fn configuration(folder: &Path) {
    let text = r#"
kind = "pretrain"
[run]
dir = "run"
device = "cpu"
threads = 1
[model]
preset = "tiny"
[[dataset]]
name = "plain"
path = "plain"
train = "all"
[[dataset]]
name = "zeros"
path = "zeros"
train = "all"
[sampling]
batch_size = 8
[optimizer]
lr = 1e-3
clip = "none"
[schedule]
epochs = 1
warmup_steps = 1
"#;
    std::fs::write(folder.join("config.toml"), text).unwrap();
}

/// Standard output of a command that succeeds.
#[track_caller]
fn run(folder: &Path, arguments: &[&str]) -> String {
    let done =
        Command::new(env!("CARGO_BIN_EXE_jmp-train")).current_dir(folder).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn fitted_factors_are_stored_and_taken_and_odd_tags_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    dataset(at, "plain", None);
    dataset(at, "zeros", Some(0));
    configuration(at);

    let plan = run(at, &["plan", "config.toml"]);
    assert!(
        plan.contains("warning: dataset `zeros`: the tags of its first 8 structures are all 0"),
        "{plan}"
    );
    assert!(!plan.contains("dataset `plain`:"), "{plan}");
    let without = ["plan", "config.toml", "--set", "model.interactions.quadruplet=false"];
    assert!(!run(at, &without).contains("warning"));

    let fit = ["fit-scales", "config.toml", "--batches", "2", "--output", "scales.json", "--json"];
    let report: serde_json::Value = serde_json::from_str(&run(at, &fit)).unwrap();
    assert_eq!((&report["fitted"], &report["batches"]), (&28.into(), &2.into()));
    let file = std::fs::read(at.join("scales.json")).unwrap();
    let values: std::collections::BTreeMap<String, f64> = serde_json::from_slice(&file).unwrap();
    assert!(values.len() == 28 && values.values().all(|v| *v > 0.01 && *v < 1000.0), "{values:?}");
    run(at, &fit);
    assert_eq!(std::fs::read(at.join("scales.json")).unwrap(), file, "the same data gives the same file");

    let setting = "model.scale_factors={ file = \"scales.json\" }";
    let told = run(at, &["pretrain", "config.toml", "--set", setting, "--set", "schedule.max_steps=1"]);
    assert!(
        told.contains("scale factors from scales.json") && told.contains("warning: dataset `zeros`"),
        "{told}"
    );
    let back =
        trainer::checkpoint::tensors::read(&at.join("run/checkpoints/step-00000001/model.safetensors"));
    let back = back.unwrap();
    for (name, value) in values {
        assert_eq!(back[&name].double_value(&[]), value, "{name}");
    }
}
