//! The loader without a model: how fast batches come, and where their time goes.

use std::io::Write;
use std::time::Instant;

use serde::Serialize;
use shards::stream::{Cursor, Share, Stream, Work};

use super::peak_rss_mb;
use crate::config::Config;
use crate::data::stream_config;
use crate::native;
use crate::task::Task;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct LoaderReport {
    kind: &'static str,
    subject: &'static str,
    /// Whether graphs were left out.
    flat: bool,
    workers: usize,
    /// Global batches measured.
    batches: usize,
    samples: u64,
    atoms: u64,
    samples_per_second: f64,
    atoms_per_second: f64,
    /// MB of row groups as stored, decoded a second.
    mb_per_second: f64,
    /// Seconds from opening the datasets to the first batch.
    first_batch_seconds: f64,
    /// Milliseconds between global batches.
    step_ms_median: f64,
    step_ms_min: f64,
    /// Share of the time that the consumer waited; it does nothing else here but take batches.
    waiting: f64,
    /// Share of the workers' time that they worked.
    workers_busy: f64,
    /// Microseconds of workers' time a structure.
    parts_us: Parts,
    /// Share of structures whose graphs came from stored neighbour lists.
    stored_neighbors: f64,
    peak_rss_mb: Option<f64>,
}

/// Microseconds a structure.
#[derive(Debug, Serialize)]
struct Parts {
    /// Reading and decoding row groups.
    decode: f64,
    /// Graphs of single structures.
    graphs: f64,
    /// Joining structures and graphs into batches.
    collate: f64,
}

/// What is measured, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Global batches before the measurement.
    pub(super) warm_up: usize,
    /// Global batches measured.
    pub(super) count: usize,
    /// Leaves graphs out.
    pub(super) flat: bool,
}

/// Takes batches as fast as they come.
pub(super) fn run(config: &Config, tasks: &[Task], extent: Extent) -> anyhow::Result<LoaderReport> {
    // As training does.
    native::keep_memory();
    let begin = Instant::now();
    let mut stream_config = stream_config(config, tasks, u64::MAX);
    if extent.flat {
        stream_config.datasets.iter_mut().for_each(|dataset| dataset.graph = None);
    }
    let workers = stream_config.workers;
    let mut stream = Stream::open(stream_config, Share::WHOLE, Cursor::default())?;
    let mut first_batch_seconds = 0.0;
    let (mut milliseconds, mut samples, mut atoms, mut waited) = (Vec::new(), 0, 0, 0.0);
    let (mut before, mut start) = (Work::default(), Instant::now());
    for index in 0..extent.warm_up + extent.count {
        if index == extent.warm_up {
            (before, start) = (stream.work(), Instant::now());
        }
        let asked = Instant::now();
        let Some(batch) = stream.next().transpose()? else { break };
        let seconds = asked.elapsed().as_secs_f64();
        if index == 0 {
            first_batch_seconds = begin.elapsed().as_secs_f64();
        }
        if index >= extent.warm_up {
            waited += seconds;
            milliseconds.push(1e3 * seconds);
            samples += batch.totals.all.structures;
            atoms += batch.totals.all.atoms;
        }
        stream.give_back(batch.parts);
    }
    let seconds = start.elapsed().as_secs_f64().max(1e-9);
    let work = stream.work();
    milliseconds.sort_by(f64::total_cmp);
    let structures = (work.structures - before.structures).max(1) as f64;
    let us = |after: std::time::Duration, before: std::time::Duration, of: f64| {
        1e6 * after.saturating_sub(before).as_secs_f64() / of
    };
    Ok(LoaderReport {
        kind: "bench",
        subject: "loader",
        flat: extent.flat,
        workers,
        batches: milliseconds.len(),
        samples,
        atoms,
        samples_per_second: samples as f64 / seconds,
        atoms_per_second: atoms as f64 / seconds,
        mb_per_second: 1e-6 * (work.bytes - before.bytes) as f64 / seconds,
        first_batch_seconds,
        step_ms_median: milliseconds.get(milliseconds.len() / 2).copied().unwrap_or(0.0),
        step_ms_min: milliseconds.first().copied().unwrap_or(0.0),
        waiting: waited / seconds,
        workers_busy: busy(&work, &before) / (seconds * workers as f64),
        parts_us: Parts {
            decode: us(work.decode, before.decode, (work.rows - before.rows).max(1) as f64),
            graphs: us(work.graphs, before.graphs, structures),
            collate: us(work.collate, before.collate, structures),
        },
        stored_neighbors: (work.stored_neighbors - before.stored_neighbors) as f64 / structures,
        peak_rss_mb: peak_rss_mb(),
    })
}

/// Seconds that workers worked between two counts.
fn busy(after: &Work, before: &Work) -> f64 {
    let total = |work: &Work| work.decode + work.graphs + work.collate;
    total(after).saturating_sub(total(before)).as_secs_f64()
}

impl LoaderReport {
    /// For people.
    pub(super) fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Parts { decode, graphs, collate } = &self.parts_us;
        writeln!(
            out,
            "loader: {} structures in {} batches on {} workers: {:.0} structures/s, {:.1} MB/s; first batch after {:.2} s",
            self.samples,
            self.batches,
            self.workers,
            self.samples_per_second,
            self.mb_per_second,
            self.first_batch_seconds
        )?;
        writeln!(
            out,
            "µs of workers a structure: decode {decode:.1}, graphs {graphs:.1}, collate {collate:.1}; workers busy {:.0} %; {:.0} % \
             of graphs from stored lists; peak {:.0} MB",
            100.0 * self.workers_busy,
            100.0 * self.stored_neighbors,
            self.peak_rss_mb.unwrap_or(0.0)
        )
    }
}
