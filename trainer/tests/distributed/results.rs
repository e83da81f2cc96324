//! What ranks compute is what one process computes.

use crate::programs::{Ended, Run, Workshop, distance};

/// Losses and validations of two runs are the same but for rounding.
#[track_caller]
fn assert_same_course(one: &Run, many: &Run, tolerance: f64) {
    let (a, b) = (one.losses(), many.losses());
    assert_eq!(a.len(), b.len());
    for (step, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!((a - b).abs() <= tolerance * a.abs(), "loss of step {step}: {a} and {b}");
    }
    let (a, b) = (one.records("validation"), many.records("validation"));
    assert!(a.len() >= 2 && a.len() == b.len());
    for (a, b) in a.iter().zip(&b) {
        for task in ["large", "small"] {
            let counts = |record: &serde_json::Value| {
                (record["tasks"][task]["structures"].clone(), record["tasks"][task]["atoms"].clone())
            };
            assert_eq!(counts(a), counts(b), "{task}");
        }
        let (a, b) = (a["metric"].as_f64().unwrap(), b["metric"].as_f64().unwrap());
        assert!((a - b).abs() <= tolerance * a, "validation: {a} and {b}");
    }
}

#[test]
fn distributed_ranks_learn_what_one_process_learns() {
    let workshop = Workshop::new();
    let one = workshop.pretrain("one", &[]);
    let wanted = one.tensors(22);
    for ranks in ["2", "3"] {
        let many = workshop.pretrain(&format!("ranks-{ranks}"), &["--ranks", ranks]);
        assert_same_course(&one, &many, 1e-12);
        // What a report works the cost out from: ranks of one machine.
        let sessions = many.records("session");
        assert_eq!((sessions.len(), sessions[0]["device"].as_str()), (1, Some("cpu")));
        assert_eq!(
            (sessions[0]["ranks"].to_string(), sessions[0]["machines"].as_u64()),
            (ranks.into(), Some(1))
        );
        let (apart, name) = distance(&wanted, &many.tensors(22));
        assert!(apart < 1e-12, "{ranks} ranks: {name} is {apart:e} apart");
    }
    // More ranks than micro-batches: one never has any.
    let many = workshop.pretrain("ranks-4", &["--ranks", "4"]);
    let (apart, name) = distance(&wanted, &many.tensors(22));
    assert!(apart < 1e-12, "4 ranks: {name} is {apart:e} apart");
}

/// Every structure of one dataset gives an infinite loss; steps that hold one are passed over by all ranks alike.
#[test]
fn distributed_a_loss_that_is_not_finite_is_one_for_all() {
    let workshop = Workshop::new();
    let settings = ["run.precision=\"f32\"", "dataset.small.energy_std=1e-45", "validation.every_steps=1000"];
    let broken: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let skipping = [&broken[..], &["--set", "guard={ non_finite = \"skip\", max_skips = 1000 }"]].concat();
    let one = workshop.pretrain("one", &skipping);
    let two = workshop.pretrain("two", &[&skipping[..], &["--ranks", "2"]].concat());
    // Steps that were passed over leave no record of training.
    let learnt = |run: &Run| run.records("train").iter().map(|r| r["step"].clone()).collect::<Vec<_>>();
    assert!((3..20).contains(&learnt(&one).len()), "{} steps learnt", learnt(&one).len());
    assert_eq!(learnt(&one), learnt(&two));
    let (apart, name) = distance(&one.tensors(22), &two.tensors(22));
    assert!(apart < 5e-6, "{name} is {apart:e} apart");
    let stop = [&["pretrain", "config.toml", "--quiet", "--ranks", "2"], &broken[..]].concat();
    let ended = Ended::of(workshop.command(&stop).spawn().unwrap());
    assert_eq!(ended.code(), Some(1), "{}", ended.errors());
    let told = ended.errors();
    assert!(told.contains("; structures of the batch: m1"), "{told}");
    // Both ranks and their parent, whichever rank is to blame; none gives up waiting while that one writes.
    let sentence = "the run stopped; kept for `jmp-train replay run/failures/step-";
    assert_eq!(told.matches(sentence).count(), 3, "{told}");
    assert!(told.contains("[rank 1] error: ") && !told.contains("lost the other ranks"), "{told}");
    // The parent names the rank that is to blame, not one that stops because of it.
    assert!(!told.contains("failed: rank "), "{told}");
    for folder in failures(&workshop) {
        let told = replayed(&workshop, &folder);
        assert_eq!((&told["reproduced"], &told["parts"][0]["loss_is_finite"]), (&true.into(), &false.into()));
    }
}

/// Folders of the failures of the run in `run`.
fn failures(workshop: &Workshop) -> Vec<String> {
    let entries = std::fs::read_dir(workshop.path("run/failures")).unwrap();
    let names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.is_empty());
    names.into_iter().map(|name| format!("run/failures/{name}")).collect()
}

fn replayed(workshop: &Workshop, folder: &str) -> serde_json::Value {
    let told = workshop.run(&["replay", folder, "--json"]).stdout;
    serde_json::from_slice(&told).unwrap()
}

/// A step of energies alone, all far below any prediction, so that the gradients of micro-batches point the same way.
fn aligned(weight: f64) -> Vec<String> {
    let of = |name: &str| {
        let weight = format!("energy_weight={weight:e}");
        [weight.as_str(), "energy_mean=-1e9", "force_weight=0"].map(|value| format!("dataset.{name}.{value}"))
    };
    let settings = of("large").into_iter().chain(of("small")).chain(["schedule.max_steps=1".to_owned()]);
    settings.flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

/// Each micro-batch has a finite gradient, and only the norm of their sum is none: nobody is to blame, and rank 0 keeps the
/// micro-batches that it has.
#[test]
fn distributed_a_sum_that_alone_is_not_finite_is_kept_by_rank_0() {
    let workshop = Workshop::new();
    let fine = aligned(1e100);
    let fine = workshop.pretrain("fine", &fine.iter().map(String::as_str).collect::<Vec<_>>());
    let norm = fine.records("train")[0]["gradient_norm"].as_f64().unwrap();
    // A norm above the root of the largest number has no square in double precision; weights are factors of the gradient.
    let heavy = aligned(1e100 * (1.2 * f64::MAX.sqrt() / norm));
    let words = ["pretrain", "config.toml", "--quiet", "--ranks", "2"];
    let words: Vec<&str> = words.into_iter().chain(heavy.iter().map(String::as_str)).collect();
    let ended = Ended::of(workshop.command(&words).spawn().unwrap());
    let told = ended.errors();
    assert_eq!(ended.code(), Some(1), "{told}");
    let sentence = "step 0: the gradient's norm is inf; structures of the batch: m";
    assert_eq!(told.matches(sentence).count(), 3, "{told}");
    assert!(told.contains("rank 1 stops because rank 0 failed: the run stopped; kept for "), "{told}");
    assert_eq!(failures(&workshop), ["run/failures/step-00000000"]);
    let told = replayed(&workshop, "run/failures/step-00000000");
    let parts = told["parts"].as_array().unwrap();
    assert!((1..=2).contains(&parts.len()), "{told}");
    assert!(parts.iter().all(|part| part["gradient_is_finite"] == true), "{told}");
}

/// Projections take the gradients of all tasks over all ranks, in an order that all ranks draw alike.
#[test]
fn distributed_ranks_project_conflicting_gradients_as_one_process() {
    let workshop = Workshop::new();
    let projected = ["--set", "loss.pcgrad=\"labels\""];
    let one = workshop.pretrain("one", &projected);
    for ranks in ["2", "3"] {
        let more = [&projected[..], &["--ranks", ranks]].concat();
        let many = workshop.pretrain(&format!("ranks-{ranks}"), &more);
        assert_same_course(&one, &many, 1e-12);
        let (apart, name) = distance(&one.tensors(22), &many.tensors(22));
        assert!(apart < 1e-12, "{ranks} ranks: {name} is {apart:e} apart");
    }
    let plain = workshop.pretrain("plain", &[]);
    assert!(distance(&one.tensors(22), &plain.tensors(22)).0 > 1e-4, "no gradients were in conflict");
}

#[test]
fn distributed_ranks_learn_the_same_in_single_precision_and_with_recomputed_blocks() {
    let workshop = Workshop::new();
    let single = ["--set", "run.precision=\"f32\""];
    let one = workshop.pretrain("one", &single);
    let two = workshop.pretrain("two", &[&single[..], &["--ranks", "2"]].concat());
    assert_same_course(&one, &two, 1e-5);
    let (apart, name) = distance(&one.tensors(22), &two.tensors(22));
    assert!(apart < 5e-6, "{name} is {apart:e} apart");
    let recompute = ["--set", "model.recompute=true", "--set", "model.dropout=0.0"];
    let one = workshop.pretrain("one-recomputed", &recompute);
    let two = workshop.pretrain("two-recomputed", &[&recompute[..], &["--ranks", "2"]].concat());
    let (apart, name) = distance(&one.tensors(22), &two.tensors(22));
    assert!(apart < 1e-12, "{name} is {apart:e} apart");
}

/// Gradient forces need second derivatives, whose gradients are exchanged as others.
#[test]
fn distributed_ranks_fine_tune_as_one_process() {
    let workshop = Workshop::new();
    std::fs::write(workshop.path("finetune.toml"), FINETUNE).unwrap();
    let tune = |dir: &str, more: &[&str]| {
        let set = format!("run.dir={dir}");
        let words = ["finetune", "finetune.toml", "--scratch", "--quiet", "--set", &set];
        workshop.run(&[&words[..], more].concat());
        Run(workshop.path(dir))
    };
    let one = tune("one", &[]);
    let steps = one.records("finished")[0]["step"].as_u64().unwrap();
    assert!(steps >= 10, "{steps}");
    for ranks in ["2", "3"] {
        let many = tune(&format!("ranks-{ranks}"), &["--ranks", ranks]);
        let (a, b) = (one.losses(), many.losses());
        assert!(
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-10 * a),
            "{a:?} {b:?}"
        );
        let metrics = [&one, &many].map(|run| run.records("validation")[0]["metric"].as_f64().unwrap());
        assert!((metrics[0] - metrics[1]).abs() <= 1e-10 * metrics[0], "{metrics:?}");
        let (apart, name) = distance(&one.tensors(steps), &many.tensors(steps));
        assert!(apart < 1e-11, "{ranks} ranks: {name} is {apart:e} apart");
    }
}

const FINETUNE: &str = r#"
kind = "finetune"
run = { dir = "run", seed = 3, device = "cpu", threads = 1, precision = "f64", distributed_timeout = 120 }
model = { preset = "tiny" }
dataset = { name = "large", path = "large", train = "all", val = "all", cutoff = 4.0, neighbors = 6, force_weight = 10.0 }
heads = { forces = "gradient" }
sampling = { batch_size = 1, accumulate = 3 }
optimizer = { lr = 1e-3, clip = { value = 1.0 }, ema = 0.9 }
schedule = { warmup_epochs = 1 }
stop = { epochs = 1 }
"#;

/// Rank 0 fits the factors that keep variances, and the others take them.
#[test]
fn distributed_scale_factors_are_those_of_one_process() {
    let workshop = Workshop::new();
    let fitting = ["--set", "model.scale_factors={ fit = 4 }", "--set", "schedule.max_steps=3"];
    let one = workshop.pretrain("one", &fitting);
    let two = workshop.pretrain("two", &[&fitting[..], &["--ranks", "2"]].concat());
    for step in [0, 3] {
        let (apart, name) = distance(&one.tensors(step), &two.tensors(step));
        assert!(apart < 1e-12, "step {step}: {name} is {apart:e} apart");
    }
    let unfitted = workshop.pretrain("unfitted", &["--set", "schedule.max_steps=3"]);
    assert!(distance(&one.tensors(0), &unfitted.tensors(0)).0 > 1e-3, "nothing was fitted");
}
