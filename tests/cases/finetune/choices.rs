//! What a template offers beside its tasks: sizes and variants.

use std::fs;
use std::path::Path;

use super::{call, train, two_steps, workshop};
use crate::programs::root;

/// The names that `--task`, `--size` or `--variant` takes, by what a wrong one is answered with; all stand in the file.
pub(super) fn names(template: &str, key: &str, more: &[&str]) -> Vec<String> {
    let (option, nowhere) = (format!("--{key}"), Path::new("nowhere"));
    let wrong = [&["--scratch", option.as_str(), "?"][..], more].concat();
    let expected = format!("`{key}`: expected one of ");
    let message = train(&call("finetune", template, nowhere, nowhere, &wrong)).refused(&[&expected]).stderr;
    let list = message.split(expected.as_str()).nth(1).unwrap().split(" (--").next().unwrap();
    let names: Vec<String> = list.split(", ").map(str::to_owned).collect();
    let text = fs::read_to_string(root().join("configs/finetune").join(template)).unwrap();
    assert!(names.iter().all(|name| text.contains(name)), "{names:?}");
    names
}

/// Trains a task, which has run as it is in the small size, in the large one and with every variant, in both sizes by turns.
pub(super) fn every_choice(template: &str, task: &str, data: &Path) {
    let mut sizes = names(template, "size", &[]);
    sizes.sort();
    assert_eq!(sizes, ["large", "small"], "{template}");
    let variants = names(template, "variant", &["--task", task]);
    assert!(variants.iter().any(|name| name == "scratch"), "{template}: {variants:?}");
    let mut choices = vec![vec!["--size", "large"]];
    for (variant, size) in variants.iter().zip(sizes.iter().rev().cycle()) {
        choices.push(vec!["--size", size, "--variant", variant]);
    }
    for choice in choices {
        let run = workshop().join(format!("runs-{template}-{task}{}", choice.join("")));
        two_steps(template, data, &run, &[&["--task", task][..], choice.as_slice()].concat());
        let resolved = fs::read_to_string(run.join("config.toml")).unwrap();
        // The large size has six layers' rates, the small one four, and some variants none.
        assert_eq!(rates(&resolved), expected_rates(&choice), "{template} {choice:?}");
    }
}

/// How many blocks have learning rates of their own.
fn rates(resolved: &str) -> usize {
    let line = resolved.lines().find(|line| line.starts_with("blocks = [")).unwrap();
    line.split(['[', ']']).nth(1).unwrap().split(',').filter(|rate| !rate.trim().is_empty()).count()
}

fn expected_rates(choice: &[&str]) -> usize {
    if ["scratch", "no-layers"].iter().any(|variant| choice.contains(variant)) {
        return 0;
    }
    if choice.contains(&"large") { 6 } else { 4 }
}
