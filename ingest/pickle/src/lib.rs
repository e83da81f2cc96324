//! A pickle decoder that executes nothing.
//!
//! A pickle is a program for a small stack machine, and its `GLOBAL` and `REDUCE` opcodes call whatever function the
//! file names. Here the machine is run by us over a closed table of names ([`globals`]): tensors, numpy scalars and
//! arrays, containers and the inert records of torch_geometric. Every other name, opcode or call is an error that says
//! what was met and at which byte.
//!
//! Hostile input costs a bounded amount: declared lengths are checked against what is left of the input before
//! anything is allocated, the number of values, opcodes and copied bytes is limited by [`Limits`], and values refer to one
//! another by index, so that cycles (torch_geometric's `_parent`) and deep nesting need no recursion.

pub mod archive;
pub mod array;
mod globals;
mod machine;
mod numpy;
mod record;
mod run;
pub mod state_dict;
mod torch;
mod value;

use thiserror::Error;

use crate::array::{ArrayError, Blob};
pub use record::{Attribute, Record};
pub use value::{Decoded, Item, TensorHead, Value};

/// What a decoding may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Values that are not plain numbers: strings, containers, tensors, records. Each takes some 100 bytes.
    pub nodes: usize,
}

impl Limits {
    /// Enough for one structure of an LMDB, by a factor of a hundred.
    pub const RECORD: Self = Self { nodes: 1 << 16 };
    /// Enough for a file with a few hundred thousand records.
    pub const FILE: Self = Self { nodes: 1 << 24 };
}

/// A refused pickle.
#[derive(Debug, Error)]
#[error("byte {offset}: {refusal}")]
pub struct PickleError {
    /// Where in the input the offending opcode starts.
    pub offset: usize,
    /// What was wrong.
    pub refusal: Refusal,
}

/// Why a pickle is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A name outside the closed table.
    #[error(
        "the pickle names the global `{name}`, which is not on the list of known names; nothing was executed"
    )]
    Global {
        /// `module.name`.
        name: String,
    },
    /// An opcode that none of the known writers emits.
    #[error("opcode 0x{0:02x} is not one that torch or numpy pickles use")]
    Opcode(u8),
    /// A protocol newer than 5.
    #[error("pickle protocol {0}, expected at most 5")]
    Protocol(u8),
    /// The input ends too early, or a length in it is absurd.
    #[error("{what} needs {needed} bytes but only {left} are left: the pickle is truncated or damaged")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes it needs.
        needed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// A stack or memo slot that does not exist, or holds something else.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the opcode works on.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// More values, opcodes or copies than [`Limits`] allows.
    #[error("more than {limit} {what}: larger than any known file of this kind")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A tensor or array whose description does not fit its bytes.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// A zip archive that is no torch file.
    #[error("torch zip archive: {0}")]
    Zip(String),
}

/// Decodes a pickle, or a file of `torch.save` in its zip or legacy form.
///
/// # Errors
/// Anything that is not made of the known parts; see [`Refusal`].
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Decoded<'_>, PickleError> {
    let mut machine = machine::Machine::new(limits, bytes.len());
    let input = Blob::borrowed(bytes);
    let root = if torch::is_zip(bytes) {
        torch::load_zip(&mut machine, bytes)?
    } else if torch::is_legacy(bytes) {
        torch::load_legacy(&mut machine, &input, 0)?
    } else {
        machine.run_plain(input, 0)?
    };
    machine.finish(root)
}

/// Decodes the `data.pkl` of a torch file ([`archive::TorchArchive::pickle`]) without its storages: tensors come as
/// [`TensorHead`]s. Classes and calls outside the closed table pass as records without content, since checkpoints hold
/// callbacks and settings of every kind; they are not executed here either.
///
/// # Errors
/// Bytes that are no pickle, and tensors that lie outside what their storage claims to have.
pub fn outline(pickle: &[u8], limits: Limits) -> Result<Decoded<'_>, PickleError> {
    let mut machine = machine::Machine::outlining(limits, pickle.len());
    let (root, _) = machine.run(Blob::borrowed(pickle), 0, &mut torch::Persistent::Outline)?;
    machine.finish(root)
}

#[cfg(test)]
mod tests;
