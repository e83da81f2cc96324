//! `jmp-train plan`: the run before it runs.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{CommonArgs, DONE};
use crate::config::Config;
use crate::plan::RunPlan;
use crate::setup::first_batches;
use crate::startup::{self, Summary};
use crate::task::Task;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The configuration.
    config: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
}

/// Sizes of the first batch.
#[derive(Debug, Serialize)]
struct FirstBatch {
    kind: &'static str,
    structures: usize,
    atoms: usize,
    stored_neighbors: u32,
    ids: Vec<String>,
}

impl PlanArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let config = Config::read(&self.config, &self.common.overrides())?;
        let tasks = Task::open_all(&config)?;
        let plan = RunPlan::new(&config, &tasks)?;
        let summary = Summary::new(&tasks, &plan);
        let first = first_batches(&config, &tasks, 1)?.into_iter().next();
        let first = first.map(|batch| FirstBatch {
            kind: "first-batch",
            structures: batch.structures(),
            atoms: batch.atoms(),
            stored_neighbors: batch.stored_neighbors,
            ids: batch.ids,
        });
        if self.common.json {
            writeln!(out, "{}", serde_json::to_string(&summary)?)?;
            writeln!(out, "{}", serde_json::to_string(&first)?)?;
            return Ok(DONE);
        }
        summary.write(&config, out)?;
        for warning in startup::warnings(&config, &tasks)? {
            writeln!(out, "{warning}")?;
        }
        if let Some(first) = first {
            let FirstBatch { structures, atoms, stored_neighbors, ids, .. } = first;
            writeln!(
                out,
                "first batch: {structures} structures, {atoms} atoms, {stored_neighbors} with stored neighbours: {}",
                ids.join(", ")
            )?;
        }
        Ok(DONE)
    }
}
