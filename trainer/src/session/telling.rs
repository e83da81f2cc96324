//! What a session tells of its steps.

use super::{Learnt, Session};
use crate::checkpoint::Writer;
use crate::config::ForceMode;
use crate::data::GlobalBatch;
use crate::progress::{StepRecord, TaskLoss};

impl Session<'_> {
    /// Tells of a batch that was learnt from, and of checkpoints that have been written since the last one.
    pub(super) fn tell(&mut self, learnt: &Learnt, batch: &GlobalBatch) -> anyhow::Result<()> {
        let written = self.writer.as_mut().map(Writer::poll).transpose()?.unwrap_or_default();
        self.log_checkpoints(&written)?;
        let Learnt::Step(report) = learnt else { return Ok(()) };
        self.meter.count(report.structures, batch.waited);
        let at = self.learner.position();
        if let (true, Some(scale)) = (report.skipped, self.learner.loss_scale()) {
            let text = format!(
                "step {}: gradient overflowed, weights kept; loss scale {} now",
                at.step,
                scale.get()
            );
            self.run_dir.log(&text)?;
        }
        let sums = &report.tasks;
        let seen = |t: &usize| sums.energies[*t] > 0.0 || sums.force_counts[*t] > 0.0;
        let losses = (0..self.tasks.len()).filter(seen).map(|t| {
            let has_forces = self.tasks[t].record.forces != ForceMode::None;
            let loss = TaskLoss {
                energy_loss: sums.energy_mean(t),
                force_loss: has_forces.then(|| sums.force_mean(t)),
                structures: sums.energies[t] as u64,
            };
            (self.tasks[t].record.name.clone(), loss)
        });
        let record = StepRecord {
            kind: "train",
            step: at.step,
            epoch: self.plan.epochs_at(at.samples),
            samples: at.samples,
            minutes: self.minutes(),
            loss: report.loss,
            gradient_norm: report.gradient_norm,
            lr: report.lrs.iter().copied().fold(0.0, f64::max),
            tasks: losses.collect(),
            samples_per_second: self.meter.rate(),
            waiting: self.meter.waiting(),
        };
        self.watch.step(&record)?;
        Ok(self.run_dir.metric(&record)?)
    }
}
