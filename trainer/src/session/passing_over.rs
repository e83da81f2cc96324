//! What a session does with a global batch that cannot be learnt from.

use super::Session;
use super::outcome::SkipRecord;
use crate::config::sections::NonFinite;
use crate::data::GlobalBatch;
use crate::failure::{Failure, Part};
use crate::learner::StepError;

impl Session<'_> {
    /// Keeps a batch whose loss or gradient is not finite, and passes over it if that is allowed.
    pub(super) fn pass_over(&mut self, error: StepError, batch: &GlobalBatch) -> anyhow::Result<()> {
        let StepError::NonFinite { part, .. } = &error else { return Err(error.into()) };
        let numbers = part.map_or(0..batch.parts.len(), |part| part..part + 1);
        let counts = self.learner.last_counts();
        let failure = Failure {
            told: error.to_string(),
            energies: counts.energies,
            forces: counts.forces,
            parts: numbers
                .map(|number| Part {
                    number: batch.parts[number].index as usize,
                    batch: batch.parts[number].clone(),
                })
                .collect(),
        };
        let rank = self.world.rank();
        let dir = failure.write(self.run_dir.path(), rank, self.info()?, self.learner.state())?;
        let kept = format!("kept for `jmp-train replay {}`", dir.display());
        let guard = &self.config.guard;
        if guard.non_finite == NonFinite::Stop || self.memory.skipped >= guard.max_skips.get() {
            let spent = match guard.non_finite {
                NonFinite::Stop => String::new(),
                NonFinite::Skip => format!("; guard.max_skips = {} are used up", guard.max_skips.get()),
            };
            return Err(anyhow::Error::new(error).context(format!("the run stopped{spent}; {kept}")));
        }
        self.memory.skipped += 1;
        let step = self.learner.position().step;
        self.learner.pass_over();
        let text = format!("step {step} skipped: {error}; {kept}");
        self.watch.event(&text, &SkipRecord { kind: "skipped", step: step + 1, told: error.to_string() });
        Ok(self.run_dir.log(&text)?)
    }

    /// What [`Self::pass_over`] comes to on the ranks that are not to blame.
    pub(super) fn pass_over_with_others(&mut self, error: &StepError) -> anyhow::Result<()> {
        let guard = &self.config.guard;
        if guard.non_finite == NonFinite::Stop || self.memory.skipped >= guard.max_skips.get() {
            return Err(self.world.failure_of_another(&error.to_string()).into());
        }
        self.memory.skipped += 1;
        let step = self.learner.position().step;
        self.learner.pass_over();
        let text = format!("step {step} skipped: {error}");
        self.watch.event(&text, &SkipRecord { kind: "skipped", step: step + 1, told: error.to_string() });
        Ok(self.run_dir.log(&text)?)
    }
}
