//! How an epoch is shared among lanes.
//!
//! A lane is an independent part of the order: it mixes all datasets in their shares of the epoch and draws each from a
//! stretch of row groups of its own. Every global batch takes the same number of micro-batches from each lane. So a rank
//! decodes what its lanes need, and the number of lanes, not of ranks, is part of the order.

use super::mix::Interleave;

/// The lanes of an epoch.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    mix: Interleave,
    count: u64,
    /// Structures of a full global batch, where that is fixed.
    global: Option<u64>,
}

/// One lane's part of an epoch.
#[derive(Debug, Clone)]
pub(crate) struct LanePart {
    /// Positions of the epoch before the lane's own.
    pub(crate) start: u64,
    /// Of each dataset's structures in the epoch, those before the lane's own.
    pub(crate) first: Vec<u64>,
    /// Turns of the lane.
    pub(crate) mix: Interleave,
}

impl Lanes {
    /// `count` lanes over the epoch of `mix`. `global`: structures of a global batch, a multiple of `count`.
    pub(crate) fn new(mix: Interleave, count: u64, global: Option<u64>) -> Self {
        Self { mix, count, global }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Structures of an epoch.
    pub(crate) fn total(&self) -> u64 {
        self.mix.total()
    }

    /// Structures that each dataset contributes to an epoch.
    pub(crate) fn expanded(&self) -> &[u64] {
        self.mix.expanded()
    }

    /// Positions of the epoch before a lane: full global batches give all lanes alike, the rest is cut evenly.
    fn start(&self, lane: u64) -> u64 {
        let (total, count) = (self.mix.total(), self.count);
        let full = self.global.map_or(0, |global| total / global * (global / count));
        let rest = total - full * count;
        full * lane + (u128::from(rest) * u128::from(lane) / u128::from(count)) as u64
    }

    /// The part of a lane below [`Lanes::count`].
    pub(crate) fn part(&self, lane: u64) -> LanePart {
        let (start, end) = (self.start(lane), self.start(lane + 1));
        let (first, last) = (self.mix.counts(start), self.mix.counts(end));
        let own = first.iter().zip(&last).map(|(a, b)| b - a).collect();
        LanePart { start, first, mix: Interleave::new(own) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lanes_share_every_dataset_without_gap(
            sizes in prop::collection::vec(1u64..300, 1..5), count in 1u64..9, each in 1u64..5, budget in any::<bool>()
        ) {
            let mix = Interleave::new(sizes.clone());
            let total = mix.total();
            let global = (!budget).then_some(count * each);
            let lanes = Lanes::new(mix, count, global);
            let mut next = vec![0; sizes.len()];
            let mut position = 0;
            for lane in 0..count {
                let part = lanes.part(lane);
                prop_assert_eq!(part.start, position);
                prop_assert_eq!(&part.first, &next);
                for (n, own) in next.iter_mut().zip(part.mix.expanded()) { *n += own; }
                if let Some(global) = global {
                    // All full global batches, and at most one more share of the last.
                    let full = total / global * each;
                    prop_assert!((full..=full + each).contains(&part.mix.total()));
                }
                position += part.mix.total();
            }
            prop_assert_eq!(next, sizes);
            prop_assert_eq!(position, total);
        }
    }
}
