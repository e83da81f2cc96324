//! What differs between two configurations of which one is to continue the other's run.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// Settings that change how a run is watched, kept or where it computes, but not what it computes.
const FREE: [&str; 15] = [
    "run.dir",
    "run.device",
    "run.threads",
    "run.distributed_timeout",
    "sampling.workers",
    "sampling.prefetch",
    "sampling.memory",
    "schedule.max_steps",
    "stop.",
    "checkpoint.",
    "validation.batch_size",
    "run.tensorboard",
    "run.prometheus",
    "guard.",
    "cache.",
];

/// Lists the settings in which `now` differs from `then`, apart from those that may.
///
/// Paths of datasets may differ too: moved data is still the same data, and manifest hashes tell.
pub fn differences(then: &str, now: &str) -> Vec<String> {
    let (then, now) = (flatten(then), flatten(now));
    let free = |key: &str| {
        FREE.iter().any(|f| key.starts_with(f))
            || (key.starts_with("dataset") && key.rsplit('.').next() == Some("path"))
    };
    let absent = || "absent".to_owned();
    let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    keys.into_iter()
        .filter(|key| !free(key) && then.get(*key) != now.get(*key))
        .map(|key| {
            let of = |table: &BTreeMap<String, String>| table.get(key).cloned().unwrap_or_else(absent);
            format!("`{key}` was {}, is {}", of(&then), of(&now))
        })
        .collect()
}

fn flatten(text: &str) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    if let Ok(table) = toml::from_str::<Table>(text) {
        walk("", &Value::Table(table), &mut flat);
    }
    flat
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
        plain => drop(flat.insert(path.to_owned(), plain.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Source};

    #[test]
    fn only_what_matters_is_told() {
        let then =
            "seed = 1\n[run]\ndir = \"a\"\n[[dataset]]\nname = \"x\"\npath = \"p\"\ntrain = \"train\"\n";
        let now = "seed = 2\n[run]\ndir = \"b\"\n[[dataset]]\nname = \"x\"\npath = \"q\"\ntrain = \"dev\"\nval = \"v\"\n";
        assert_eq!(
            differences(then, now),
            [
                "`dataset.x.train` was \"train\", is \"dev\"",
                "`dataset.x.val` was absent, is \"v\"",
                "`seed` was 1, is 2"
            ]
        );
        assert!(differences(then, then).is_empty());
    }

    /// Both kinds of configuration with every setting that may differ.
    const WHOLE: [&str; 2] = [
        r#"
kind = "pretrain"
run = { dir = "r", device = "cpu", threads = 1, distributed_timeout = 9, tensorboard = false, prometheus = "127.0.0.1:1" }
model = { preset = "tiny" }
sampling = { batch_size = 1, workers = 3, prefetch = 3, memory = 9 }
optimizer = { lr = 1.0, clip = "none" }
schedule = { epochs = 1, warmup_steps = 0, max_steps = 9 }
checkpoint = { keep = 9 }
validation = { batch_size = 9 }
guard = { max_skips = 9 }
cache = { offline = true }
[[dataset]]
name = "x"
path = "p"
"#,
        r#"
kind = "finetune"
run = { dir = "r" }
model = { preset = "tiny" }
dataset = { name = "x", path = "p" }
sampling = { batch_size = 1 }
optimizer = { lr = 1.0, clip = "none" }
schedule = {}
stop = { epochs = 9 }
"#,
    ];

    #[test]
    fn what_may_differ_are_settings_that_there_are() {
        let known = WHOLE.map(|text| {
            let source = Source::from_text(Path::new("a.toml"), text.to_owned(), &[]).unwrap();
            // What was read, written out again: a setting that does not exist is refused.
            flatten(&Config::from_source(&source).unwrap().text)
        });
        for free in FREE {
            let is_there = known.iter().flat_map(BTreeMap::keys).any(|key| key.starts_with(free));
            assert!(is_there, "no setting begins with `{free}`");
        }
    }
}
