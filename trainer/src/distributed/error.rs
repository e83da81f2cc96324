//! What goes wrong between ranks.

use thiserror::Error;

/// Why ranks cannot train together, or no longer can.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DistributedError {
    /// The launcher's variables make no sense.
    #[error("{variable}: expected {expected}, found {found}")]
    Variable {
        /// Environment variable.
        variable: &'static str,
        /// What would be good.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// What the command line asks for does not go with how the program was launched.
    #[error("{0}")]
    Launch(String),
    /// Built without the feature.
    #[error(
        "{ranks} ranks: this jmp-train was built without the feature `distributed` and trains on one device; build it with \
         `cargo build --release`"
    )]
    NotBuilt {
        /// Ranks wanted.
        ranks: u32,
    },
    /// Another libtorch than the one the shim was compiled for.
    #[error(
        "training on several ranks needs libtorch {built}, the loaded one says: {found}; make LIBTORCH and LD_LIBRARY_PATH name \
         {built}"
    )]
    Version {
        /// Version at build time.
        built: String,
        /// What the library says of itself.
        found: String,
    },
    /// The ranks did not find each other.
    #[error(
        "rank {rank} of {ranks} could not join the others at {host}:{port}: {message}; check that all ranks were started, with one \
         MASTER_ADDR and MASTER_PORT that all can reach (run.distributed_timeout is {seconds} s)"
    )]
    Join {
        /// This rank.
        rank: u32,
        /// All ranks.
        ranks: u32,
        /// Where the ranks meet.
        host: String,
        /// Its port.
        port: u16,
        /// What libtorch says.
        message: String,
        /// How long was waited at most.
        seconds: u64,
    },
    /// Another rank failed, and said why.
    #[error("rank {rank} stops because rank {other} failed: {message}")]
    Other {
        /// This rank.
        rank: u32,
        /// The rank that failed.
        other: String,
        /// What it said.
        message: String,
    },
    /// A rank ended without a word, or the network failed.
    #[error(
        "rank {rank} lost the other ranks during {during}: {message}; one of them was killed, hangs, or cannot be reached. \
         Look at the output of the others, then go on from the last checkpoint with --resume"
    )]
    Lost {
        /// This rank.
        rank: u32,
        /// What was being done together.
        during: &'static str,
        /// What libtorch says.
        message: String,
    },
    /// Ranks do not agree on what must be one for all.
    #[error("rank {rank} has another {what} than rank 0: {differences}; all ranks need the same")]
    Disagree {
        /// A rank that differs.
        rank: u32,
        /// In what.
        what: &'static str,
        /// How.
        differences: String,
    },
    /// A started process could not be handled.
    #[error("{action}")]
    Process {
        /// What was tried.
        action: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl DistributedError {
    /// Whether what the user wrote is to blame.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Self::Variable { .. } | Self::Launch(_) | Self::NotBuilt { .. } | Self::Disagree { .. }
        )
    }

    /// Whether another rank is to blame.
    pub fn is_of_others(&self) -> bool {
        matches!(self, Self::Other { .. } | Self::Lost { .. })
    }
}
