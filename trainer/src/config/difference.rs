//! What differs between two configurations of which one is to continue the other's run.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// Settings that change how a run is watched, kept or where it computes, but not what it computes.
const FREE: [&str; 16] = [
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
    "run.log_every",
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
    use super::*;

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
}
