//! `kind = "ablation"`: rows of a table, each a pre-training configuration, and the tasks that judge them; and
//! `kind = "scale"`: what makes all of them smaller.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

use super::extends::{Unmatched, merge};
use super::{Config, ConfigError, RunKind, Source};

/// The file that names rows and tasks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AblationConfig {
    /// `ablation`.
    kind: AblationKind,
    /// Rows of the table; the others are compared with the first.
    #[serde(rename = "row")]
    pub rows: Vec<Row>,
    /// What each row's model is fine-tuned on.
    #[serde(rename = "task")]
    pub tasks: Vec<JudgingTask>,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Pre-training configuration, seen from the file's folder. Its name without ending is the row's.
    pub config: PathBuf,
    /// What the tables call it.
    pub label: String,
    /// Mean relative improvement that Table 6 prints, %.
    pub table_6: Option<f64>,
    /// The same of Table 12.
    pub table_12: Option<f64>,
}

/// A fine-tuning task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgingTask {
    /// Fine-tuning configuration, seen from the file's folder. Its name without ending is the task's.
    pub config: PathBuf,
    /// What it is called in the table.
    pub label: String,
    /// The error that is compared, by its name in evaluations (of a property one of its own, `mae`); lower is better.
    pub metric: String,
    /// The split that is evaluated.
    #[serde(default = "test")]
    pub split: String,
}

fn test() -> String {
    "test".into()
}

/// Settings that replace those of every row and task.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleConfig {
    /// `scale`.
    kind: ScaleKind,
    /// Names of the tasks that are run; all when absent.
    tasks: Option<Vec<String>>,
    /// Sections for pre-training configurations.
    #[serde(default)]
    pretrain: Table,
    /// Sections for fine-tuning configurations.
    #[serde(default)]
    finetune: Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AblationKind {
    Ablation,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScaleKind {
    #[default]
    Scale,
}

/// The name of a row or task: its file's, without ending.
pub fn stem(config: &Path) -> String {
    config.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl AblationConfig {
    /// Reads the file.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let source = Source::read(file, &[])?;
        let config: Self = source.parse()?;
        let twice = |names: &[String]| {
            let mut sorted = names.to_vec();
            sorted.sort();
            sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone())
        };
        let rows: Vec<String> = config.rows.iter().map(|row| stem(&row.config)).collect();
        let tasks: Vec<String> = config.tasks.iter().map(|task| stem(&task.config)).collect();
        for (key, names) in [("row", rows), ("task", tasks)] {
            if names.is_empty() {
                return Err(source.conflict(key, &format!("at least one [[{key}]]"), "none"));
            }
            if let Some(name) = twice(&names) {
                return Err(source.conflict(key, "another file name for each", &format!("{name} twice")));
            }
        }
        Ok(config)
    }
}

impl ScaleConfig {
    /// Reads the file.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        Source::read(file, &[])?.parse()
    }

    /// The tasks that this scale runs.
    ///
    /// # Errors
    /// When it names one that there is not.
    pub fn tasks(&self, all: &[JudgingTask], file: &Path) -> Result<Vec<JudgingTask>, ConfigError> {
        let Some(wanted) = &self.tasks else { return Ok(all.to_vec()) };
        let find = |name: &String| {
            all.iter().find(|task| stem(&task.config) == *name).cloned().ok_or_else(|| {
                ConfigError::Conflict {
                    file: file.to_path_buf(),
                    key: "tasks".into(),
                    expected: all.iter().map(|task| stem(&task.config)).collect::<Vec<_>>().join(", "),
                    found: name.clone(),
                }
            })
        };
        wanted.iter().map(find).collect()
    }

    /// The configuration in `file` at this scale, as TOML, for a run in `run`.
    ///
    /// # Errors
    /// Those of the file, and of what the scale makes of it.
    pub fn applied(&self, file: &Path, kind: RunKind, run: &Path) -> Result<String, ConfigError> {
        let mut table: Table = Source::read(file, &[])?.parse()?;
        let overlay = match kind {
            RunKind::Pretrain => &self.pretrain,
            RunKind::Finetune => &self.finetune,
        };
        merge(&mut table, overlay.clone(), Unmatched::Ignored);
        let place: Table =
            [("dir".to_owned(), toml::Value::String(run.display().to_string()))].into_iter().collect();
        let place: Table = [("run".to_owned(), toml::Value::Table(place))].into_iter().collect();
        merge(&mut table, place, Unmatched::Ignored);
        let text = toml::to_string(&table).map_err(|e| ConfigError::Invalid {
            file: file.to_path_buf(),
            note: " (at the given scale)",
            message: e.to_string(),
        })?;
        let source = Source::from_text(file, text, &[])?;
        let config = Config::from_source(&source)?;
        if config.kind != kind {
            let (expected, found) = (kind.name().to_owned(), config.kind.name().to_owned());
            return Err(ConfigError::Kind { file: file.to_path_buf(), expected, found });
        }
        Ok(config.text)
    }
}
