//! What a session does with a global batch that cannot be learnt from, and with a validation that tells nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::outcome::{LeftOutRecord, SkipRecord};
use super::{Session, errors_text};
use crate::config::sections::NonFinite;
use crate::data::GlobalBatch;
use crate::distributed::DistributedError;
use crate::failure::{Failure, Part};
use crate::learner::StepError;
use crate::metrics::Errors;

impl Session<'_> {
    /// Keeps a batch whose loss or gradient is not finite, and passes over it if that is allowed. Every rank comes here or to
    /// [`Self::pass_over_with_others`].
    pub(super) fn pass_over(&mut self, error: StepError, batch: &GlobalBatch) -> anyhow::Result<()> {
        let kept = format!("kept for `jmp-train replay {}`", self.keep(&error, batch)?.display());
        let Some(spent) = self.is_stopped() else {
            let told = format!("{error}; {kept}");
            self.tell_once_kept(&told)?;
            return self.skip(error.to_string(), &told);
        };
        let stop = anyhow::Error::new(error).context(format!("the run stopped{spent}; {kept}"));
        self.tell_once_kept(&format!("{stop:#}"))?;
        Err(stop)
    }

    /// What [`Self::pass_over`] comes to on the ranks that keep nothing of the step.
    pub(super) fn pass_over_with_others(&mut self, error: &StepError) -> anyhow::Result<()> {
        let (other, message) = self.tell_once_kept("")?;
        if self.is_stopped().is_some() {
            let (rank, other) = (self.world.rank(), other.to_string());
            return Err(DistributedError::Other { rank, other, message }.into());
        }
        self.skip(error.to_string(), &format!("rank {other}: {message}"))
    }

    /// Writes the micro-batches to blame, or all that this rank has, with the weights of the step. Returns where.
    fn keep(&self, error: &StepError, batch: &GlobalBatch) -> anyhow::Result<PathBuf> {
        let StepError::NonFinite { part, .. } = error else { anyhow::bail!("{error}") };
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
        Ok(failure.write(self.run_dir.path(), rank, self.info()?, self.learner.state())?)
    }

    /// Waits until every rank has written what it keeps of a step, so that none ends, and brings the others down, while another
    /// writes. Returns the first rank that kept something, and what it told.
    fn tell_once_kept(&self, told: &str) -> Result<(usize, String), DistributedError> {
        let mut all = self.world.gather(told.as_bytes())?;
        let first = all.iter().position(|told| !told.is_empty()).unwrap_or_default();
        Ok((first, String::from_utf8_lossy(&all.swap_remove(first)).into_owned()))
    }

    /// Goes on behind a step that was passed over.
    fn skip(&mut self, error: String, told: &str) -> anyhow::Result<()> {
        self.memory.skipped += 1;
        let step = self.learner.position().step;
        self.learner.pass_over();
        let text = format!("step {step} skipped: {told}");
        self.watch.event(&text, &SkipRecord { kind: "skipped", step: step + 1, told: error });
        Ok(self.run_dir.log(&text)?)
    }

    /// Counts and tells the structures that are not in a global batch because they are too large.
    pub(super) fn leave_out(&mut self, batch: &GlobalBatch) -> anyhow::Result<()> {
        let count = batch.skipped.len() as u64;
        if count == 0 {
            return Ok(());
        }
        self.learner.leave_out(count);
        self.memory.left_out += count;
        let mut rows: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for row in &batch.skipped {
            rows.entry(self.tasks[row.dataset as usize].record.name.clone()).or_default().push(row.row);
        }
        let (step, all) = (self.learner.position().step, self.memory.left_out);
        let list = |(name, rows): (&String, &Vec<u64>)| {
            let numbers: Vec<String> = rows.iter().map(u64::to_string).collect();
            format!("{name} row {}", numbers.join(", "))
        };
        let list = rows.iter().map(list).collect::<Vec<_>>().join("; ");
        self.run_dir.log(&format!(
            "step {step}: {count} structures left out for their size ({list}), {all} so far"
        ))?;
        Ok(self.run_dir.metric(&LeftOutRecord { kind: "left-out", step, all, rows })?)
    }

    /// Whether `[guard]` lets nothing more be passed over; what is used up, to be told.
    fn is_stopped(&self) -> Option<String> {
        let guard = &self.config.guard;
        match guard.non_finite {
            NonFinite::Stop => Some(String::new()),
            NonFinite::Skip if self.memory.skipped >= guard.max_skips.get() => {
                Some(format!("; guard.max_skips = {} are used up", guard.max_skips.get()))
            }
            NonFinite::Skip => None,
        }
    }

    /// Stops, or counts a validation whose metric is not finite, as `[guard]` has it. It is never the best one, and one more
    /// without improvement.
    pub(super) fn pass_over_validation(
        &mut self,
        metric: f64,
        tasks: &BTreeMap<String, Errors>,
    ) -> anyhow::Result<()> {
        let step = self.learner.position().step;
        let error = format!("step {step}: the validation's metric is {metric} ({})", errors_text(tasks));
        if let Some(spent) = self.is_stopped() {
            anyhow::bail!(
                "the run stopped{spent}: {error}; --resume goes on from the last checkpoint, with --set \
                 guard.non_finite=skip past such validations; a smaller optimizer.lr is the usual cure"
            );
        }
        self.memory.skipped += 1;
        self.memory.stale_validations += 1;
        let record = SkipRecord { kind: "skipped", step, told: error.clone() };
        self.watch.event(&error, &record);
        self.run_dir.log(&error)?;
        Ok(self.run_dir.metric(&record)?)
    }
}
