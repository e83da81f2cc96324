//! Adding up the gradient over all ranks, while the backward pass still runs.

use tch::Tensor;

use super::error::DistributedError;
use super::ffi::RawExchange;
use super::world::World;
use crate::parameters::{Parameter, Parameters};

/// Bytes of a bucket, about: long enough that the wait between buckets does not count, short enough to be sent early.
pub const BUCKET_BYTES: usize = 16 << 20;

/// Tensors that a batch may leave unused: heads of joint training, whose datasets are not in every batch.
const SOMETIMES_UNUSED: &str = "output.";

/// The exchange of gradients of a run's parameters; does nothing in a world of one.
#[derive(Debug)]
pub struct Exchange {
    raw: Option<RawExchange>,
    overlaps: bool,
}

impl Exchange {
    /// Of a world of one: nothing to exchange.
    pub fn none() -> Self {
        Self { raw: None, overlaps: false }
    }

    /// For the gradients of `parameters`, in buckets of about `bytes`.
    ///
    /// `overlaps` sends buckets during the backward pass. It must be false where blocks are recomputed: their gradients come
    /// in parts, and nothing tells the last.
    pub fn new(
        world: &World,
        parameters: &Parameters,
        bytes: usize,
        overlaps: bool,
    ) -> Result<Self, DistributedError> {
        let Some(link) = world.link() else { return Ok(Self::none()) };
        let width = parameters.values().kind().elt_size_in_bytes();
        let buckets = Buckets::cut(parameters.entries(), (bytes / width).max(1) as i64);
        let (flat, leaves): (&Tensor, &[Tensor]) = (parameters.gradients(), parameters.tensors());
        let raw =
            RawExchange::new(&link.group, flat, &buckets.bounds, buckets.always, leaves, &buckets.of_leaf);
        Ok(Self { raw: Some(link.told(raw, "the set-up of gradients")?), overlaps })
    }

    /// To be called before the last backward pass of a step: from then on no gradient changes once it is there.
    pub fn arm(&mut self) {
        if let Some(raw) = self.raw.as_mut().filter(|_| self.overlaps) {
            raw.arm();
        }
    }

    /// Ends the exchange: the gradients of all ranks now are their sum. To be called by every rank once a step, also by one
    /// that had no batch.
    pub fn finish(&mut self, world: &World) -> Result<(), DistributedError> {
        let (Some(raw), Some(link)) = (&mut self.raw, world.link()) else { return Ok(()) };
        link.told(raw.finish(), "the exchange of gradients")
    }
}

/// How a flat gradient is cut.
#[derive(Debug, PartialEq, Eq)]
struct Buckets {
    /// First element of each bucket, and the end.
    bounds: Vec<i64>,
    /// Bucket of each tensor.
    of_leaf: Vec<usize>,
    /// How many buckets hold tensors that every backward pass reaches. These come first, in memory and on the wire, so that
    /// no rank waits with them for a head that it does not use.
    always: usize,
}

impl Buckets {
    fn cut(entries: &[Parameter], elements: i64) -> Self {
        let (mut bounds, mut of_leaf, mut always) = (vec![0], Vec::new(), 0);
        let mut begin = 0;
        let mut last_kind = None;
        for entry in entries {
            let is_sometimes = entry.name.starts_with(SOMETIMES_UNUSED);
            let is_full = entry.range.start - begin >= elements;
            if last_kind.is_some_and(|kind| kind != is_sometimes) || is_full {
                begin = entry.range.start;
                bounds.push(begin);
            }
            last_kind = Some(is_sometimes);
            of_leaf.push(bounds.len() - 1);
            if !is_sometimes {
                always = bounds.len();
            }
        }
        bounds.push(entries.last().map_or(0, |entry| entry.range.end));
        Self { bounds, of_leaf, always }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(sizes: &[(&str, i64)]) -> Vec<Parameter> {
        let mut start = 0;
        let entry = |(name, size): &(&str, i64)| {
            let range = start..start + size;
            start += size;
            Parameter { name: (*name).to_owned(), size: vec![*size], range, group: 0 }
        };
        sizes.iter().map(entry).collect()
    }

    #[test]
    fn heads_have_buckets_of_their_own_at_the_end() {
        let entries = entries(&[
            ("backbone.a", 6),
            ("backbone.b", 6),
            ("embedding", 2),
            ("output.0", 3),
            ("output.1", 30),
        ]);
        let cut = Buckets::cut(&entries, 10);
        assert_eq!(cut, Buckets { bounds: vec![0, 12, 14, 47], of_leaf: vec![0, 0, 1, 2, 2], always: 2 });
        let cut = Buckets::cut(&entries, 1000);
        assert_eq!(cut, Buckets { bounds: vec![0, 14, 47], of_leaf: vec![0, 0, 0, 1, 1], always: 1 });
    }

    #[test]
    fn one_tensor_is_never_cut() {
        let cut = Buckets::cut(&entries(&[("a", 100), ("b", 1), ("c", 100)]), 10);
        assert_eq!(cut, Buckets { bounds: vec![0, 100, 201], of_leaf: vec![0, 1, 1], always: 2 });
    }
}
