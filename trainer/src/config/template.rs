//! One readable file for many tasks.
//!
//! `[tasks.NAME]`, `[sizes.NAME]` and `[variants.NAME]` hold the settings in which a task, a size and a variant differ from
//! the rest of the file. `task = "NAME"`, `size = "NAME"` and `variant = ["NAME", …]` choose (`--task`, `--size`, `--variant`),
//! and what is chosen is laid over the rest in this order: size, task, variants. `{task}`, `{size}`, `{variant}` and `{fold}` in
//! any text stand for what was chosen; `{variant}` with a hyphen before each name, so that it may be empty.

use toml::{Table, Value};

/// A table of alternatives and the key that chooses from it.
const ALTERNATIVES: [(&str, &str); 3] = [("sizes", "size"), ("tasks", "task"), ("variants", "variant")];
/// Number that stands in texts alone.
const FOLD: &str = "fold";

/// Why a template cannot be used: key, what was expected, what was found.
pub(super) struct Refusal {
    pub(super) key: String,
    pub(super) expected: String,
    pub(super) found: String,
}

/// Whether a file is one of several configurations.
pub(super) fn is_template(table: &Table) -> bool {
    ALTERNATIVES.iter().any(|(alternatives, _)| table.get(*alternatives).is_some_and(Value::is_table))
}

/// Lays what was chosen over the rest; the texts still hold their placeholders, which [`fill`] replaces.
pub(super) fn choose(mut table: Table) -> Result<(Table, Chosen), Refusal> {
    let mut chosen = Chosen::default();
    let taken = ALTERNATIVES.map(|(tables, key)| (tables, key, table.remove(tables), table.remove(key)));
    let fold = table.remove(FOLD);
    for (tables, key, alternatives, choice) in taken {
        let Some(alternatives) = alternatives else {
            if let Some(choice) = choice {
                let expected = format!("nothing: there is no [{tables}]");
                return Err(Refusal { key: key.to_owned(), expected, found: choice.to_string() });
            }
            continue;
        };
        let Value::Table(alternatives) = alternatives else {
            let expected = format!("tables [{tables}.NAME]");
            return Err(Refusal { key: tables.to_owned(), expected, found: alternatives.to_string() });
        };
        for name in names(key, choice, &alternatives)? {
            match alternatives.get(&name) {
                Some(Value::Table(changes)) => merge(&mut table, changes),
                _ => return Err(unknown(key, &alternatives, &format!("\"{name}\""))),
            }
            match key {
                "variant" => chosen.variant.extend(["-", name.as_str()]),
                "task" => chosen.task = name,
                _ => chosen.size = name,
            }
        }
    }
    chosen.fold = fold.map(|fold| fold.to_string()).unwrap_or_default();
    Ok((table, chosen))
}

/// The names chosen: one task and size, any number of variants.
fn names(key: &str, choice: Option<Value>, alternatives: &Table) -> Result<Vec<String>, Refusal> {
    let one = |value: Value| match value {
        Value::String(name) => Ok(name),
        // A name of digits alone comes as a number from the command line.
        Value::Integer(number) => Ok(number.to_string()),
        other => Err(unknown(key, alternatives, &other.to_string())),
    };
    match (key, choice) {
        ("variant", None) => Ok(Vec::new()),
        ("variant", Some(Value::Array(names))) => names.into_iter().map(one).collect(),
        (_, Some(choice)) => Ok(vec![one(choice)?]),
        (_, None) if alternatives.len() == 1 => Ok(alternatives.keys().cloned().collect()),
        (_, None) => Err(unknown(key, alternatives, "none")),
    }
}

fn unknown(key: &str, alternatives: &Table, found: &str) -> Refusal {
    let known: Vec<&str> = alternatives.keys().map(String::as_str).collect();
    let expected = format!("one of {} (--{key} NAME)", known.join(", "));
    Refusal { key: key.to_owned(), expected, found: found.to_owned() }
}

/// Lays `changes` over `table`: tables are merged, anything else is replaced.
fn merge(table: &mut Table, changes: &Table) {
    for (key, change) in changes {
        match (table.get_mut(key), change) {
            (Some(Value::Table(inner)), Value::Table(changes)) => merge(inner, changes),
            _ => drop(table.insert(key.clone(), change.clone())),
        }
    }
}

/// What was chosen, for placeholders.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    task: String,
    size: String,
    variant: String,
    fold: String,
}

/// Replaces the placeholders in all texts.
pub(super) fn fill(table: &mut Table, chosen: &Chosen) {
    table.iter_mut().for_each(|(_, value)| fill_value(value, chosen));
}

fn fill_value(value: &mut Value, chosen: &Chosen) {
    match value {
        Value::String(text) => {
            let names = [
                ("{task}", &chosen.task),
                ("{size}", &chosen.size),
                ("{variant}", &chosen.variant),
                ("{fold}", &chosen.fold),
            ];
            for (placeholder, name) in names {
                if text.contains(placeholder) {
                    *text = text.replace(placeholder, name);
                }
            }
        }
        Value::Table(inner) => fill(inner, chosen),
        Value::Array(items) => items.iter_mut().for_each(|item| fill_value(item, chosen)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
size = "small"
fold = 0
run.dir = "runs/{task}-{size}{variant}-{fold}"
lr = 1
plateau = { patience = 5, factor = 0.1 }
[sizes.small]
model = "s"
[sizes.large]
model = "l"
lr = 2
[tasks.a]
lr = 3
[tasks.b]
[variants.quick]
plateau.factor = 0.8
"#;

    fn expand(changes: &[(&str, Value)]) -> Result<Table, String> {
        let mut table: Table = toml::from_str(TEXT).unwrap();
        for (key, value) in changes {
            table.insert((*key).to_owned(), value.clone());
        }
        let (mut table, chosen) = choose(table)
            .map_err(|refusal| format!("{}: {}; {}", refusal.key, refusal.expected, refusal.found))?;
        fill(&mut table, &chosen);
        Ok(table)
    }

    #[test]
    fn a_task_is_laid_over_a_size_and_a_variant_over_both() {
        let table = expand(&[("task", "a".into()), ("size", "large".into()), ("fold", 4.into())]).unwrap();
        assert_eq!(table["lr"].as_integer(), Some(3));
        assert_eq!(table["model"].as_str(), Some("l"));
        assert_eq!(table["run"]["dir"].as_str(), Some("runs/a-large-4"));
        assert!(
            ["sizes", "tasks", "variants", "size", "task", "fold"].iter().all(|k| !table.contains_key(*k))
        );
        let table = expand(&[("task", "b".into()), ("variant", vec!["quick"].into())]).unwrap();
        assert_eq!(table["plateau"]["factor"].as_float(), Some(0.8));
        assert_eq!(table["plateau"]["patience"].as_integer(), Some(5));
        assert_eq!(table["run"]["dir"].as_str(), Some("runs/b-small-quick-0"));
    }

    #[test]
    fn what_can_be_chosen_is_told() {
        assert_eq!(expand(&[]).unwrap_err(), "task: one of a, b (--task NAME); none");
        let found = expand(&[("task", "c".into())]).unwrap_err();
        assert_eq!(found, "task: one of a, b (--task NAME); \"c\"");
        assert!(expand(&[("task", 1.5.into())]).unwrap_err().ends_with("; 1.5"));
        let found = expand(&[("task", "a".into()), ("variant", "slow".into())]).unwrap_err();
        assert_eq!(found, "variant: one of quick (--variant NAME); \"slow\"");
    }
}
