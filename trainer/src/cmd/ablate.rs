//! `jmp-train ablate`: every row of an ablation table, pre-trained, fine-tuned, evaluated and compared.

mod commands;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use shards::manifest::write_durably;

use super::DONE;
use crate::ablation_table::{Score, Table};
use crate::checkpoint;
use crate::config::ablation::{AblationConfig, JudgingTask, Row, ScaleConfig, stem};
use crate::config::{ConfigError, RunKind};

use commands::Commands;

/// Arguments of `ablate`.
#[derive(Debug, Args)]
pub(super) struct AblateArgs {
    /// A folder with an ablation.toml, or such a file.
    #[arg(value_name = "DIR|FILE")]
    ablation: PathBuf,
    /// `paper`: as the configurations say; another name: scales/NAME.toml in the folder; or a file.
    #[arg(long, value_name = "SCALE")]
    scale: String,
    /// Where runs and tables go. Called again with the same folder, the command goes on where it was.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Only these rows and the first one, by the names of their files. Repeatable.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Train with this many ranks on this machine, a process each.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks: Option<u32>,
    /// Tell nothing of the runs, only the table.
    #[arg(long)]
    quiet: bool,
    /// The table as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

/// What is to be run.
struct Plan {
    folder: PathBuf,
    rows: Vec<Row>,
    tasks: Vec<JudgingTask>,
    scale: ScaleConfig,
}

impl AblateArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let commands = Commands::new(self.quiet || self.json, self.ranks)?;
        let plan = self.plan()?;
        // All of them are read before the first is run: a mistake in the last must not cost a week.
        for row in &plan.rows {
            self.prepare(&plan, row)?;
        }
        let mut table = Table::new(&plan.rows, &plan.tasks);
        for row in &plan.rows {
            let name = stem(&row.config);
            let dir = self.output.join(&name);
            let place = (dir.as_path(), "pretrain");
            if let Some(code) = self.train(&commands, RunKind::Pretrain, place, None, out)? {
                return Ok(self.interrupted(code));
            }
            for task in &plan.tasks {
                let task_name = stem(&task.config);
                let from = dir.join("pretrain");
                let place = (dir.as_path(), task_name.as_str());
                if let Some(code) = self.train(&commands, RunKind::Finetune, place, Some(&from), out)? {
                    return Ok(self.interrupted(code));
                }
                table.set(&name, &task_name, Self::score(&commands, &dir, task, out)?);
            }
            self.keep(&table)?;
        }
        let text = if self.json { serde_json::to_string(&table.json())? } else { table.markdown() };
        writeln!(out, "{text}")?;
        Ok(DONE)
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        let file = match &self.ablation {
            folder if folder.is_dir() => folder.join("ablation.toml"),
            file => file.clone(),
        };
        let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let config = AblationConfig::read(&file)?;
        let (scale, scale_file) = self.scale(&folder)?;
        let known: Vec<String> = config.rows.iter().map(|row| stem(&row.config)).collect();
        if let Some(unknown) = self.only.iter().find(|name| !known.contains(name)) {
            return Err(ConfigError::Conflict {
                file,
                key: "--only".into(),
                expected: known.join(", "),
                found: unknown.clone(),
            }
            .into());
        }
        let wanted = |(i, name): (usize, &String)| i == 0 || self.only.is_empty() || self.only.contains(name);
        let chosen = known.iter().enumerate().map(wanted);
        let rows = config.rows.iter().cloned().zip(chosen).filter(|(_, wanted)| *wanted).map(|(row, _)| row);
        let rows = rows.collect();
        Ok(Plan { tasks: scale.tasks(&config.tasks, &scale_file)?, folder, rows, scale })
    }

    fn scale(&self, folder: &Path) -> Result<(ScaleConfig, PathBuf), ConfigError> {
        if self.scale == "paper" {
            return Ok((ScaleConfig::default(), PathBuf::new()));
        }
        let named = folder.join("scales").join(format!("{}.toml", self.scale));
        let file = if named.is_file() || !Path::new(&self.scale).is_file() {
            named
        } else {
            PathBuf::from(&self.scale)
        };
        Ok((ScaleConfig::read(&file)?, file))
    }

    /// Writes a row's configurations into its folder, or sees to it that those there are the same.
    fn prepare(&self, plan: &Plan, row: &Row) -> anyhow::Result<()> {
        let dir = self.output.join(stem(&row.config));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let pretraining = (row.config.clone(), RunKind::Pretrain, "pretrain".to_owned());
        let tasks =
            plan.tasks.iter().map(|task| (task.config.clone(), RunKind::Finetune, stem(&task.config)));
        for (config, kind, name) in std::iter::once(pretraining).chain(tasks) {
            let text = plan.scale.applied(&plan.folder.join(config), kind, &dir.join(&name))?;
            let file = dir.join(format!("{name}.toml"));
            match fs::read_to_string(&file) {
                Ok(before) if before == text => {}
                Ok(_) => {
                    return Err(ConfigError::Conflict {
                        file,
                        key: "--output".into(),
                        expected: "the folder of the same configurations and scale".into(),
                        found: "a run that was begun with others".into(),
                    }
                    .into());
                }
                Err(_) => {
                    write_durably(&file, text.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// Starts a run, or lets it go on, unless it is over. The exit code if it did not come to its end.
    fn train(
        &self,
        commands: &Commands,
        kind: RunKind,
        (dir, name): (&Path, &str),
        from: Option<&Path>,
        out: &mut dyn Write,
    ) -> anyhow::Result<Option<u8>> {
        let run = dir.join(name);
        if is_over(&run) {
            return Ok(None);
        }
        let mut words = vec![kind.name().to_owned()];
        if checkpoint::locate(&run, false).is_ok() {
            words.extend(["--resume".to_owned(), run.display().to_string()]);
        } else {
            words.push(dir.join(format!("{name}.toml")).display().to_string());
            if let Some(from) = from {
                words.extend(["--checkpoint".to_owned(), from.display().to_string()]);
            }
        }
        self.tell(&format!("{} · {name}", dir.display()), out)?;
        let code = commands.train(words, out)?;
        Ok((code != DONE).then_some(code))
    }

    /// The error of a fine-tuned model on its task.
    fn score(
        commands: &Commands,
        dir: &Path,
        task: &JudgingTask,
        out: &mut dyn Write,
    ) -> anyhow::Result<Score> {
        let name = stem(&task.config);
        let (run, config) = (dir.join(&name), dir.join(format!("{name}.toml")));
        let file = run.join(format!("evaluation-{}.json", task.split));
        if !file.is_file() {
            let words =
                ["evaluate", &config.display().to_string(), "--checkpoint", &run.display().to_string()];
            let mut words: Vec<String> = words.map(str::to_owned).into();
            words.extend(["--split".into(), task.split.clone()]);
            commands.evaluate(words, out)?;
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let report: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        let errors = report["tasks"].as_object().and_then(|tasks| tasks.values().next());
        // Those of a property stand apart from those of energies and forces.
        let errors = errors.and_then(|errors| errors.get("scalar").or(Some(errors)));
        if let Some(error) = errors.and_then(|errors| errors.get(&task.metric)?.as_f64()) {
            return Ok(Score(error));
        }
        let known = errors.and_then(Value::as_object).into_iter().flatten();
        let known = known.filter(|(_, value)| value.is_number()).map(|(name, _)| name.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        bail!("{}: no `{}` of {name}; there are: {known}", file.display(), task.metric)
    }

    fn keep(&self, table: &Table) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(&table.json())?;
        for (name, text) in [("table.md", table.markdown()), ("ablation.json", json)] {
            let file = self.output.join(name);
            write_durably(&file, (text + "\n").as_bytes())?;
        }
        Ok(())
    }

    fn interrupted(&self, code: u8) -> u8 {
        // The run has said why.
        drop(writeln!(
            std::io::stderr(),
            "stopped; the same command with --output {} goes on",
            self.output.display()
        ));
        code
    }

    fn tell(&self, text: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.quiet || self.json { Ok(()) } else { Ok(writeln!(out, "{text}")?) }
    }
}

/// Whether a run has come to its end by itself.
fn is_over(run: &Path) -> bool {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let last: Option<Value> = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    last.is_some_and(|value| value["kind"] == "finished" && value["ending"] != "signal")
}
