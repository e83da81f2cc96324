//! A configuration as text: reading it, `--set`, and errors that name file, line, key and what is allowed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

use super::extends;
use super::template::{self, Refusal};

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The TOML reader refused: syntax, an unknown key, a value of the wrong kind or out of range.
    #[error("{}{note}: {message}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Whether `extends` or `--set` took part.
        note: &'static str,
        /// Line, key and what is allowed, in the reader's words.
        message: String,
    },
    /// `--set` names a place that does not exist or is not understood.
    #[error("--set {text}: {problem}")]
    Set {
        /// The argument.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Values that are fine alone but not together.
    #[error("{}: `{key}`: expected {expected}, found {found}", file.display())]
    Conflict {
        /// The file.
        file: PathBuf,
        /// The key to change.
        key: String,
        /// What the rest of the file asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// `extends` or `without` is not understood.
    #[error("{}: {problem}", file.display())]
    Extends {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file is of another kind than the command.
    #[error(
        "{}: `kind` is \"{found}\", but this command needs kind = \"{expected}\" (`jmp-train {found}` runs this file)",
        file.display()
    )]
    Kind {
        /// The file.
        file: PathBuf,
        /// The kind the command needs.
        expected: String,
        /// The kind of the file.
        found: String,
    },
}

/// The text of a configuration with the overrides merged in.
#[derive(Debug)]
pub struct Source {
    /// Where it came from, for messages.
    pub file: PathBuf,
    text: String,
    note: &'static str,
}

impl Source {
    /// Reads `file` with what it extends, and merges `key=value` overrides into it.
    pub fn read(file: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.to_path_buf(), source })?;
        Self::from_text(file, text, overrides)
    }

    /// As [`Self::read`], from text that is already there.
    pub fn from_text(file: &Path, text: String, overrides: &[String]) -> Result<Self, ConfigError> {
        let plain = Self { file: file.to_path_buf(), text, note: "" };
        let own: Table = plain.parse()?;
        let extended = extends::resolve(file, &own)?;
        let note = match (extended.is_some(), overrides.is_empty()) {
            (true, true) => " (with what it extends)",
            (true, false) => " (with what it extends and --set)",
            (false, _) => " (with --set)",
        };
        let unchanged = overrides.is_empty() && extended.is_none();
        let mut table = extended.unwrap_or(own);
        if template::is_template(&table) {
            return plain.expanded(table, overrides);
        }
        if unchanged {
            return Ok(plain);
        }
        apply_all(&mut table, overrides)?;
        // Written out again so that the reader can show lines of what it refuses.
        let text = toml::to_string(&table).map_err(|e| plain.refused(e.to_string()))?;
        Ok(Self { text, note, ..plain })
    }

    /// One of the configurations of a template: what overrides choose first, the other overrides last.
    fn expanded(self, mut table: Table, overrides: &[String]) -> Result<Self, ConfigError> {
        let chooses = |text: &&String| {
            let key = text.split_once('=').map_or("", |(key, _)| key.trim());
            ["task", "size", "variant", "fold"].contains(&key)
        };
        let (choices, others): (Vec<&String>, Vec<&String>) = overrides.iter().partition(chooses);
        apply_all(&mut table, choices)?;
        let (mut table, chosen) = template::choose(table)
            .map_err(|Refusal { key, expected, found }| self.conflict(&key, &expected, &found))?;
        apply_all(&mut table, others)?;
        template::fill(&mut table, &chosen);
        let text = toml::to_string(&table).map_err(|e| self.refused(e.to_string()))?;
        Ok(Self { text, note: " (as expanded for its task)", ..self })
    }

    /// Reads the text as `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|e| self.refused(e.to_string().trim_end().to_owned()))
    }

    /// An error about two values that do not go together.
    pub fn conflict(&self, key: &str, expected: &str, found: &str) -> ConfigError {
        ConfigError::Conflict {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    pub(super) fn refused(&self, message: String) -> ConfigError {
        ConfigError::Invalid { file: self.file.clone(), note: self.note, message }
    }
}

fn apply_all<'a>(
    table: &mut Table,
    overrides: impl IntoIterator<Item = &'a String>,
) -> Result<(), ConfigError> {
    for text in overrides {
        apply(table, text).map_err(|problem| ConfigError::Set { text: text.clone(), problem })?;
    }
    Ok(())
}

/// Puts `a.b.c=value` into the table. Entries of an array are addressed by number or by their `name`.
fn apply(table: &mut Table, text: &str) -> Result<(), String> {
    let (path, value) = text.split_once('=').ok_or("expected key=value")?;
    let keys: Vec<&str> = path.trim().split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err("expected key=value, with keys like optimizer.lr or dataset.ani1x.path".into());
    }
    set_in_table(table, &keys, literal(value.trim()))
}

/// The value as TOML if it is that, else as a string: paths and names need no quotes on a command line.
fn literal(text: &str) -> Value {
    let document: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    document.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set_in_table(table: &mut Table, keys: &[&str], value: Value) -> Result<(), String> {
    let Some((key, rest)) = keys.split_first() else { return Ok(()) };
    if rest.is_empty() {
        table.insert((*key).to_owned(), value);
        return Ok(());
    }
    match table.entry(*key).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(inner) => set_in_table(inner, rest, value),
        Value::Array(items) => set_in_array(key, items, rest, value),
        other => Err(format!("`{key}` is a {}, not a section", other.type_str())),
    }
}

fn set_in_array(array: &str, items: &mut [Value], keys: &[&str], value: Value) -> Result<(), String> {
    let Some((item, rest)) = keys.split_first() else { return Ok(()) };
    let named = |entry: &Value| entry.get("name").and_then(Value::as_str) == Some(item);
    let index = item.parse().ok().or_else(|| items.iter().position(named));
    let count = items.len();
    match index.and_then(|i: usize| items.get_mut(i)) {
        Some(Value::Table(inner)) => set_in_table(inner, rest, value),
        _ => Err(format!("`{array}` has no entry `{item}`; use a number below {count} or an entry's name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Small {
        lr: crate::config::number::Positive,
        #[serde(default)]
        dataset: Vec<Table>,
    }

    fn read(text: &str, overrides: &[&str]) -> Result<Small, ConfigError> {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        Source::from_text(Path::new("a.toml"), text.to_owned(), &overrides)?.parse()
    }

    #[test]
    fn a_typo_and_a_bad_value_are_shown_with_file_line_and_key() {
        let typo = read("# a comment\nlr = 1.0\nlearning_rate = 2.0\n", &[]).unwrap_err().to_string();
        assert!(typo.starts_with("a.toml: ") && typo.contains("line 3"), "{typo}");
        assert!(typo.contains("unknown field `learning_rate`, expected `lr` or `dataset`"), "{typo}");
        let range = read("lr = -1.0", &[]).unwrap_err().to_string();
        assert!(range.contains("line 1") && range.contains("lr = -1.0"), "{range}");
        assert!(range.contains("expected a finite number above 0, found -1"), "{range}");
    }

    #[test]
    fn overrides_reach_values_and_entries_by_name() {
        let text = "lr = 1.0\n[[dataset]]\nname = \"a\"\n[[dataset]]\nname = \"b\"\n";
        let config = read(text, &["lr=2.5", "dataset.b.path=x/y", "dataset.0.path = z"]).unwrap();
        assert_eq!(config.lr.get(), 2.5);
        let paths: Vec<_> = config.dataset.iter().map(|d| d["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["z", "x/y"]);
        let error = read(text, &["dataset.c.path=x"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "--set dataset.c.path=x: `dataset` has no entry `c`; use a number below 2 or an entry's name"
        );
    }
}
