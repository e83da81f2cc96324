//! The settings that a run was started with, as `config.toml` in its directory tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Serialize;
use toml::{Table, Value};

use crate::error::ReportError;

/// Settings by their path: `optimizer.lr` → `0.001`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads a run directory's `config.toml`; no settings where there is none.
    pub fn read(dir: &Path) -> Result<Self, ReportError> {
        let path = dir.join("config.toml");
        if !path.is_file() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).map_err(ReportError::read(&path))?;
        Self::parse(&text).map_err(|problem| ReportError::Run { path, problem })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let table: Table = toml::from_str(text).map_err(|e| format!("expected TOML: {e}"))?;
        let mut flat = BTreeMap::new();
        walk("", &Value::Table(table), &mut flat);
        Ok(Self(flat))
    }

    /// A setting as text, without quotation marks.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a task's energies are learnt; with a weight λ_E of 0 they are right up to a constant at best.
    pub fn learns_energies(&self, task: &str) -> bool {
        let own = format!("dataset.{task}.energy_weight");
        let weight = self.get("dataset.energy_weight").or_else(|| self.get(&own));
        weight.and_then(|text| text.parse::<f64>().ok()) != Some(0.0)
    }

    /// All settings whose path begins so.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter(move |(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// A setting that is not the same in all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Its path.
    pub setting: String,
    /// Its value in each run; absent where it is not set.
    pub values: Vec<Option<String>>,
}

/// Settings that change where a run lies or how it is watched, not what it computes.
const WITHOUT_EFFECT: [&str; 3] = ["run.dir", "run.log_every", "checkpoint."];

/// The settings that are not the same in all runs, apart from those without effect.
pub fn differences(runs: &[&Settings]) -> Vec<Difference> {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|s| s.0.keys()).collect();
    keys.into_iter()
        .filter(|key| !WITHOUT_EFFECT.iter().any(|w| key.starts_with(w)))
        .map(|key| Difference {
            setting: key.clone(),
            values: runs.iter().map(|s| s.0.get(key).cloned()).collect(),
        })
        .filter(|d| d.values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

fn walk(path: &str, value: &Value, flat: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Table(table) => table.iter().for_each(|(key, inner)| walk(&below(key), inner, flat)),
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Value::as_str).map_or(index.to_string(), str::to_owned);
                walk(&below(&name), item, flat);
            }
        }
        Value::String(text) => drop(flat.insert(path.to_owned(), text.clone())),
        plain => drop(flat.insert(path.to_owned(), plain.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_path() {
        let one = Settings::parse("[run]\ndir = \"a\"\nseed = 1\n[optimizer]\nlr = 1e-3\n").unwrap();
        let two =
            Settings::parse("[run]\ndir = \"b\"\nseed = 1\n[optimizer]\nlr = 2e-3\nema = 0.5\n").unwrap();
        let told = differences(&[&one, &two]);
        let texts: Vec<(&str, Vec<&str>)> = told
            .iter()
            .map(|d| (d.setting.as_str(), d.values.iter().map(|v| v.as_deref().unwrap_or("-")).collect()))
            .collect();
        assert_eq!(texts, [("optimizer.ema", vec!["-", "0.5"]), ("optimizer.lr", vec!["0.001", "0.002"])]);
        assert_eq!(one.get("run.dir"), Some("a"));
    }

    #[test]
    fn energies_of_weight_zero_are_not_learnt() {
        let alone =
            |weight: &str| Settings::parse(&format!("[dataset]\nenergy_weight = {weight}\n")).unwrap();
        assert!(!alone("0.0").learns_energies("ethanol") && !alone("0").learns_energies("ethanol"));
        assert!(alone("0.5").learns_energies("ethanol") && Settings::default().learns_energies("ethanol"));
        let several = "[[dataset]]\nname = \"a\"\nenergy_weight = 0.0\n[[dataset]]\nname = \"b\"\n";
        let several = Settings::parse(several).unwrap();
        assert_eq!((several.learns_energies("a"), several.learns_energies("b")), (false, true));
    }

    #[test]
    fn datasets_are_told_by_name() {
        let text = "[[dataset]]\nname = \"oc20\"\npath = \"x\"\n[[dataset]]\npath = \"y\"\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(
            (settings.get("dataset.oc20.path"), settings.get("dataset.1.path")),
            (Some("x"), Some("y"))
        );
        assert!(Settings::parse("a = ").unwrap_err().contains("expected TOML"));
    }
}
