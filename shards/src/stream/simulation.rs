//! The order at any size without data: made-up row groups, everything else as in training.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::blocks::Windows;
use super::order::SplitRows;
use super::planner::{Order, Planned, Planner};
use super::random::KeyedRng;
use super::sizes::{GroupSizes, SizeSource, Values};
use super::{BatchRule, Cursor, StreamConfig, StreamError, Temperature, order};
use crate::error::ShardError;
use crate::row_set::RowSet;

/// A made-up dataset.
#[derive(Debug, Clone, Copy)]
pub struct MadeDataset {
    /// Structures.
    pub rows: u64,
    /// Rows of a row group.
    pub row_group_rows: u32,
    /// Least and largest number of atoms; uniform between, alike for 50 consecutive rows as for frames of a trajectory.
    pub atoms: (u32, u32),
}

/// Consecutive rows that belong together.
const FRAMES: u32 = 50;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The mix.
    pub datasets: Vec<MadeDataset>,
    /// Temperature of the mix.
    pub temperature: Temperature,
    /// Seed.
    pub seed: u64,
    /// Structures of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of a global batch.
    pub micro_batches: usize,
    /// Lanes.
    pub lanes: usize,
    /// Row groups of a window, over all lanes.
    pub window: usize,
    /// Ranks.
    pub ranks: u32,
    /// Where to begin: a step of the first epoch.
    pub start: u64,
    /// Steps to plan.
    pub steps: u64,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimulationReport {
    /// Structures of an epoch.
    pub structures: u64,
    /// Steps of an epoch.
    pub epoch_steps: u64,
    /// Steps planned.
    pub steps: u64,
    /// Seconds until the first global batch was planned, row groups and splits included.
    pub first_plan_seconds: f64,
    /// Mean milliseconds to plan a step, on one core.
    pub step_ms: f64,
    /// Longest, ms.
    pub step_ms_max: f64,
    /// Atoms of the largest rank over those of the mean rank: mean over steps.
    pub imbalance: f64,
    /// The largest of any step.
    pub imbalance_max: f64,
    /// Rows that a rank decodes over those it uses: mean over ranks.
    pub decode_ratio: f64,
    /// The largest of any rank.
    pub decode_ratio_max: f64,
    /// Hash of the structures planned and their order.
    pub order_hash: String,
}

/// How far a sequence is from being shuffled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Median distance in the sequence from a frame to the next one of the same trajectory, as a share of the sequence.
    pub median_gap: f64,
    /// Mean number of pairs of one trajectory in a global batch.
    pub pairs: f64,
    /// Variance of a global batch's mean gradient over that of independent structures, where half of a gradient's variance is
    /// common to its trajectory.
    pub variance: f64,
}

/// Our shuffle and a true one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ShuffleReport {
    /// Structures of a global batch.
    pub batch: usize,
    /// The stream's.
    pub ours: Quality,
    /// Of a shuffle of all rows.
    pub random: Quality,
}

impl Quality {
    /// Of the trajectories of a sequence, in global batches of `batch`.
    fn of(sequence: &[u64], batch: usize) -> Self {
        let mut last: BTreeMap<u64, usize> = BTreeMap::new();
        let mut gaps = Vec::with_capacity(sequence.len());
        for (at, trajectory) in sequence.iter().enumerate() {
            if let Some(before) = last.insert(*trajectory, at) {
                gaps.push(at - before);
            }
        }
        gaps.sort_unstable();
        let (mut pairs, mut batches) = (0u64, 0u64);
        for chunk in sequence.chunks_exact(batch) {
            let mut sorted = chunk.to_vec();
            sorted.sort_unstable();
            let same = sorted.chunk_by(|a, b| a == b).map(|run| run.len() as u64);
            pairs += same.map(|n| n * (n - 1) / 2).sum::<u64>();
            batches += 1;
        }
        let pairs = pairs as f64 / batches.max(1) as f64;
        Self {
            median_gap: gaps.get(gaps.len() / 2).map_or(0.0, |gap| *gap as f64 / sequence.len() as f64),
            pairs,
            // Var(mean) = (σ² + 2·pairs/B · ρσ²) / B with correlation ρ = ½ in a trajectory.
            variance: 1.0 + 2.0 * 0.5 * pairs / batch as f64,
        }
    }
}

/// Sizes from a hash of where a row lies.
#[derive(Debug)]
struct MadeSizes(Vec<MadeDataset>);

impl SizeSource for MadeSizes {
    fn ahead(&self, _: usize, _: &[u32]) {}

    fn sizes(&self, dataset: usize, group: u32) -> Result<Arc<GroupSizes>, ShardError> {
        let MadeDataset { row_group_rows, atoms: (least, most), .. } = self.0[dataset];
        let atoms = (0..row_group_rows).map(|row| {
            let key = (dataset as u64) << 56 | u64::from(group) << 24 | u64::from(row / FRAMES);
            // The finaliser of SplitMix64.
            let x = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            least + ((x ^ (x >> 31)) % u64::from(most - least + 1)) as u32
        });
        Ok(Arc::new(GroupSizes {
            atoms: Values::Each(atoms.collect()),
            graphs: Values::Same((0, 0)),
            free: None,
            energy: Values::Same(true),
            forces: Values::Same(true),
        }))
    }
}

impl Simulation {
    /// How well one dataset is shuffled: its first, in trajectories of 50 frames, against a true shuffle of all its rows.
    pub fn shuffle(&self) -> Result<ShuffleReport, ShardError> {
        let rows = self.datasets.first().map_or(0, |made| made.rows);
        let single = Self { datasets: self.datasets[..1].to_vec(), ..self.clone() };
        let (order, start) = single.order()?;
        let mut planner = Planner::new(order.clone(), start)?;
        let mut sequence = Vec::new();
        while let Some(planned) = planner.next(1)? {
            let samples = planned.parts.iter().flat_map(|part| &part.samples);
            sequence.extend(samples.map(|sample| order.row(sample).row / u64::from(FRAMES)));
        }
        let mut random: Vec<u64> = (0..rows).map(|row| row / u64::from(FRAMES)).collect();
        KeyedRng::new("true shuffle", &[self.seed]).shuffle(&mut random);
        let batch = self.batch_size * self.micro_batches;
        Ok(ShuffleReport { batch, ours: Quality::of(&sequence, batch), random: Quality::of(&random, batch) })
    }

    /// Plans the steps for all ranks.
    pub fn run(&self) -> Result<SimulationReport, ShardError> {
        let begin = Instant::now();
        let (order, start) = self.order()?;
        let mut planner = Planner::new(order.clone(), start)?;
        let mut seen = Seen::new(&order, self.ranks);
        let mut first_plan_seconds = 0.0;
        while seen.steps < self.steps {
            let step = Instant::now();
            let Some(planned) = planner.next(self.ranks)? else { break };
            if seen.steps == 0 {
                first_plan_seconds = begin.elapsed().as_secs_f64();
            } else {
                seen.milliseconds.push(1e3 * step.elapsed().as_secs_f64());
            }
            seen.add(&planned, &planner);
        }
        let rows = |dataset: u32, group: u32| {
            let MadeDataset { rows, row_group_rows, .. } = self.datasets[dataset as usize];
            (rows - u64::from(group) * u64::from(row_group_rows)).min(u64::from(row_group_rows))
        };
        let structures = order.lanes.total();
        let global = (self.batch_size * self.micro_batches) as u64;
        Ok(seen.report(structures, structures.div_ceil(global), first_plan_seconds, rows))
    }

    fn order(&self) -> Result<(Arc<Order>, Cursor), ShardError> {
        let (lanes, micro_batches) = (self.lanes, self.micro_batches);
        if lanes == 0 || !micro_batches.is_multiple_of(lanes) {
            return Err(StreamError::Lanes { lanes, micro_batches }.into());
        }
        let splits: Vec<SplitRows> = self.datasets.iter().map(split).collect();
        let names = vec!["made up".to_owned(); splits.len()];
        let sizes = Box::new(MadeSizes(self.datasets.clone()));
        let order = Arc::new(order(&self.config(), names, Arc::new(splits), sizes)?);
        let position = self.start * (self.batch_size * micro_batches) as u64;
        Ok((order, Cursor { step: self.start, position, ..Cursor::default() }))
    }

    fn config(&self) -> StreamConfig {
        StreamConfig {
            datasets: Vec::new(),
            temperature: self.temperature,
            seed: self.seed,
            batch: BatchRule::Structures(self.batch_size),
            micro_batches: self.micro_batches,
            lanes: self.lanes,
            window: self.window,
            edge_dropout: 0.0,
            epochs: 1,
            count_free_atoms: false,
            workers: 1,
            prefetch: 1,
            memory: None,
        }
    }
}

fn split(made: &MadeDataset) -> SplitRows {
    let size = u64::from(made.row_group_rows);
    let groups: Vec<Range<u64>> =
        (0..made.rows).step_by(size as usize).map(|start| start..(start + size).min(made.rows)).collect();
    SplitRows::new(groups.iter(), RowSet::from_range(0..made.rows))
}

struct Seen {
    order: Arc<Order>,
    steps: u64,
    milliseconds: Vec<f64>,
    imbalance: f64,
    imbalance_max: f64,
    /// Rows used, by rank.
    used: Vec<u64>,
    /// What each rank holds, as in training.
    windows: Vec<Windows>,
    /// Row groups that each rank has decoded, again and again where it let go of them in between.
    decoded: Vec<Vec<(usize, u32)>>,
    hasher: blake3::Hasher,
}

impl Seen {
    fn new(order: &Arc<Order>, ranks: u32) -> Self {
        let windows = (0..ranks).map(|_| Windows::new(order.clone(), 0)).collect();
        Self {
            order: order.clone(),
            steps: 0,
            milliseconds: Vec::new(),
            imbalance: 0.0,
            imbalance_max: 0.0,
            used: vec![0; ranks as usize],
            windows,
            decoded: vec![Vec::new(); ranks as usize],
            hasher: blake3::Hasher::new(),
        }
    }

    fn add(&mut self, planned: &Planned, planner: &Planner) {
        self.steps += 1;
        self.hold(planned, planner);
        let mut loads = vec![0u64; self.used.len()];
        for part in &planned.parts {
            let rank = part.owner as usize;
            self.used[rank] += part.samples.len() as u64;
            for sample in &part.samples {
                loads[rank] += u64::from(sample.size.atoms);
                let words = [sample.task, sample.place.group, sample.place.index];
                words.iter().for_each(|word| {
                    self.hasher.update(&word.to_le_bytes());
                });
            }
        }
        let mean = loads.iter().sum::<u64>() as f64 / loads.len() as f64;
        let ratio = loads.iter().copied().max().unwrap_or(0) as f64 / mean.max(1.0);
        self.imbalance += ratio;
        self.imbalance_max = self.imbalance_max.max(ratio);
    }

    /// Takes and leaves windows as every rank's stream does.
    fn hold(&mut self, planned: &Planned, planner: &Planner) {
        // What batches of a step hold on to until they are built.
        let mut in_use = Vec::new();
        for part in &planned.parts {
            let windows = &mut self.windows[part.owner as usize];
            let lane = self.order.lane_of(part.index);
            in_use.extend(part.samples.iter().map(|sample| windows.slot(lane, sample)));
        }
        for (windows, decoded) in self.windows.iter_mut().zip(&mut self.decoded) {
            windows.leave_done(planner);
            decoded.extend(windows.take_fresh());
        }
    }

    fn report(
        mut self,
        structures: u64,
        epoch_steps: u64,
        first_plan_seconds: f64,
        rows: impl Fn(u32, u32) -> u64,
    ) -> SimulationReport {
        self.milliseconds.sort_by(f64::total_cmp);
        let planned = self.milliseconds.len().max(1) as f64;
        let ratios: Vec<f64> = self
            .decoded
            .iter()
            .zip(&self.used)
            .filter(|(_, used)| **used > 0)
            .map(|(decoded, used)| {
                let decoded: u64 = decoded.iter().map(|(dataset, group)| rows(*dataset as u32, *group)).sum();
                decoded as f64 / *used as f64
            })
            .collect();
        SimulationReport {
            structures,
            epoch_steps,
            steps: self.steps,
            first_plan_seconds,
            step_ms: self.milliseconds.iter().sum::<f64>() / planned,
            step_ms_max: self.milliseconds.last().copied().unwrap_or(0.0),
            imbalance: self.imbalance / self.steps.max(1) as f64,
            imbalance_max: self.imbalance_max,
            decode_ratio: ratios.iter().sum::<f64>() / ratios.len().max(1) as f64,
            decode_ratio_max: ratios.iter().copied().fold(0.0, f64::max),
            order_hash: self.hasher.finalize().to_hex()[..16].to_string(),
        }
    }
}
