//! `jmp-train replay`: a step that failed, once more.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use shards::batch::HostBatch;
use tch::Kind;

use super::DONE;
use crate::checkpoint::{CheckpointError, Info, State};
use crate::config::{Config, Source};
use crate::failure::Failure;
use crate::guard;
use crate::learner::{Learner, Rules, predict};
use crate::loss::LossCounts;
use crate::setup;

/// How many of a kind are listed for people.
const LISTED: usize = 10;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The kept step: RUN/failures/step-N.
    #[arg(value_name = "BATCH")]
    batch: PathBuf,
    /// Overrides a setting of the run, for example run.precision=f64 or run.device=cpu. Repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
}

/// What became of one micro-batch.
#[derive(Debug, Serialize)]
struct Replayed {
    number: usize,
    sizes: String,
    #[serde(flatten)]
    learnt: Learnt,
    /// Structures whose predictions are not finite.
    structures: Vec<String>,
}

/// What micro-batches teach, one of them or all together.
#[derive(Debug, Serialize)]
struct Learnt {
    loss: Option<f64>,
    loss_is_finite: bool,
    gradient_norm: Option<f64>,
    gradient_is_finite: bool,
    /// Parameters whose gradients are not finite.
    parameters: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    kind: &'static str,
    told: String,
    step: u64,
    reproduced: bool,
    parts: Vec<Replayed>,
    /// Of several parts, whose sum may be what is not finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    together: Option<Learnt>,
}

impl ReplayArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let (failure, info) = Failure::read(&self.batch)?;
        let counts = LossCounts { energies: failure.energies, forces: failure.forces };
        let mut learner = self.learner(&info)?;
        let mut parts = Vec::new();
        for part in &failure.parts {
            parts.push(replayed(&mut learner, &info, part.number, &part.batch, counts)?);
        }
        let all: Vec<(usize, &HostBatch)> =
            failure.parts.iter().map(|part| (part.number, &part.batch)).collect();
        let together = (all.len() > 1).then(|| Learnt::of(&mut learner, &info, &all, counts)).transpose()?;
        let reproduced = parts.iter().map(|part| &part.learnt).chain(&together).any(Learnt::is_not_finite);
        let step = info.position.step;
        let report = Report { kind: "replay", told: failure.told, step, reproduced, parts, together };
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
        } else {
            tell(&report, out)?;
        }
        Ok(DONE)
    }

    /// The run's learner with the weights and the loss scale of the step.
    fn learner(&self, info: &Info) -> anyhow::Result<Learner> {
        let source = Source::from_text(&self.batch.join("state.json"), info.config.clone(), &self.set)?;
        let config = Config::from_source(&source)?;
        let network = setup::network(&config, setup::device(&config, None)?);
        let state = State::read_weights(&self.batch)?;
        network.load(&state.model).map_err(|e| CheckpointError::content(&self.batch, e.to_string()))?;
        let rules = Rules {
            optimizer: &config.optimizer,
            loss: config.loss,
            seed: config.run.seed,
            precision: config.run.precision,
        };
        let group = |name: &str| crate::plan::group_of(&config, name);
        let mut learner = Learner::new(rules, &info.tasks, network, info.schedule.clone(), group)?;
        learner.scale_losses(info.loss_scale);
        Ok(learner)
    }
}

impl Learnt {
    fn of(
        learner: &mut Learner,
        info: &Info,
        parts: &[(usize, &HostBatch)],
        counts: LossCounts,
    ) -> anyhow::Result<Self> {
        let (loss, norm) = learner.replay(info.position, parts, counts)?;
        let gradients = learner.gradients().into_iter();
        let bad = gradients.filter(|(_, gradient)| !gradient.sum(Kind::Double).double_value(&[]).is_finite());
        let finite = |value: f64| Some(value).filter(|v| v.is_finite());
        Ok(Self {
            loss: finite(loss),
            loss_is_finite: loss.is_finite(),
            gradient_norm: finite(norm),
            gradient_is_finite: norm.is_finite(),
            parameters: bad.map(|(name, _)| name).collect(),
        })
    }

    fn is_not_finite(&self) -> bool {
        !self.loss_is_finite || !self.gradient_is_finite
    }

    fn text(&self) -> String {
        let value = |v: Option<f64>| v.map_or("not finite".to_owned(), |v| format!("{v:.6e}"));
        format!("loss {}, gradient's norm {}", value(self.loss), value(self.gradient_norm))
    }
}

fn replayed(
    learner: &mut Learner,
    info: &Info,
    number: usize,
    batch: &HostBatch,
    counts: LossCounts,
) -> anyhow::Result<Replayed> {
    let learnt = Learnt::of(learner, info, &[(number, batch)], counts)?;
    let prediction = predict(learner.network(), batch)?;
    let mut structures = Vec::new();
    let mut first = 0;
    for (g, id) in batch.ids.iter().enumerate() {
        let end = first + 3 * batch.natoms[g] as usize;
        let forces = prediction.forces.as_ref().is_none_or(|f| f[first..end].iter().all(|x| x.is_finite()));
        if !prediction.energy[g].is_finite() || !forces {
            structures.push(id.clone());
        }
        first = end;
    }
    Ok(Replayed { number, sizes: guard::sizes(batch), learnt, structures })
}

fn tell(report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "kept because: {}", report.told)?;
    for part in &report.parts {
        writeln!(out, "micro-batch {}: {}: {}", part.number, part.sizes, part.learnt.text())?;
        list("structures with predictions", &part.structures, out)?;
        list("parameters with gradients", &part.learnt.parameters, out)?;
    }
    if let Some(together) = &report.together {
        writeln!(out, "all {} together: {}", report.parts.len(), together.text())?;
        list("parameters with gradients", &together.parameters, out)?;
    }
    let verdict = if report.reproduced { "reproduced" } else { "not reproduced: everything is finite here" };
    Ok(writeln!(out, "{verdict}")?)
}

fn list(what: &str, names: &[String], out: &mut dyn Write) -> std::io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let listed = names.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    writeln!(out, "  {what} that are not finite: {listed}{more}")
}
