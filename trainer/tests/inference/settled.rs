//! Energies of a model that was trained on forces alone: right up to a constant, which an evaluation finds and keeps.

use extxyz::Frames;
use serde_json::Value;
use trainer::checkpoint::{locate, read_info};

use crate::{fresh, molecules, structures, succeeds, workshop};

/// The energies that `predict` writes for the dataset's structures, and what it says beside.
fn predicted(run: &str, out: &str) -> (String, Vec<f64>) {
    let mut file = std::fs::File::create(workshop().join("settled-in.extxyz")).unwrap();
    structures().iter().for_each(|s| extxyz::write_frame(&mut file, s, &[]).unwrap());
    let out = fresh(out);
    let told = succeeds(&["predict", "--checkpoint", run, "settled-in.extxyz", &out]);
    let text = std::fs::read(workshop().join(out)).unwrap();
    let mut frames = Frames::whole(&text[..]);
    let frames = std::iter::from_fn(|| frames.next_frame().unwrap());
    (told, frames.map(|frame| frame.info.number(&["energy"]).unwrap().unwrap()).collect())
}

#[test]
fn the_constant_of_energies_is_found_once_and_kept() {
    let dir = fresh("settled");
    let settings =
        [format!("run.dir={dir}"), "dataset.energy_weight=0".to_owned(), "dataset.val=all".to_owned()];
    let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    succeeds(&[&["finetune", "finetune.toml", "--scratch"][..], &set].concat());
    // Validations tell nothing of energies that were not learnt.
    let records = std::fs::read_to_string(workshop().join(&dir).join("metrics.jsonl")).unwrap();
    let validations: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["kind"] == "validation")
        .collect();
    assert!(!validations.is_empty());
    for validation in &validations {
        let errors = &validation["tasks"]["set"];
        assert!(errors["force_mae"].as_f64().is_some() && errors.get("energy_mae").is_none(), "{errors}");
    }

    let (told, before) = predicted(&dir, "unsettled.extxyz");
    assert!(told.contains("right up to a constant"), "{told}");
    // What another dataset's energies are short of is that dataset's affair.
    let lifted = |s: shards::Structure| shards::Structure { energy: s.energy.map(|e| e + 3.0), ..s };
    let others: Vec<_> = structures().into_iter().map(lifted).collect();
    molecules::write(&workshop().join(fresh("elsewhere")), &molecules::layout(), &[others], 1);
    let kept = || read_info(&locate(&workshop().join(&dir), true).unwrap()).unwrap().tasks[0].energy_shift;
    let elsewhere = ["--split", "all", "--output", "elsewhere.parquet", "--set", "dataset.path=elsewhere"];
    succeeds(&[&["evaluate", "finetune.toml", "--checkpoint", &dir][..], &set, &elsewhere].concat());
    assert_eq!(kept(), None);

    let evaluate =
        [&["evaluate", "finetune.toml", "--checkpoint", &dir, "--split", "all", "--json"][..], &set].concat();
    let first = succeeds(&evaluate);
    let shift = kept().expect("the evaluation keeps what it found");
    let (told, after) = predicted(&dir, "settled.extxyz");
    assert!(told.contains("settled by one constant"), "{told}");
    assert_eq!(before.len(), structures().len());
    let close = |a: f64, b: f64| (a - b).abs() < 1e-7;
    assert!(before.iter().zip(&after).all(|(before, after)| close(after - before, shift)));
    // The split trained on is the whole dataset: there the mean error vanishes.
    let errors = structures().iter().zip(&after).map(|(s, energy)| energy - s.energy.unwrap()).sum::<f64>();
    assert!(close(errors / after.len() as f64, 0.0), "{errors}");
    assert!(shift.abs() > 1e-4, "nothing was settled: {shift}");
    // What is kept is used the next time, and not added once more.
    assert_eq!(succeeds(&evaluate), first);
    assert_eq!(kept(), Some(shift));
    // It was found with the averaged weights.
    let last =
        ["predict", "--checkpoint", &dir, "--weights", "model", "settled-in.extxyz", &fresh("last.extxyz")];
    assert!(succeeds(&last).contains("right up to a constant"));
}
