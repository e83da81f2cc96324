//! All ranks of a run, seen from one of them; a run on one device is a world of one.

use std::rc::Rc;
use std::time::Duration;

use tch::{Device, Tensor};

use super::error::DistributedError;
use super::link::Link;
use super::place::Place;

/// The ranks of a run.
///
/// Every rank must call the same functions in the same order; each waits for all.
#[derive(Debug)]
pub struct World {
    rank: u32,
    ranks: u32,
    link: Option<Link>,
}

impl World {
    /// One process and no other.
    pub fn alone() -> Self {
        Self { rank: 0, ranks: 1, link: None }
    }

    /// Meets the other ranks. Whoever does not answer for `timeout`, now or later, is lost.
    pub fn join(place: &Place, timeout: Duration, device: Device) -> Result<Self, DistributedError> {
        let link = Link::join(place, timeout, device)?;
        Ok(Self { rank: place.rank, ranks: place.ranks, link: Some(link) })
    }

    /// This rank, from 0.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// How many there are.
    pub fn ranks(&self) -> u32 {
        self.ranks
    }

    /// Whether this rank writes what a run leaves behind.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Adds up `values` over all ranks, in place; every rank gets the same bits.
    pub fn sum(&self, values: &mut [f64]) -> Result<(), DistributedError> {
        self.link.as_ref().map_or(Ok(()), |link| link.sum(values))
    }

    /// Adds up a tensor over all ranks, in place.
    pub fn sum_tensor(&self, tensor: &Tensor) -> Result<(), DistributedError> {
        self.link.as_ref().map_or(Ok(()), |link| link.sum_tensor(tensor))
    }

    /// Whether any rank says yes.
    pub fn any(&self, yes: bool) -> Result<bool, DistributedError> {
        let mut count = [f64::from(u8::from(yes))];
        self.sum(&mut count)?;
        Ok(count[0] > 0.0)
    }

    /// Every rank's bytes, by rank.
    pub fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, DistributedError> {
        self.link.as_ref().map_or_else(|| Ok(vec![bytes.to_vec()]), |link| link.gather(bytes))
    }

    /// Gives all ranks rank 0's values of these tensors, in place.
    pub fn broadcast(&self, tensors: &[Tensor]) -> Result<(), DistributedError> {
        self.link.as_ref().map_or(Ok(()), |link| link.broadcast(tensors))
    }

    /// The result of something every rank did for itself, if all succeeded; otherwise an error on every rank: its own, or
    /// the first rank's that failed.
    pub fn agree<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        let Some(link) = &self.link else { return result };
        let message = result.as_ref().err().map(|e| format!("{e:#}")).unwrap_or_default();
        let messages = link.gather(message.as_bytes())?;
        let value = result?;
        match messages.iter().position(|message| !message.is_empty()) {
            None => Ok(value),
            Some(other) => Err(DistributedError::Other {
                rank: self.rank,
                other: other.to_string(),
                message: String::from_utf8_lossy(&messages[other]).into_owned(),
            }
            .into()),
        }
    }

    /// Refuses ranks whose `value` is not rank 0's; `differences` puts into words how a second value differs from a first, and
    /// gives none where that does not matter.
    pub fn same(
        &self,
        what: &'static str,
        value: &str,
        differences: impl Fn(&str, &str) -> Vec<String>,
    ) -> Result<(), DistributedError> {
        let values = self.gather(value.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let first = text(&values[0]);
        for (rank, value) in values.iter().enumerate() {
            let differences = differences(&first, &text(value));
            if !differences.is_empty() {
                let differences = differences.join("; ");
                return Err(DistributedError::Disagree { rank: rank as u32, what, differences });
            }
        }
        Ok(())
    }

    /// Lets the others know that this rank was asked to stop. They agree on it later; until then it saves them work in vain.
    pub fn tell_stop(&self) {
        self.link.iter().for_each(Link::tell_stop);
    }

    /// Whether another rank was asked to stop, as far as is known by now.
    pub fn is_stop_told(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_stop_told)
    }

    /// Tells the others why this rank stops, so that none of them waits in vain.
    pub fn fail(&self, error: &anyhow::Error) {
        let Some(link) = &self.link else { return };
        let own = self.rank.to_string();
        match error.downcast_ref() {
            // Whichever comes first tells of the rank that is to blame.
            Some(DistributedError::Other { other, message, .. }) => link.fail(other, message),
            Some(DistributedError::Lost { during, message, .. }) => {
                link.fail(&own, &format!("it lost others during {during}: {message}"));
            }
            _ => link.fail(&own, &format!("{error:#}")),
        }
    }

    /// Ends the run together with the others.
    pub fn leave(self: Rc<Self>) -> Result<(), DistributedError> {
        let Some(link) = &self.link else { return Ok(()) };
        link.say_goodbye()?;
        // Held elsewhere, the connection ends with the process.
        if let Ok(Self { link: Some(link), .. }) = Rc::try_unwrap(self) {
            link.free();
        }
        Ok(())
    }

    /// The connection to the other ranks.
    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }
}
