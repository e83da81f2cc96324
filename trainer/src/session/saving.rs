//! A session's checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Session;
use crate::checkpoint::{Info, SCHEMA_VERSION};

impl Session<'_> {
    /// Gives the state to the writer; on ranks that have none, nothing.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        if self.writer.is_none() {
            return Ok(());
        }
        let (info, state) = (self.info()?, self.learner.state());
        let written =
            self.writer.as_mut().map(|writer| writer.save(info, &state)).transpose()?.unwrap_or_default();
        self.log_checkpoints(&written)
    }

    /// Logs checkpoints that are there now.
    pub(super) fn log_checkpoints(&mut self, written: &[PathBuf]) -> anyhow::Result<()> {
        for path in written {
            self.run_dir.log(&format!("checkpoint {}", path.display()))?;
        }
        Ok(())
    }

    /// What `state.json` says.
    pub(super) fn info(&self) -> anyhow::Result<Info> {
        Ok(Info {
            schema_version: SCHEMA_VERSION,
            kind: self.config.kind,
            position: self.learner.position(),
            minutes: self.minutes(),
            cursor: serde_json::to_value(&self.memory.cursor)?,
            schedule: self.learner.schedule().clone(),
            seed: self.config.run.seed,
            loss_scale: self.learner.loss_scale(),
            best: self.memory.best.clone(),
            stale_validations: self.memory.stale_validations,
            skipped: self.memory.skipped,
            left_out: self.memory.left_out,
            validation_due: self.memory.validation_due,
            model: self.config.model.clone(),
            tasks: self.tasks.iter().map(|t| t.record.clone()).collect(),
            config: self.config.text.clone(),
            origin: None,
            files: BTreeMap::new(),
        })
    }
}
