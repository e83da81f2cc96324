//! Labels that are to be learnt and are not there, heads that were never trained, labels without spread.

use shards::Structure;

use crate::runs::{Workshop, structures};

fn without_forces() -> Vec<Structure> {
    structures().into_iter().map(|s| Structure { forces: None, ..s }).collect()
}

fn without_energies() -> Vec<Structure> {
    structures().into_iter().map(|s| Structure { energy: None, ..s }).collect()
}

const VALIDATED: &str = "dataset.val=all";

#[test]
fn forces_that_no_structure_has_are_not_learnt() {
    let workshop = Workshop::new(&without_forces(), &[]);
    let words =
        ["dataset `set` (set): no structure of split `all` has forces", "force_weight = 0", "heads.forces"];
    let run = workshop.stops("finetune", "gradient", &[VALIDATED], 2, &words);
    assert!(!run.0.exists(), "something was left behind");
    workshop.stops("pretrain", "joint", &[], 2, &words);
    // As the message has it.
    for (dir, set) in [("none", "heads.forces=\"none\""), ("energies", "dataset.force_weight=0")] {
        let run = workshop.train("finetune", dir, &[VALIDATED, set]);
        assert!(run.finished()["best"]["metric"].as_f64().unwrap() > 0.0);
    }
    let run = workshop.train(
        "pretrain",
        "energies-jointly",
        &["dataset.set.force_weight=0", "dataset.set.val=all"],
    );
    assert!(run.finished()["best"]["metric"].as_f64().unwrap() > 0.0);
}

#[test]
fn energies_that_no_structure_has_are_not_learnt() {
    let workshop = Workshop::new(&without_energies(), &[]);
    let words = ["no structure of split `all` has energy", "energy_weight = 0"];
    workshop.stops("finetune", "gradient", &[], 2, &words);
    // Forces alone: the task is in the record of each step.
    let run = workshop.train("finetune", "forces", &["dataset.energy_weight=0", VALIDATED]);
    let steps = run.records("train");
    assert_eq!(steps.len(), 4);
    for step in &steps {
        let task = &step["tasks"]["set"];
        assert!(
            task["force_loss"].as_f64().is_some_and(|loss| loss > 0.0) && task["structures"] == 0,
            "{step}"
        );
    }
}

#[test]
fn a_split_without_labels_judges_nothing() {
    let dark = |s: Structure| Structure { forces: None, energy: None, ..s };
    let structures: Vec<_> =
        structures().into_iter().enumerate().map(|(i, s)| if i < 20 { s } else { dark(s) }).collect();
    let splits = [("light", 0..20), ("dark", 20..30), ("late", 15..30)];
    let workshop = Workshop::new(&structures, &splits);
    let train = "dataset.train=light";
    workshop.stops(
        "finetune",
        "dark",
        &[train, "dataset.val=dark"],
        2,
        &["no structure of split `dark` has energy"],
    );
    workshop.train("finetune", "late", &[train, "dataset.val=late", "validation.max_structures=6"]);
    // The labelled structures of the split come after those that are looked at.
    let splits = [("light", 10..30), ("late", 0..30)];
    let turned: Vec<_> = structures.into_iter().rev().collect();
    let workshop = Workshop::new(&turned, &splits);
    let words = ["none of the structures validated on (split `late`", "forces", "validation.max_structures"];
    workshop.stops(
        "finetune",
        "late",
        &[train, "dataset.val=late", "validation.max_structures=6"],
        2,
        &words,
    );
}

#[test]
fn a_model_of_forces_alone_tells_no_energies() {
    let workshop = Workshop::new(&structures(), &[]);
    let mut file = std::fs::File::create(workshop.path("in.extxyz")).unwrap();
    structures()[..3].iter().for_each(|s| extxyz::write_frame(&mut file, s, &[]).unwrap());
    let set = ["dataset.energy_weight=0", "heads.forces=\"direct\""];
    workshop.train("finetune", "direct", &set);
    let told = workshop.run(&["predict", "--checkpoint", "direct", "in.extxyz", "out.extxyz"]);
    assert!(told.contains("it has no energies") && told.contains("\nforces of 3 structures"), "{told}");
    let text = std::fs::read(workshop.path("out.extxyz")).unwrap();
    let mut frames = extxyz::Frames::whole(&text[..]);
    for _ in 0..3 {
        let frame = frames.next_frame().unwrap().unwrap();
        assert!(frame.column("forces").is_some() && frame.info.number(&["energy"]).unwrap().is_none());
    }
    let conversation = converse(&workshop, "direct");
    assert!(conversation[0]["label"].is_null() && conversation[0]["forces"] == true, "{}", conversation[0]);
    let results = conversation[1]["results"].as_object().unwrap();
    assert_eq!(results.keys().collect::<Vec<_>>(), ["forces"]);
    // Gradients know energies up to a constant; a head of forces that none taught is as silent.
    workshop.train("finetune", "gradient", &["dataset.energy_weight=0"]);
    assert_eq!(converse(&workshop, "gradient")[0]["label"], "energy");
    workshop.train("finetune", "energies", &["dataset.force_weight=0", "heads.forces=\"direct\""]);
    let conversation = converse(&workshop, "energies");
    assert!(conversation[0]["forces"] == false && conversation[1]["results"]["forces"].is_null());
    assert!(conversation[1]["results"]["energy"].is_number());
}

/// Greeting, and the answer to one question.
fn converse(workshop: &Workshop, checkpoint: &str) -> Vec<serde_json::Value> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_jmp-train"));
    command.current_dir(workshop.path("")).args(["predict", "--serve", "--checkpoint", checkpoint]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let question = br#"{"numbers":[8,1,1],"positions":[[0,0,0],[0.96,0,0],[-0.24,0.93,0]]}"#;
    child.stdin.take().unwrap().write_all(question).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn scales_of_a_trained_model_are_its_own() {
    let workshop = Workshop::new(&structures(), &[]);
    workshop.train("finetune", "run", &["stop.max_steps=1"]);
    let mut file = std::fs::File::create(workshop.path("in.extxyz")).unwrap();
    extxyz::write_frame(&mut file, &structures()[0], &[]).unwrap();
    let words = ["predict", "--checkpoint", "run", "in.extxyz", "out.extxyz", "--statistics", "set"];
    workshop.fails(&words, 2, &["--statistics is for imported models"]);
}

#[test]
fn energies_that_are_all_alike_have_a_scale() {
    let alike: Vec<_> = structures().into_iter().map(|s| Structure { energy: Some(-5.0), ..s }).collect();
    let workshop = Workshop::new(&alike, &[]);
    let set = ["dataset.reference=false", "heads.forces=\"none\"", VALIDATED];
    let run = workshop.train("finetune", "alike", &set);
    assert!(run.records("train").iter().all(|step| step["loss"].as_f64().is_some_and(f64::is_finite)));
    assert_eq!(run.state(4)["tasks"][0]["transform"]["std"], 1.0);
}
