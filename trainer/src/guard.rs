//! Failures of libtorch that deserve a better message than a panic: memory that is not there.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use shards::batch::HostBatch;
use tch::TchError;
use thiserror::Error;

thread_local! {
    /// Whether this thread is inside [`out_of_memory`], where panics of the kind are no news.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What libtorch did not do.
#[derive(Debug, Error)]
pub enum Refusal {
    /// There was not enough memory; libtorch's words.
    #[error("{0}")]
    Memory(String),
    /// Anything else.
    #[error(transparent)]
    Torch(TchError),
}

/// Runs `work`, in which tch's operations panic, and the shim's return an error, where libtorch cannot allocate; both become
/// [`Refusal::Memory`]. Other panics go on.
///
/// What `work` has changed stays as it was left.
pub fn out_of_memory<T>(work: impl FnOnce() -> Result<T, TchError>) -> Result<T, Refusal> {
    silence_expected_panics();
    GUARDED.set(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    let done = done.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        match text.or_else(|| payload.downcast_ref::<&str>().copied()) {
            Some(text) if allocation_failure(text).is_some() => Err(TchError::Torch(text.to_owned())),
            _ => panic::resume_unwind(payload),
        }
    });
    done.map_err(|error| match allocation_failure(&error.to_string()) {
        Some(told) => Refusal::Memory(told),
        None => Refusal::Torch(error),
    })
}

/// libtorch's sentence about memory in a panic's message, if it is about that.
fn allocation_failure(message: &str) -> Option<String> {
    let signs = ["can't allocate memory", "not enough memory", "out of memory"];
    let begin = signs.iter().filter_map(|sign| message.find(sign)).min()?;
    // The panic shows the message as a debugger would, with line ends written out; what follows the first is the stack.
    let line = message[begin..].split("\\n").next().unwrap_or_default();
    Some(line.split(['\n', '"']).next().unwrap_or_default().to_owned())
}

/// The default hook would tell of a panic that is about to become an error.
fn silence_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let expected =
                GUARDED.get() && info.payload_as_str().is_some_and(|m| allocation_failure(m).is_some());
            if !expected {
                tell(info);
            }
        }));
    });
}

/// Sizes of a micro-batch, in words.
pub fn sizes(batch: &HostBatch) -> String {
    let graph = &batch.graph;
    format!(
        "{} structures, {} atoms, {} edges, {} quadruplet edges, {} atom-atom edges",
        batch.structures(),
        batch.atoms(),
        graph.main.edges.source.len(),
        graph.quadruplet.edges.source.len(),
        graph.atom_atom.source.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn an_allocation_that_fails_becomes_an_error_in_libtorchs_words() {
        // 2^52 bytes are more than any address space holds.
        // Most of tch's functions panic, some return an error.
        let whole = (Kind::Float, Device::Cpu);
        for attempt in [
            out_of_memory(|| Ok(Tensor::zeros([1 << 50], whole))),
            out_of_memory(|| Tensor::f_zeros([1 << 50], whole)),
        ] {
            let Err(Refusal::Memory(told)) = &attempt else { panic!("{attempt:?}") };
            assert!(told.contains("memory") && told.len() < 200, "{told}");
        }
        assert_eq!(out_of_memory(|| Ok(3)).unwrap(), 3);
    }

    #[test]
    fn other_errors_stay_what_they_are() {
        let done = out_of_memory(|| {
            Tensor::from_slice(&[1.0]).f_matmul(&Tensor::zeros([2], (Kind::Double, Device::Cpu)))
        });
        assert!(matches!(done, Err(Refusal::Torch(_))), "{done:?}");
    }

    #[test]
    fn other_panics_go_on() {
        let outcome = panic::catch_unwind(|| out_of_memory::<()>(|| panic!("something else")));
        assert_eq!(outcome.unwrap_err().downcast_ref::<&str>(), Some(&"something else"));
    }
}
