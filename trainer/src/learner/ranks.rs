//! What a learner does together with the other ranks.

use std::rc::Rc;

use shards::batch::HostBatch;
use tch::Tensor;

use super::Learner;
use super::step::structures;
use crate::distributed::{Asked, DistributedError, Together, World};
use crate::ema::Ema;
use crate::loss::LossCounts;

/// A global batch as all ranks know it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Whole {
    /// What its losses are divided by.
    pub(super) counts: LossCounts,
    /// Its structures.
    pub(super) structures: u64,
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

    /// What this rank asks of all in the next step.
    pub fn ask(&mut self, asked: Asked) {
        self.asked = asked;
    }

    /// What the losses of the last step were divided by, over all ranks.
    pub fn last_counts(&self) -> LossCounts {
        self.whole.counts
    }

    /// Sets what the losses of a step are divided by, and its structures, over all ranks.
    pub(super) fn count(&mut self, micro_batches: &[HostBatch]) -> Result<Whole, DistributedError> {
        let mut own = LossCounts::default();
        micro_batches.iter().for_each(|batch| own.add(self.loss.counts(batch)));
        let mut values = [own.energies, own.forces, structures(micro_batches) as f64];
        self.together.world().sum(&mut values)?;
        let [energies, forces, structures] = values;
        self.whole = Whole { counts: LossCounts { energies, forces }, structures: structures as u64 };
        Ok(self.whole)
    }

    /// Makes the gradients, or those of each task, the sums over ranks.
    pub(super) fn exchange_gradients(&mut self) -> Result<(), DistributedError> {
        let Some(surgery) = &mut self.surgery else { return self.together.sum_gradients() };
        (0..surgery.len()).try_for_each(|task| self.together.world().sum_tensor(surgery.gradient(task)))
    }
}
