//! Configurations that build on another: `extends = "base.toml"`, seen from the file's own folder.
//!
//! The keys of a section replace the base's one by one, and so do those of an entry of an array whose `name` the base has;
//! other entries are added. Any other value, also a table in braces such as `clip`, is replaced whole. What a file does not
//! want of its base it lists: `without = ["optimizer.ema", "dataset.oc22"]`.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::source::ConfigError;

/// Longest chain of files; a longer one is a circle.
const LONGEST: usize = 16;

/// What becomes of named entries that the base does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmatched {
    /// They are added.
    Added,
    /// They are left out.
    Ignored,
}

/// The table with all that it extends merged in; `None` if it extends nothing.
pub(super) fn resolve(file: &Path, table: &Table) -> Result<Option<Table>, ConfigError> {
    if !table.contains_key("extends") && !table.contains_key("without") {
        return Ok(None);
    }
    resolved(file, table.clone(), LONGEST).map(Some)
}

fn resolved(file: &Path, mut table: Table, left: usize) -> Result<Table, ConfigError> {
    let refused = |problem: String| ConfigError::Extends { file: file.to_path_buf(), problem };
    let without = match table.remove("without") {
        None => Vec::new(),
        Some(list) => strings(&list).ok_or_else(|| {
            refused("`without`: expected a list of keys such as [\"optimizer.ema\"]".into())
        })?,
    };
    let base = match table.remove("extends") {
        Some(Value::String(base)) => file.parent().unwrap_or(Path::new("")).join(base),
        Some(other) => {
            return Err(refused(format!("`extends`: expected the name of a file, found {other}")));
        }
        None if without.is_empty() => return Ok(table),
        None => return Err(refused("`without` needs `extends`: there is nothing to leave out".into())),
    };
    if left == 0 {
        return Err(refused(format!("`extends`: more than {LONGEST} files in a chain; is it a circle?")));
    }
    let mut merged = resolved(&base, read(&base)?, left - 1)?;
    for key in &without {
        if !remove(&mut merged, key) {
            let problem = format!("`without`: {} has no `{key}`", base.display());
            return Err(refused(problem));
        }
    }
    merge(&mut merged, table, Unmatched::Added);
    Ok(merged)
}

fn read(file: &PathBuf) -> Result<Table, ConfigError> {
    let text = fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.clone(), source })?;
    toml::from_str(&text).map_err(|e| ConfigError::Invalid {
        file: file.clone(),
        note: "",
        message: e.to_string().trim_end().to_owned(),
    })
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Removes `section.key`, or `array.name`; false if it is not there.
fn remove(table: &mut Table, key: &str) -> bool {
    let Some((section, rest)) = key.split_once('.') else { return table.remove(key).is_some() };
    match table.get_mut(section) {
        Some(Value::Table(inner)) => remove(inner, rest),
        Some(Value::Array(items)) => {
            let count = items.len();
            items.retain(|item| name(item) != Some(rest));
            items.len() < count
        }
        _ => false,
    }
}

fn name(entry: &Value) -> Option<&str> {
    entry.get("name")?.as_str()
}

/// Puts the values of `over` into `base`.
pub(super) fn merge(base: &mut Table, over: Table, unmatched: Unmatched) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(section)), Value::Table(values)) => section.extend(values),
            (Some(Value::Array(entries)), Value::Array(values))
                if values.iter().all(|v| name(v).is_some()) && !values.is_empty() =>
            {
                values.into_iter().for_each(|value| merge_entry(entries, value, unmatched));
            }
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

fn merge_entry(entries: &mut Vec<Value>, value: Value, unmatched: Unmatched) {
    match (entries.iter_mut().find(|entry| name(entry) == name(&value)), value) {
        (Some(Value::Table(entry)), Value::Table(values)) => entry.extend(values),
        (_, value) if unmatched == Unmatched::Added => entries.push(value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "base.toml",
            "kind = \"x\"\nclip = { norm = 1.0 }\n[optimizer]\nlr = 1.0\nema = 0.9\nclip = { norm = 1.0 }\n\
             [[dataset]]\nname = \"a\"\npath = \"p\"\n[[dataset]]\nname = \"b\"\npath = \"q\"\n",
        );
        write(
            "middle.toml",
            "extends = \"base.toml\"\n[optimizer]\nlr = 2.0\nclip = { value = 3.0 }\n\
             [[dataset]]\nname = \"b\"\ncutoff = 5.0\n[[dataset]]\nname = \"c\"\n",
        );
        write("circle.toml", "extends = \"circle.toml\"\n");
        dir
    }

    fn resolved_text(dir: &Path, text: &str) -> Result<String, ConfigError> {
        let table = toml::from_str(text).unwrap();
        Ok(toml::to_string(&resolve(&dir.join("top.toml"), &table)?.unwrap()).unwrap())
    }

    #[test]
    fn keys_and_named_entries_replace_those_of_the_base() {
        let dir = folder();
        let text = resolved_text(
            dir.path(),
            "extends = \"middle.toml\"\nwithout = [\"optimizer.ema\", \"dataset.a\"]\n",
        )
        .unwrap();
        let want: Table = toml::from_str(
            "kind = \"x\"\nclip = { norm = 1.0 }\n[optimizer]\nlr = 2.0\nclip = { value = 3.0 }\n\
             [[dataset]]\nname = \"b\"\npath = \"q\"\ncutoff = 5.0\n[[dataset]]\nname = \"c\"\n",
        )
        .unwrap();
        assert_eq!(toml::from_str::<Table>(&text).unwrap(), want);
    }

    #[test]
    fn what_is_not_there_and_circles_are_refused() {
        let dir = folder();
        let refused = |text: &str| resolved_text(dir.path(), text).unwrap_err().to_string();
        let message = refused("extends = \"base.toml\"\nwithout = [\"optimizer.beta\"]\n");
        assert!(message.contains("base.toml has no `optimizer.beta`"), "{message}");
        assert!(refused("extends = \"circle.toml\"\n").contains("is it a circle?"));
        assert!(refused("without = [\"a\"]\n").contains("needs `extends`"));
        assert!(refused("extends = \"absent.toml\"\n").contains("absent.toml"));
    }

    #[test]
    fn entries_that_the_base_lacks_can_be_ignored() {
        let mut base: Table = toml::from_str("[[dataset]]\nname = \"a\"\n").unwrap();
        let over = "[[dataset]]\nname = \"a\"\npath = \"p\"\n[[dataset]]\nname = \"z\"\n";
        merge(&mut base, toml::from_str(over).unwrap(), Unmatched::Ignored);
        assert_eq!(base, toml::from_str::<Table>("[[dataset]]\nname = \"a\"\npath = \"p\"\n").unwrap());
    }
}
