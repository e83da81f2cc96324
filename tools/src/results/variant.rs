//! What sets a run apart from others on its task: its model, and the settings that change what is learnt.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::recognise;
use crate::settings::Settings;

/// Settings of `[model]` that change how a network is trained, not which network it is.
const TRAINING: [&str; 4] = ["model.dropout", "model.edge_dropout", "model.recompute", "model.scale_factors"];

/// Settings that runs may differ in and still be averaged: the seed, where and on what a run is, how it is
/// watched and told of, and what a row tells elsewhere (the dataset with its task, the splits for training
/// and judging).
const ALIKE: [&str; 21] = [
    "run.seed",
    "run.dir",
    "run.device",
    "run.threads",
    "run.distributed_timeout",
    "run.tensorboard",
    "run.prometheus",
    "run.log_every",
    "dataset.name",
    "dataset.train",
    "dataset.test",
    "dataset.energy_within",
    "heads.unit",
    "model.recompute",
    "sampling.workers",
    "sampling.prefetch",
    "sampling.memory",
    "validation.batch_size",
    "checkpoint.",
    "guard.",
    "cache.",
];

/// More sizes that differ from a preset's are counted, not named, where room is short.
const NAMED: usize = 2;

/// Which of the paper's sizes a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// That of JMP-S and GN-OC-S.
    Small,
    /// That of JMP-L and GN-OC-L.
    Large,
    /// Neither, or it is not recorded.
    Other,
}

/// A network by its preset and the sizes that differ from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Model {
    /// Which of the paper's sizes it has.
    pub size: Size,
    /// The preset, then what differs from it: `jmp-s, num_blocks 3`.
    pub name: String,
}

impl Model {
    /// The model of a run.
    pub fn of(settings: &Settings) -> Self {
        let preset = settings.get("model.preset");
        let changed: Vec<String> = settings
            .below("model.")
            .filter(|(key, _)| *key != "model.preset" && is_network(key))
            .map(|(key, value)| {
                format!("{} {value}", key.trim_start_matches("model.").trim_start_matches("sizes."))
            })
            .collect();
        let size = match preset {
            Some("jmp-s") if changed.is_empty() => Size::Small,
            Some("jmp-l") if changed.is_empty() => Size::Large,
            _ => Size::Other,
        };
        let words: Vec<String> =
            std::iter::once(preset.unwrap_or("not recorded").to_owned()).chain(changed).collect();
        Self { size, name: words.join(", ") }
    }

    /// Whether it stands beside the paper's models of a size: of its own, or of both where it has neither.
    pub fn stands_beside(&self, size: Size) -> bool {
        self.size == size || self.size == Size::Other
    }

    /// Its name: short, unless another of `all` would be called the same.
    pub fn label(&self, all: &BTreeSet<&Self>) -> String {
        let short = self.short();
        let shared = all.iter().any(|other| *other != self && other.short() == short);
        if shared { self.name.clone() } else { short }
    }

    fn short(&self) -> String {
        let mut words = self.name.split(", ");
        let preset = words.next().unwrap_or_default();
        match words.count() {
            0..=NAMED => self.name.clone(),
            n => format!("{preset}, {n} sizes changed"),
        }
    }
}

/// All settings but the model's and those that averaged runs may differ in.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Variant(BTreeMap<String, String>);

impl Variant {
    /// The variant of a run.
    pub fn of(settings: &Settings) -> Self {
        let kept = settings.below("").filter(|(key, _)| !is_network(key) && !is_alike(key));
        Self(kept.map(|(key, value)| (key.to_owned(), without_fold(key, value))).collect())
    }

    /// The settings in which others differ from it, with its own values; nothing where none does.
    pub fn apart_from(&self, others: &[&Self]) -> Option<String> {
        let keys: BTreeSet<&String> = others.iter().chain([&self]).flat_map(|v| v.0.keys()).collect();
        let differs = |key: &&String| others.iter().any(|other| other.0.get(*key) != self.0.get(*key));
        let told = |key: &String| format!("{key} {}", self.0.get(key).map_or("not set", String::as_str));
        let texts: Vec<String> = keys.into_iter().filter(differs).map(told).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }
}

/// Whether a setting says which network it is.
fn is_network(key: &str) -> bool {
    key.starts_with("model.") && !TRAINING.iter().any(|training| key.starts_with(training))
}

fn is_alike(key: &str) -> bool {
    // A dataset that was moved is the same; another one's errors are of another task.
    let is_path = key.starts_with("dataset") && key.rsplit('.').next() == Some("path");
    is_path || ALIKE.iter().any(|alike| key.starts_with(alike))
}

/// A setting's value; of a split's name without MatBench's fold.
fn without_fold(key: &str, value: &str) -> String {
    match key {
        "dataset.val" | "dataset.statistics" => recognise::without_fold(value),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::parse(text).unwrap()
    }

    #[track_caller]
    fn check(text: &str, size: Size, name: &str) {
        assert_eq!(Model::of(&settings(text)), Model { size, name: name.into() });
    }

    #[test]
    fn a_model_is_its_preset_and_the_sizes_that_differ() {
        let trained = "[model]\npreset = \"jmp-s\"\ndropout = 0.1\nedge_dropout = 0.1\nrecompute = true\n\
            scale_factors = { fit = 16 }\n";
        check(trained, Size::Small, "jmp-s");
        check("[model]\npreset = \"jmp-l\"\nscale_factors = \"none\"\n", Size::Large, "jmp-l");
        let shallow = "[model]\npreset = \"jmp-s\"\nsizes = { num_blocks = 3 }\n";
        check(shallow, Size::Other, "jmp-s, num_blocks 3");
        check("[model]\npreset = \"tiny\"\n", Size::Other, "tiny");
        check("", Size::Other, "not recorded");
        let switched = "[model]\npreset = \"jmp-l\"\ninteractions = { quadruplet = false }\n";
        check(switched, Size::Other, "jmp-l, interactions.quadruplet false");
    }

    #[test]
    fn many_changed_sizes_are_counted_unless_that_is_not_unique() {
        let of = |atom: u32| {
            let sizes = format!("sizes = {{ emb_size_atom = {atom}, emb_size_edge = 64, num_blocks = 2 }}");
            Model::of(&settings(&format!("[model]\npreset = \"tiny\"\n{sizes}\n")))
        };
        let (one, other) = (of(64), of(80));
        assert_eq!(one.label(&[&one].into()), "tiny, 3 sizes changed");
        assert_eq!(
            other.label(&[&one, &other].into()),
            "tiny, emb_size_atom 80, emb_size_edge 64, num_blocks 2"
        );
    }

    #[test]
    fn seeds_folds_and_places_are_no_variants() {
        let run = |seed: u32, fold: u32| {
            let text = format!(
                "[run]\ndir = \"runs/{seed}-{fold}\"\nseed = {seed}\ndevice = \"cuda:{seed}\"\n\
                 [model]\npreset = \"jmp-s\"\n\
                 [dataset]\nname = \"phonons\"\npath = \"disk{seed}/phonons\"\ntrain = \"fold{fold}_train\"\n\
                 val = \"fold{fold}_val\"\ntest = \"fold{fold}_test\"\n\
                 [optimizer]\nlr = 1e-3\n[checkpoint]\nkeep = {seed}\n"
            );
            Variant::of(&settings(&text))
        };
        assert_eq!(run(1, 0), run(2, 4));
        let kept = [("dataset.val".to_owned(), "val".to_owned()), ("optimizer.lr".into(), "0.001".into())];
        assert_eq!(run(1, 0), Variant(kept.into()));
    }

    #[test]
    fn variants_are_told_by_what_differs() {
        let of = |text: &str| Variant::of(&settings(text));
        let one = of("[optimizer]\nlr = 1e-3\nweight_decay = 0.1\n");
        let other = of("[optimizer]\nlr = 2e-3\nweight_decay = 0.1\n[loss]\nreduction = \"atom\"\n");
        assert_eq!(
            one.apart_from(&[&one, &other]).as_deref(),
            Some("loss.reduction not set, optimizer.lr 0.001")
        );
        assert_eq!(
            other.apart_from(&[&one, &other]).as_deref(),
            Some("loss.reduction atom, optimizer.lr 0.002")
        );
        assert_eq!(one.apart_from(&[&one]), None);
    }
}
