//! Those who watch a run: the progress line, TensorBoard, Prometheus.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::config::sections::RunSection;
use crate::metrics::Errors;
use crate::progress::{Progress, StepRecord};
use crate::prometheus::{Exporter, Gauge};
use crate::tensorboard::EventFile;

/// All of them.
#[derive(Debug)]
pub struct Watch {
    progress: Progress,
    events: Option<EventFile>,
    exporter: Option<Exporter>,
}

impl Watch {
    /// Opens what the configuration asks for; `step` is the number of steps done before.
    ///
    /// # Errors
    /// When a file cannot be made or the address is taken.
    pub fn open(run: &RunSection, dir: &Path, step: u64, progress: Progress) -> anyhow::Result<Self> {
        let folder = dir.join("tensorboard");
        let events = run.tensorboard.then(|| EventFile::create(&folder, step)).transpose();
        let events = events.with_context(|| format!("TensorBoard's files in {}", folder.display()))?;
        let exporter = run.prometheus.map(Exporter::start).transpose();
        let exporter = exporter.with_context(|| {
            format!("run.prometheus = \"{}\"", run.prometheus.map(|a| a.to_string()).unwrap_or_default())
        })?;
        Ok(Self { progress, events, exporter })
    }

    /// Tells of a step.
    ///
    /// # Errors
    /// When TensorBoard's file cannot be written.
    pub fn step(&mut self, record: &StepRecord) -> anyhow::Result<()> {
        self.progress.step(record);
        if let Some(events) = &mut self.events {
            events.scalars(record.step, &step_scalars(record)).context("TensorBoard's event file")?;
        }
        if let Some(exporter) = &self.exporter {
            exporter.show(&step_gauges(record));
        }
        Ok(())
    }

    /// Tells of a validation: `text` to people, `record` to programs.
    ///
    /// # Errors
    /// When TensorBoard's file cannot be written.
    pub fn validation<'a>(
        &mut self,
        text: &str,
        record: &impl Serialize,
        (step, metric): (u64, f64),
        tasks: impl IntoIterator<Item = (&'a String, &'a Errors)>,
    ) -> anyhow::Result<()> {
        self.progress.event(text, record);
        if let Some(events) = &mut self.events {
            let mut values = vec![("validation/metric".to_owned(), metric)];
            for (task, errors) in tasks {
                let named = errors.named().into_iter();
                values.extend(named.map(|(name, value)| (format!("validation/{name}/{task}"), value)));
            }
            events.scalars(step, &values).context("TensorBoard's event file")?;
        }
        Ok(())
    }

    /// Tells of anything else.
    pub fn event(&mut self, text: &str, record: &impl Serialize) {
        self.progress.event(text, record);
    }

    /// The run is over.
    pub fn finish(&mut self) {
        self.progress.finish();
    }
}

fn step_scalars(record: &StepRecord) -> Vec<(String, f64)> {
    let mut values: Vec<(String, f64)> = [
        ("train/loss", record.loss),
        ("train/gradient_norm", record.gradient_norm),
        ("train/lr", record.lr),
        ("train/epoch", record.epoch),
        ("run/minutes", record.minutes),
        ("run/samples_per_second", record.samples_per_second),
        ("run/waiting", record.waiting),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (task, loss) in &record.tasks {
        values.push((format!("train/energy_loss/{task}"), loss.energy_loss));
        values.extend(loss.force_loss.map(|forces| (format!("train/force_loss/{task}"), forces)));
    }
    values
}

fn step_gauges(record: &StepRecord) -> Vec<Gauge> {
    let gauge = |name, help, value| Gauge { name, help, task: None, value };
    let mut gauges = vec![
        gauge("step", "Optimiser steps done.", record.step as f64),
        gauge("epoch", "Epochs done.", record.epoch),
        gauge("samples", "Structures consumed.", record.samples as f64),
        gauge("loss", "Loss of the last step.", record.loss),
        gauge("gradient_norm", "L2 norm of the gradient before clipping.", record.gradient_norm),
        gauge("learning_rate", "Largest learning rate of the last step.", record.lr),
        gauge(
            "samples_per_second",
            "Structures a second since the session began.",
            record.samples_per_second,
        ),
        gauge("waiting_share", "Share of the session's time spent waiting for data.", record.waiting),
    ];
    for (task, loss) in &record.tasks {
        let help = "Mean energy loss of a task in the last step.";
        gauges.push(Gauge { name: "energy_loss", help, task: Some(task.clone()), value: loss.energy_loss });
    }
    for (task, loss) in &record.tasks {
        let help = "Mean force loss of a task in the last step.";
        let gauge = |value| Gauge { name: "force_loss", help, task: Some(task.clone()), value };
        gauges.extend(loss.force_loss.map(gauge));
    }
    gauges
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::progress::TaskLoss;

    #[test]
    fn every_figure_of_a_step_reaches_both_readers() {
        let loss = TaskLoss { energy_loss: 0.25, force_loss: Some(0.5), structures: 3 };
        let record = StepRecord {
            kind: "train",
            step: 7,
            epoch: 0.5,
            samples: 56,
            minutes: 1.5,
            loss: 0.75,
            gradient_norm: 2.0,
            lr: 1e-3,
            tasks: BTreeMap::from([("oc20".to_owned(), loss)]),
            samples_per_second: 9.0,
            waiting: 0.01,
        };
        let scalars: BTreeMap<String, f64> = step_scalars(&record).into_iter().collect();
        assert_eq!(scalars["train/loss"], 0.75);
        assert_eq!(scalars["train/force_loss/oc20"], 0.5);
        let gauges = step_gauges(&record);
        let of = |name: &str| gauges.iter().find(|g| g.name == name).unwrap();
        assert_eq!((of("step").value, of("waiting_share").value), (7.0, 0.01));
        assert_eq!((of("energy_loss").task.as_deref(), of("energy_loss").value), (Some("oc20"), 0.25));
    }
}
