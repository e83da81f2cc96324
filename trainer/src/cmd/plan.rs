//! `jmp-train plan`: the run before it runs.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use shards::stream::{Distribution, Survey};

use super::{CommonArgs, DONE};
use crate::config::Config;
use crate::data::stream_config;
use crate::plan::RunPlan;
use crate::startup::{self, Summary};
use crate::task::Task;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The configuration.
    config: PathBuf,
    /// Ranks that the run will have; balance and memory are told for them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    ranks: u32,
    /// Optimiser steps of the first epoch that are planned to measure batches.
    #[arg(long, default_value_t = 1_000)]
    steps: u64,
    #[command(flatten)]
    common: CommonArgs,
}

/// What the stream will be like, for machines.
#[derive(Debug, Serialize)]
struct StreamRecord<'a> {
    kind: &'static str,
    ranks: u32,
    #[serde(flatten)]
    survey: &'a Survey,
}

impl PlanArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let config = Config::read(&self.config, &self.common.overrides())?;
        let tasks = Task::open_all(&config)?;
        let plan = RunPlan::new(&config, &tasks)?;
        let summary = Summary::new(&tasks, &plan);
        let (_, survey) = Survey::of(&stream_config(&config, &tasks, 1), self.ranks, self.steps)?;
        if self.common.json {
            let record = StreamRecord { kind: "stream", ranks: self.ranks, survey: &survey };
            writeln!(out, "{}", serde_json::to_string(&summary)?)?;
            writeln!(out, "{}", serde_json::to_string(&record)?)?;
            return Ok(DONE);
        }
        summary.write(&config, out)?;
        for warning in startup::warnings(&config, &tasks, &plan)? {
            writeln!(out, "{warning}")?;
        }
        self.write_survey(&tasks, &survey, out)?;
        Ok(DONE)
    }

    fn write_survey(&self, tasks: &[Task], survey: &Survey, out: &mut dyn Write) -> std::io::Result<()> {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let bytes = tasks.iter().zip(&survey.bytes);
        let bytes: Vec<String> =
            bytes.map(|(task, bytes)| format!("{} {}", task.record.name, megabytes(*bytes))).collect();
        let [least, ahead] = survey.memory;
        writeln!(out, "MB to read an epoch: {}", bytes.join(", "))?;
        writeln!(
            out,
            "MB of memory a rank ({} in all): about {}, {} with row groups decoded ahead",
            self.ranks,
            megabytes(least),
            megabytes(ahead)
        )?;
        let of = if survey.whole { "all" } else { "the first" };
        writeln!(out, "micro-batches of {of} {} steps:", survey.steps)?;
        let rows = [
            ("structures", Some(survey.structures)),
            ("atoms", Some(survey.atoms)),
            ("edges", survey.edges),
            ("quadruplets", survey.quadruplets),
        ];
        for (name, Distribution { min, p5, median, p95, max, mean }) in
            rows.into_iter().filter_map(|(name, d)| Some((name, d?)))
        {
            writeln!(
                out,
                "  {name:<11}  least {min}, 5 % {p5}, median {median}, 95 % {p95}, most {max}, mean {mean:.1}"
            )?;
        }
        writeln!(out, "  the largest rank has {:.3} of the mean rank's atoms", survey.imbalance)?;
        if survey.skipped > 0 {
            writeln!(out, "  {} structures are left out for their size", survey.skipped)?;
        }
        writeln!(out, "first: {}", survey.first.join(", "))?;
        if !survey.last.is_empty() {
            writeln!(out, "last: {}", survey.last.join(", "))?;
        }
        Ok(())
    }
}
