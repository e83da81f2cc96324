//! `jmp-train pretrain` and `jmp-train finetune`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tch::Device;

use super::ranks::{Meeting, RanksArgs};
use super::{CommonArgs, DONE, FAILED};
use crate::config::{Config, RunKind, differences};
use crate::distributed::{Place, World};
use crate::learner::Learner;
use crate::plan::RunPlan;
use crate::pretrained::{KeptHeads, Source};
use crate::progress::{Mode, Progress, duration};
use crate::published::Weights;
use crate::run_dir::RunDir;
use crate::session::{Ending, Memory, Outcome, Session};
use crate::setup::{self, Notes, Start};
use crate::signals::Signals;
use crate::startup::{self, Summary};
use crate::task::Task;

/// Arguments of `pretrain`.
#[derive(Debug, Args)]
pub(super) struct PretrainArgs {
    /// The configuration; a resumed run's own when absent.
    #[arg(required_unless_present = "resume")]
    config: Option<PathBuf>,
    /// Continue the run in this directory exactly where its last checkpoint left it.
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    ranks: RanksArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// What is taken from a pre-trained model, beside a `--checkpoint`.
#[derive(Debug, Args)]
pub(super) struct TakenArgs {
    /// Which of its weights; the averaged ones where there are any when absent.
    #[arg(long, value_enum, requires = "checkpoint")]
    weights: Option<Weights>,
    /// Keep its heads instead of drawing new ones: those of the task named, else of the only task or of that with the
    /// dataset's name. The label must be the same.
    #[arg(long, value_name = "TASK", num_args = 0..=1, default_missing_value = "", requires = "checkpoint")]
    keep_heads: Option<String>,
    /// Leave tensors that are missing, have another shape or have no place as they are, instead of refusing the model.
    #[arg(long, requires = "checkpoint")]
    allow_mismatch: bool,
}

impl TakenArgs {
    fn source(&self, path: &Path) -> Source {
        let heads = self.keep_heads.as_ref().map(|task| match task.as_str() {
            "" => KeptHeads::Same,
            task => KeptHeads::Task(task.to_owned()),
        });
        Source { path: path.to_path_buf(), weights: self.weights, heads, allow_mismatch: self.allow_mismatch }
    }

    /// The same as words of a command line.
    pub(super) fn words(&self) -> Vec<String> {
        let weights = self.weights.map(|weights| format!("--weights={}", weights.name()));
        let heads = self.keep_heads.as_ref().map(|task| match task.as_str() {
            "" => "--keep-heads".to_owned(),
            task => format!("--keep-heads={task}"),
        });
        let mismatch = self.allow_mismatch.then(|| "--allow-mismatch".to_owned());
        [weights, heads, mismatch].into_iter().flatten().collect()
    }
}

/// Arguments of `finetune`.
#[derive(Debug, Args)]
pub(super) struct FinetuneArgs {
    /// The configuration; a resumed run's own when absent.
    #[arg(required_unless_present = "resume")]
    config: Option<PathBuf>,
    /// The pre-trained model: a run directory (its best checkpoint, else its last), one checkpoint in it, or a file of
    /// weights (.pt, .safetensors).
    #[arg(long, value_name = "CKPT", required_unless_present_any = ["resume", "scratch"])]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    taken: TakenArgs,
    /// Train from random weights instead, as a baseline.
    #[arg(long, conflicts_with = "checkpoint")]
    scratch: bool,
    /// Continue the run in this directory exactly where its last checkpoint left it.
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    ranks: RanksArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl PretrainArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let start = self.resume.as_deref().map_or(Start::Scratch, Start::Resume);
        launch(RunKind::Pretrain, self.config.as_deref(), start, (self.ranks, &self.common), out)
    }
}

impl FinetuneArgs {
    /// Runs the command.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let source = self.checkpoint.as_deref().map(|path| self.taken.source(path));
        let start = match (&self.resume, &source) {
            (Some(run), _) => Start::Resume(run),
            (None, Some(source)) => Start::Pretrained(source),
            (None, None) => Start::Scratch,
        };
        launch(RunKind::Finetune, self.config.as_deref(), start, (self.ranks, &self.common), out)
    }
}

fn launch(
    kind: RunKind,
    file: Option<&Path>,
    start: Start,
    (ranks, common): (RanksArgs, &CommonArgs),
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let prepare = |place: Option<&Place>| {
        Signals::listen_for_saves().context("listening for signals")?;
        let config = read_config(kind, file, start, common)?;
        let device = setup::device(&config, place)?;
        let timeout = Duration::from_secs(config.run.distributed_timeout.get());
        Ok((config, Meeting { device, timeout }))
    };
    ranks.run(prepare, |config, world, device| {
        // Rank 0 speaks for all.
        let mode = if world.is_first() { common.mode() } else { Mode::Quiet };
        train(&config, start, mode, (world, device), out)
    })
}

fn train(
    config: &Config,
    start: Start,
    mode: Mode,
    (world, device): (&Rc<World>, Device),
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    world.same("configuration", &config.text, differences)?;
    let (tasks, plan, learner, memory, notes) =
        world.agree(prepare(config, start, (world.as_ref(), device, mode), out))?;
    let manifests: Vec<String> =
        tasks.iter().map(|t| format!("`{}` {:.12}…", t.record.name, t.record.manifest)).collect();
    let changed = |first: &str, own: &str| {
        let pairs = first.lines().zip(own.lines()).filter(|(first, own)| first != own);
        pairs.map(|(first, own)| format!("manifest of dataset {own} instead of {first}")).collect()
    };
    world.same("data", &manifests.join("\n"), changed)?;
    let step = learner.position().step;
    world.same("checkpoint", &step.to_string(), |first, own| {
        if own == first { Vec::new() } else { vec![format!("step {own} instead of {first}")] }
    })?;
    let run_dir = match start {
        _ if !world.is_first() => Ok(RunDir::of_another_rank(&config.run.dir)),
        Start::Resume(_) => RunDir::resume(&config.run.dir, step),
        _ => RunDir::create(&config.run.dir, &config.text),
    };
    let mut run_dir = world.agree(run_dir.map_err(anyhow::Error::from))?;
    tell(&notes, learner.size(), mode, &mut run_dir, out)?;
    out.flush()?;
    let signals = Signals::listen().context("listening for signals")?;
    let progress = Progress::new(mode, plan.most_samples(config), Box::new(std::io::stdout()));
    let session = Session::start(
        (config, &tasks, plan),
        (learner, memory),
        run_dir,
        progress,
        (signals, world.clone()),
    )?;
    let outcome = session.run()?;
    report(&outcome, config.kind, mode, out)?;
    Ok(if outcome.ending == Ending::Signal { FAILED } else { DONE })
}

/// Everything before the first step that a rank does for itself.
fn prepare(
    config: &Config,
    start: Start,
    (world, device, mode): (&World, Device, Mode),
    out: &mut dyn Write,
) -> anyhow::Result<(Vec<Task>, RunPlan, Learner, Memory, Notes)> {
    let tasks = Task::open_all(config)?;
    tasks.iter().try_for_each(Task::check_labels)?;
    let plan = RunPlan::new(config, &tasks)?;
    let summary = Summary::new(&tasks, &plan);
    match mode {
        Mode::Human => summary.write(config, out)?,
        Mode::Json => writeln!(out, "{}", serde_json::to_string(&summary)?)?,
        Mode::Quiet => {}
    }
    if world.is_first() && !matches!(start, Start::Resume(_)) {
        RunDir::check_free(&config.run.dir)?;
    }
    let start = match start {
        Start::Scratch if !world.is_first() => Start::OtherRank,
        start => start,
    };
    let (learner, memory, mut notes) = setup::learner(config, &tasks, &plan, start, device)?;
    notes.0.extend(startup::warnings(config, &tasks, &plan)?);
    Ok((tasks, plan, learner, memory, notes))
}

fn read_config(
    kind: RunKind,
    file: Option<&Path>,
    start: Start,
    common: &CommonArgs,
) -> anyhow::Result<Config> {
    if let Start::Resume(run) = start {
        let own = RunDir::config_file(run)?;
        let mut config = Config::read_kind(file.unwrap_or(&own), &common.overrides(), kind)?;
        config.run.dir = run.to_path_buf();
        return Ok(config);
    }
    let Some(file) = file else { bail!("a configuration is needed") };
    Ok(Config::read_kind(file, &common.overrides(), kind)?)
}

fn tell(
    notes: &Notes,
    size: i64,
    mode: Mode,
    run_dir: &mut RunDir,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for note in std::iter::once(&format!("{size} parameters")).chain(&notes.0) {
        run_dir.log(note)?;
        if mode == Mode::Human {
            writeln!(out, "{note}")?;
        }
    }
    Ok(())
}

fn report(outcome: &Outcome, kind: RunKind, mode: Mode, out: &mut dyn Write) -> anyhow::Result<()> {
    match mode {
        Mode::Quiet => Ok(()),
        Mode::Json => Ok(writeln!(out, "{}", serde_json::to_string(outcome)?)?),
        Mode::Human => {
            let why = match outcome.ending {
                Ending::Complete => "complete",
                Ending::MaxSteps => "stopped at max_steps",
                Ending::Patience => "stopped: no better validation for stop.patience",
                Ending::MinLr => "stopped: the learning rate fell below stop.min_lr",
                Ending::Minutes => "stopped: stop.minutes are over",
                Ending::Signal => "stopped by a signal after a checkpoint",
            };
            let Outcome { step, samples, samples_per_second: rate, .. } = outcome;
            writeln!(
                out,
                "{why}: {step} steps, {samples} structures, {}, {rate:.1} samples/s, {:.1} % waiting for data",
                duration(60.0 * outcome.minutes),
                100.0 * outcome.waiting
            )?;
            if outcome.left_out > 0 {
                let left = outcome.left_out;
                writeln!(out, "{left} structures were left out for their size; metrics.jsonl lists them")?;
            }
            if let Some(best) = &outcome.best {
                writeln!(out, "best validation {:.6} at step {}", best.metric, best.step)?;
            }
            writeln!(out, "run directory: {}", outcome.run)?;
            if outcome.ending == Ending::Signal {
                writeln!(out, "continue with: jmp-train {} --resume {}", kind.name(), outcome.run)?;
            }
            Ok(())
        }
    }
}
