//! Errors of ours for tests.

use super::ours::Ours;
use super::variant::{Model, Variant};
use crate::settings::Settings;

/// An error of a run of which no settings are known.
pub(super) fn ours(task: &str, fold: Option<u8>, error: f64) -> Ours {
    Ours {
        run: "r".into(),
        task: task.into(),
        fold,
        few_shot: false,
        model: Model::of(&Settings::default()),
        variant: Variant::default(),
        trained: None,
        split: fold.map_or("test".into(), |fold| format!("fold{fold}_test")),
        structures: None,
        error,
        unit: String::new(),
        by_overlap: [].into(),
        differs: vec![],
    }
}

/// The same of a run with settings.
pub(super) fn with(settings: &str, error: Ours) -> Ours {
    let settings = Settings::parse(settings).unwrap();
    Ours { model: Model::of(&settings), variant: Variant::of(&settings), ..error }
}

/// An error of an unchanged preset.
pub(super) fn preset(name: &str, task: &str, fold: Option<u8>, error: f64) -> Ours {
    with(&format!("model.preset = \"{name}\"\n"), ours(task, fold, error))
}
