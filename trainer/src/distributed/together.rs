//! What the ranks of a run share in each step: the gradient, the loss, and what any of them asks.

use std::rc::Rc;

use super::error::DistributedError;
use super::exchange::{BUCKET_BYTES, Exchange};
use super::world::World;
use crate::loss::TaskSums;
use crate::parameters::Parameters;

/// What a rank asks of all at the end of a step, and what any of them has asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Asked {
    /// To stop, because it was signalled.
    pub stop: bool,
    /// To stop, because the time is over.
    pub late: bool,
    /// To save, because it was signalled.
    pub save: bool,
    /// To leave the weights as they were, because it has not done its part of the step.
    pub give_up: bool,
}

impl Asked {
    /// What any rank asks.
    pub fn of_all(self, world: &World) -> Result<Self, DistributedError> {
        let mut values = self.values();
        world.sum(&mut values)?;
        Ok(Self::from_values(values))
    }

    fn values(self) -> [f64; 4] {
        [self.stop, self.late, self.save, self.give_up].map(|yes| f64::from(u8::from(yes)))
    }

    fn from_values(values: [f64; 4]) -> Self {
        let [stop, late, save, give_up] = values.map(|count| count > 0.0);
        Self { stop, late, save, give_up }
    }
}

/// A learner's part in a world of ranks.
#[derive(Debug)]
pub struct Together {
    world: Rc<World>,
    exchange: Exchange,
}

impl Together {
    /// Without other ranks.
    pub fn alone() -> Self {
        Self { world: Rc::new(World::alone()), exchange: Exchange::none() }
    }

    /// With the other ranks; `overlaps` as [`Exchange::new`] has it.
    pub fn new(world: Rc<World>, parameters: &Parameters, overlaps: bool) -> Result<Self, DistributedError> {
        let exchange = Exchange::new(&world, parameters, BUCKET_BYTES, overlaps)?;
        Ok(Self { world, exchange })
    }

    /// The ranks.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// To be called before the last backward pass of a step.
    pub fn before_last_backward(&mut self) {
        self.exchange.arm();
    }

    /// Makes the gradients the sum over ranks.
    pub fn sum_gradients(&mut self) -> Result<(), DistributedError> {
        self.exchange.finish(&self.world)
    }

    /// Makes loss and sums those of the global batch. The gradient's norm becomes rank 0's, as processors of different
    /// kinds may differ in its last bit, and all must clip alike.
    pub fn sum_step(
        &self,
        loss: &mut f64,
        norm: &mut f64,
        sums: &mut TaskSums,
        asked: Asked,
    ) -> Result<Asked, DistributedError> {
        if self.world.ranks() == 1 {
            return Ok(asked);
        }
        let parts = sums.parts_mut();
        let mut values = vec![*loss, if self.world.is_first() { *norm } else { 0.0 }];
        values.extend(parts.iter().flat_map(|part| part.iter()));
        values.extend(asked.values());
        self.world.sum(&mut values)?;
        (*loss, *norm) = (values[0], values[1]);
        let mut sums = values.into_iter().skip(2);
        let parts = parts.into_iter().flat_map(|part| part.iter_mut());
        parts.zip(&mut sums).for_each(|(part, sum)| *part = sum);
        Ok(Asked::from_values(std::array::from_fn(|_| sums.next().unwrap_or_default())))
    }
}
