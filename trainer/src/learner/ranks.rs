//! What a learner does together with the other ranks.

use std::rc::Rc;

use shards::batch::HostBatch;
use shards::stream::Totals;
use tch::Tensor;

use super::Learner;
use crate::distributed::{Asked, DistributedError, Together, World};
use crate::ema::Ema;
use crate::loss::{Loss, LossCounts};

/// A global batch as all ranks know it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Whole {
    /// What its losses are divided by.
    pub counts: LossCounts,
    /// Its structures.
    pub structures: u64,
}

impl Whole {
    /// Of micro-batches that are all here.
    pub fn counted(loss: &Loss, micro_batches: &[HostBatch]) -> Self {
        let mut counts = LossCounts::default();
        micro_batches.iter().for_each(|batch| counts.add(loss.counts(batch)));
        Self { counts, structures: micro_batches.iter().map(|b| b.structures() as u64).sum() }
    }

    /// As the plan has it, which all ranks know without asking each other.
    pub fn planned(loss: &Loss, totals: &Totals) -> Self {
        Self { counts: loss.planned_counts(&totals.all), structures: totals.all.structures }
    }

    /// Of `ranks` ranks that have such micro-batches each.
    #[must_use]
    pub fn of_each(self, ranks: u32) -> Self {
        let LossCounts { energies, forces } = self.counts;
        let times = f64::from(ranks);
        Self {
            counts: LossCounts { energies: energies * times, forces: forces * times },
            structures: self.structures * u64::from(ranks),
        }
    }
}

impl Learner {
    /// Learns together with the other ranks from here on: all start from rank 0's weights. `recomputes` tells whether the
    /// network runs blocks twice.
    pub fn join(&mut self, world: Rc<World>, recomputes: bool) -> Result<(), DistributedError> {
        let (first, second) = self.optimizer.moments();
        let mut tensors = vec![self.parameters.values(), first, second];
        tensors.extend(self.ema.as_ref().map(Ema::average));
        let mut tensors: Vec<Tensor> = tensors.into_iter().map(Tensor::shallow_clone).collect();
        tensors.extend(self.network.buffers().into_values());
        world.broadcast(&tensors)?;
        // PCGrad's gradients are exchanged one task after the other.
        let overlaps = !recomputes && self.surgery.is_none();
        self.together = Together::new(world, &self.parameters, overlaps)?;
        Ok(())
    }

    /// How losses are made.
    pub fn loss(&self) -> &Loss {
        &self.loss
    }

    /// What the losses of the last step were divided by, over all ranks.
    pub fn last_counts(&self) -> LossCounts {
        self.begun.whole.counts
    }

    /// What any rank asked at the end of the last step.
    pub fn last_asked(&self) -> Asked {
        self.begun.asked
    }

    /// Makes the gradients, or those of each task, the sums over ranks.
    pub(super) fn exchange_gradients(&mut self) -> Result<(), DistributedError> {
        let Some(surgery) = &mut self.surgery else { return self.together.sum_gradients() };
        (0..surgery.len()).try_for_each(|task| self.together.world().sum_tensor(surgery.gradient(task)))
    }
}
