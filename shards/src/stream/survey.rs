//! The epoch before it runs, in figures: sizes of batches, balance, memory, bytes, the first and the last structures.

use serde::Serialize;

use super::planner::{Order, Planned, Planner};
use super::sizes::{FileSizes, Wanted};
use super::{Cursor, EpochPlan, Opened, Share, StreamConfig, StreamError, order};
use crate::error::ShardError;
use crate::reader::Columns;

/// Steps that are planned to estimate how many an epoch has.
const ESTIMATED_FROM: u64 = 100;

/// Spread of a number over micro-batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Least.
    pub min: u64,
    /// A twentieth lies at or below.
    pub p5: u64,
    /// Half lies at or below.
    pub median: u64,
    /// All but a twentieth lies at or below.
    pub p95: u64,
    /// Largest.
    pub max: u64,
    /// Mean.
    pub mean: f64,
}

impl Distribution {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let Some(last) = values.len().checked_sub(1) else { return Self::default() };
        let at = |share: f64| values[(share * last as f64).round() as usize];
        Self {
            min: values[0],
            p5: at(0.05),
            median: at(0.5),
            p95: at(0.95),
            max: values[last],
            mean: values.iter().sum::<u64>() as f64 / values.len() as f64,
        }
    }
}

/// What planning some steps of an epoch showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survey {
    /// Steps that were planned.
    pub steps: u64,
    /// Whether they are the whole epoch.
    pub whole: bool,
    /// Structures of a micro-batch.
    pub structures: Distribution,
    /// Atoms of a micro-batch.
    pub atoms: Distribution,
    /// Main edges of a micro-batch, where stored counts tell.
    pub edges: Option<Distribution>,
    /// Quadruplets of a micro-batch, where stored counts tell.
    pub quadruplets: Option<Distribution>,
    /// Atoms of the largest rank over those of the mean rank, averaged over steps.
    pub imbalance: f64,
    /// Structures left out for their size in the steps planned.
    pub skipped: u64,
    /// Bytes to be read in an epoch, all ranks together, from each dataset.
    pub bytes: Vec<u64>,
    /// Bytes of memory a rank needs, without and with windows decoded ahead.
    pub memory: [u64; 2],
    /// Ids of the first micro-batch.
    pub first: Vec<String>,
    /// Ids of the last micro-batch; none where it is not known without planning the whole epoch.
    pub last: Vec<String>,
}

impl Survey {
    /// Plans up to `steps` steps of an epoch for `ranks` ranks. Nothing is decoded but small columns and the ids told.
    pub fn of(config: &StreamConfig, ranks: u32, steps: u64) -> Result<(EpochPlan, Self), ShardError> {
        Share { rank: 0, ranks }.check()?;
        let opened = Opened::new(config.clone())?;
        opened.check_memory(opened.largest_share(ranks))?;
        let plan = EpochPlan::of(&opened.order)?;
        let counted = opened.datasets.iter().all(|d| d.entry.graph.is_some() && d.counts_serve());
        let opened = if counted { opened.counting_graphs()? } else { opened };
        let mut walk = Walk::default();
        let mut planner = Planner::new(opened.order.clone(), Cursor::default())?;
        let mut last = None;
        while walk.steps < steps
            && let Some(planned) = planner.next(ranks)?
        {
            if walk.steps == 0 {
                walk.first = opened.ids(&planned, false)?;
            }
            walk.add(&planned, ranks);
            last = Some(planned);
        }
        let whole = last.as_ref().is_some_and(|planned| planned.cursor.epoch > 0);
        let last = if whole { last } else { opened.last_step(&plan)? };
        let last = last.map_or_else(|| Ok(Vec::new()), |planned| opened.ids(&planned, true))?;
        let need = opened.need(opened.largest_share(ranks))?;
        let memory = [need.least(), need.ahead()];
        let survey = Self {
            steps: walk.steps,
            whole,
            structures: Distribution::of(walk.structures),
            atoms: Distribution::of(walk.atoms),
            edges: counted.then(|| Distribution::of(walk.edges)),
            quadruplets: counted.then(|| Distribution::of(walk.quadruplets)),
            imbalance: walk.imbalance / walk.steps.max(1) as f64,
            skipped: walk.skipped,
            bytes: opened.bytes(&plan),
            memory,
            first: walk.first,
            last,
        };
        Ok((plan, survey))
    }
}

#[derive(Debug, Default)]
struct Walk {
    steps: u64,
    structures: Vec<u64>,
    atoms: Vec<u64>,
    edges: Vec<u64>,
    quadruplets: Vec<u64>,
    imbalance: f64,
    skipped: u64,
    first: Vec<String>,
}

impl Walk {
    fn add(&mut self, planned: &Planned, ranks: u32) {
        self.steps += 1;
        self.skipped += planned.skipped.len() as u64;
        let mut loads = vec![0u64; ranks as usize];
        for part in &planned.parts {
            let sizes = part.samples.iter().map(|s| s.size);
            let atoms = sizes.clone().map(|s| u64::from(s.atoms)).sum();
            self.structures.push(part.samples.len() as u64);
            self.atoms.push(atoms);
            self.edges.push(sizes.clone().map(|s| u64::from(s.edges)).sum());
            self.quadruplets.push(sizes.map(|s| s.quadruplets).sum());
            loads[part.owner as usize] += atoms;
        }
        let mean = loads.iter().sum::<u64>() as f64 / loads.len() as f64;
        self.imbalance += loads.iter().copied().max().unwrap_or(0) as f64 / mean.max(1.0);
    }
}

impl Opened {
    /// The same with edges and quadruplets in the plan.
    fn counting_graphs(self) -> Result<Self, ShardError> {
        let splits = self.order.splits.clone();
        let wanted = Wanted { graphs: true, free: false };
        let sizes = Box::new(FileSizes::new(self.datasets.clone(), splits.clone(), wanted)?);
        let order = order(&self.config, self.order.names.clone(), splits, sizes)?;
        Ok(Self { order: order.into(), ..self })
    }

    /// The last step, where its position is known.
    fn last_step(&self, plan: &EpochPlan) -> Result<Option<Planned>, ShardError> {
        let Some(global) = self.config.global_batch() else { return Ok(None) };
        let step = plan.steps.saturating_sub(1);
        let start = Cursor { step, position: step * global, ..Cursor::default() };
        Planner::new(self.order.clone(), start)?.next(1)
    }

    /// Ids of the first or last micro-batch.
    fn ids(&self, planned: &Planned, last: bool) -> Result<Vec<String>, ShardError> {
        let part = if last { planned.parts.last() } else { planned.parts.first() };
        let samples = part.map_or(&[][..], |part| &part.samples);
        let id = |sample: &super::sequence::Sample| {
            let dataset = &self.datasets[sample.task as usize].dataset;
            let group = &dataset.row_groups()[sample.place.group as usize];
            let block = dataset.read_columns(group, Columns::identity())?;
            Ok(block.row(sample.place.index as usize).id.to_string())
        };
        samples.iter().map(id).collect()
    }

    /// Bytes read in an epoch: row groups of the split, as often as the epoch passes over them.
    fn bytes(&self, plan: &EpochPlan) -> Vec<u64> {
        let mut all = Vec::new();
        for (d, opened) in self.datasets.iter().enumerate() {
            let manifest = opened.dataset.manifest();
            let groups = opened.dataset.row_groups();
            let touched = self.order.splits[d].groups().map(|g| &groups[g as usize]);
            let share = |group: &crate::reader::RowGroup| {
                let part = &manifest.parts[group.part];
                part.bytes as f64 * (group.rows.end - group.rows.start) as f64 / part.rows.max(1) as f64
            };
            let once: f64 = touched.map(share).sum();
            all.push((once * plan.expanded[d] as f64 / plan.rows[d].max(1) as f64) as u64);
        }
        all
    }
}

/// Steps of an epoch whose batches are filled to a budget, and mean structures of one.
pub(super) fn estimated_steps(order: &std::sync::Arc<Order>) -> Result<(u64, u64), ShardError> {
    let mut planner = Planner::new(order.clone(), Cursor::default())?;
    let (mut steps, mut structures) = (0, 0);
    while steps < ESTIMATED_FROM {
        let Some(planned) = planner.next(1)? else { break };
        steps += 1;
        structures += planned.totals.all.structures;
        if planned.cursor.epoch > 0 && structures > 0 {
            return Ok((steps, structures.div_ceil(steps)));
        }
    }
    if structures == 0 {
        return Err(StreamError::NothingFits.into());
    }
    let mean = structures as f64 / f64::max(steps as f64, 1.0);
    Ok(((order.lanes.total() as f64 / mean.max(1.0)).ceil() as u64, mean.ceil() as u64))
}
