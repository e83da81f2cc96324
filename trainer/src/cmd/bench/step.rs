//! The training step on one batch, with its parts, its matrix products and the machine's speed at those.

use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;
use shards::batch::HostBatch;
use tch::{Device, Kind, Tensor};

use super::super::ranks::Meeting;
use super::{median, peak_rss_mb};
use crate::checkpoint::{Margins, TaskRecord};
use crate::config::{ConfigError, Source, StepConfig};
use crate::distributed::{Place, World};
use crate::learner::{Learner, Rules, StepTimes, Whole};
use crate::native::{self, Cost, Profile};
use crate::schedule::{Schedule, WarmupCosine};
use crate::setup;
use shards::targets::TargetTransform;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct StepReport {
    kind: &'static str,
    subject: &'static str,
    config: String,
    ranks: u32,
    /// Of a rank.
    threads: i32,
    instruction_set: String,
    parameters: i64,
    structures: usize,
    atoms: usize,
    /// Main edges.
    edges: usize,
    steps: usize,
    step_ms_median: f64,
    step_ms_min: f64,
    /// Median of each part.
    parts_ms: Parts,
    structures_per_second: f64,
    atoms_per_second: f64,
    edges_per_second: f64,
    /// Operations of all matrix products of a step.
    gflop: f64,
    /// The machine's best rate at such products, measured in this run.
    gemm_gflop_per_second: f64,
    /// The products alone at that rate.
    floor_ms: f64,
    /// Least step time over the floor.
    times_floor: f64,
    peak_rss_mb: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operations: Vec<Operation>,
}

#[derive(Debug, Default, Serialize)]
struct Parts {
    batch: f64,
    forward: f64,
    backward: f64,
    /// Waiting for other ranks.
    exchange: f64,
    optimizer: f64,
}

#[derive(Debug, Serialize)]
struct Operation {
    name: String,
    calls: u64,
    ms: f64,
    gflop: f64,
}

/// Reads a configuration of the kind "step" and sets its threads.
pub(super) fn prepare(source: &Source, place: Option<&Place>) -> anyhow::Result<(StepConfig, Meeting)> {
    let config = StepConfig::from_source(source)?;
    let fair = place.and_then(|place| place.threads).map(i64::from);
    if let Some(threads) = fair.or(config.threads.map(|threads| threads.get() as i64)) {
        tch::set_num_threads(threads as i32);
    }
    Ok((config, Meeting { device: Device::Cpu, timeout: Duration::from_mins(10) }))
}

/// Runs `warm_up` and then `count` steps; each rank has the whole batch as its micro-batch of a global one.
pub(super) fn run(
    (source, config): (&Source, &StepConfig),
    file: &Path,
    (warm_up, count): (usize, usize),
    profile: bool,
    world: &Rc<World>,
) -> anyhow::Result<StepReport> {
    let batch = config.batch(file)?;
    let mut learner = learner(config, &batch, source)?;
    learner.join(world.clone(), config.model.recompute)?;
    let batches = std::slice::from_ref(&batch);
    let global = Whole::counted(learner.loss(), batches).of_each(world.ranks());
    let (whole, times) = measure(&mut learner, global, batches, (warm_up, count))?;
    let peak_rss_mb = peak_rss_mb();
    let costs = costs_of_a_step(&mut learner, global, batches)?;
    let gflop = 1e-9 * costs.iter().map(|c| c.flop).sum::<f64>();
    let rate = gemm_rate();
    let median_ms = median(whole.clone());
    let min_ms = whole.iter().copied().fold(f64::INFINITY, f64::min);
    let part = |of: fn(&StepTimes) -> f64| 1e3 * median(times.iter().map(of).collect());
    let per_second = |count: usize| 1e3 * f64::from(world.ranks()) * count as f64 / median_ms;
    let edges = batch.graph.main.edges.source.len();
    Ok(StepReport {
        kind: "bench",
        subject: "step",
        config: file.display().to_string(),
        ranks: world.ranks(),
        threads: tch::get_num_threads(),
        instruction_set: native::instruction_set(),
        parameters: learner.size(),
        structures: batch.structures(),
        atoms: batch.atoms(),
        edges,
        steps: whole.len(),
        step_ms_median: median_ms,
        step_ms_min: min_ms,
        parts_ms: Parts {
            batch: part(|t| t.batch),
            forward: part(|t| t.forward),
            backward: part(|t| t.backward),
            exchange: part(|t| t.exchange),
            optimizer: part(|t| t.optimizer),
        },
        structures_per_second: per_second(batch.structures()),
        atoms_per_second: per_second(batch.atoms()),
        edges_per_second: per_second(edges),
        gflop,
        gemm_gflop_per_second: rate,
        floor_ms: 1e3 * gflop / rate,
        times_floor: min_ms / (1e3 * gflop / rate),
        peak_rss_mb,
        operations: if profile { costs.into_iter().map(Operation::from).collect() } else { Vec::new() },
    })
}

/// Milliseconds of each of `count` steps after `warm_up`, and their parts.
fn measure(
    learner: &mut Learner,
    global: Whole,
    batches: &[HostBatch],
    (warm_up, count): (usize, usize),
) -> anyhow::Result<(Vec<f64>, Vec<StepTimes>)> {
    for _ in 0..warm_up {
        learner.step_of(global, batches)?;
    }
    let (mut whole, mut times) = (Vec::new(), Vec::new());
    for _ in 0..count.max(1) {
        let begin = Instant::now();
        times.push(learner.step_of(global, batches)?.times);
        whole.push(1e3 * begin.elapsed().as_secs_f64());
    }
    Ok((whole, times))
}

impl From<Cost> for Operation {
    fn from(cost: Cost) -> Self {
        Self { name: cost.name, calls: cost.calls, ms: 1e3 * cost.seconds, gflop: 1e-9 * cost.flop }
    }
}

impl StepReport {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Parts { batch, forward, backward, exchange, optimizer } = &self.parts_ms;
        let mut text = format!(
            "step: {:.0} ms (median of {}; least {:.0}), {} x {} threads, {}\n  \
             batch {batch:.1} + forward {forward:.0} + backward {backward:.0} + exchange {exchange:.0} + optimiser \
             {optimizer:.0} ms\n  \
             {} structures, {} atoms, {} edges: {:.2} structures/s, {:.0} atoms/s, {:.0} edges/s\n  \
             matrix products: {:.1} GFLOP, floor {:.0} ms at {:.0} GFLOP/s; the step takes {:.2} times that\n",
            self.step_ms_median,
            self.steps,
            self.step_ms_min,
            self.ranks,
            self.threads,
            self.instruction_set,
            self.structures,
            self.atoms,
            self.edges,
            self.structures_per_second,
            self.atoms_per_second,
            self.edges_per_second,
            self.gflop,
            self.floor_ms,
            self.gemm_gflop_per_second,
            self.times_floor,
        );
        if let Some(peak) = self.peak_rss_mb {
            let _ = writeln!(text, "  peak memory {peak:.0} MB, {} parameters", self.parameters);
        }
        for Operation { name, calls, ms, gflop } in &self.operations {
            let _ = writeln!(text, "  {ms:9.2} ms {calls:6} x {gflop:8.2} GFLOP  {name}");
        }
        text
    }
}

/// A learner with fresh weights; labels are zero, which costs what any labels cost.
fn learner(config: &StepConfig, batch: &HostBatch, source: &Source) -> anyhow::Result<Learner> {
    let network = setup::step_network(config);
    let record = |task: u64| TaskRecord {
        name: format!("task-{task}"),
        forces: config.forces,
        transform: TargetTransform {
            label: shards::statistics::ENERGY.to_owned(),
            reference: None,
            mean: 0.0,
            std: 1.0,
            force_std: 1.0,
            average_atoms: 1.0,
        },
        scalar: None,
        energy_weight: 1.0,
        force_weight: batch.atoms() as f64 / batch.structures() as f64,
        margins: Margins::default(),
        energy_shift: None,
        head_bias: false,
        graph: config.graph(),
        split: "train".into(),
        manifest: String::new(),
    };
    let tasks: Vec<TaskRecord> = (0..config.tasks.get()).map(record).collect();
    let schedule = Schedule::Pretrain(WarmupCosine {
        lr: config.optimizer.lr.get(),
        warmup_steps: 0,
        warmup_factor: 1.0,
        final_factor: 1.0,
        batch: batch.structures() as u64,
        total_samples: u64::MAX,
    });
    let rules =
        Rules { optimizer: &config.optimizer, loss: config.loss, seed: 0, precision: config.precision };
    Ok(Learner::new(rules, &tasks, network, schedule, |_| 0).map_err(|e| ConfigError::Invalid {
        file: source.file.clone(),
        note: "",
        message: e.to_string(),
    })?)
}

fn costs_of_a_step(learner: &mut Learner, whole: Whole, batches: &[HostBatch]) -> anyhow::Result<Vec<Cost>> {
    let profile = Profile::start();
    let step = learner.step_of(whole, batches);
    let costs = profile.stop();
    step?;
    Ok(costs)
}

/// Best GFLOP/s of single-precision products: squares and a dense layer's, by libtorch and by the layers' own product.
fn gemm_rate() -> f64 {
    let shapes = [(512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (1456, 512, 512)];
    let rate = |(rows, inner, columns): (i64, i64, i64), product: fn(&Tensor, &Tensor) -> Tensor| {
        let random = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (x, weight) = (random([rows, inner]), random([columns, inner]));
        let gflop = 2e-9 * (rows * inner * columns) as f64;
        let once = || {
            let begin = Instant::now();
            drop(product(&x, &weight));
            gflop / begin.elapsed().as_secs_f64()
        };
        once();
        (0..12).map(|_| once()).fold(0.0, f64::max)
    };
    let products: [fn(&Tensor, &Tensor) -> Tensor; 2] =
        [|x, weight| x.matmul(&weight.tr()), |x, weight| native::linear(x, weight)];
    shapes.into_iter().flat_map(|shape| products.map(|product| rate(shape, product))).fold(0.0, f64::max)
}
