//! Commands that run alone, as one rank of several, or as the parent of ranks on this machine.

use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tch::Device;

use super::forwarded::ForwardedSignals;
use crate::distributed::{Launch, Outcome, Place, Spawn, World};

/// How many processes work together.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct RanksArgs {
    /// Work with this many ranks on this machine, a process each. Under torchrun and srun leave it out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ranks: Option<u32>,
}

/// What a rank needs to know before it meets the others.
pub(super) struct Meeting {
    /// Where it computes.
    pub(super) device: Device,
    /// How long it waits for the others.
    pub(super) timeout: Duration,
}

impl RanksArgs {
    /// Prepares and works, here or on each of the ranks that this process starts; the exit code.
    pub(super) fn run<T>(
        self,
        prepare: impl FnOnce(Option<&Place>) -> anyhow::Result<(T, Meeting)>,
        work: impl FnOnce(T, &Rc<World>, Device) -> anyhow::Result<u8>,
    ) -> anyhow::Result<u8> {
        match Launch::detect(self.ranks)? {
            Launch::Spawn(ranks) => start(ranks),
            Launch::Alone => {
                let (prepared, meeting) = prepare(None)?;
                work(prepared, &Rc::new(World::alone()), meeting.device)
            }
            Launch::Rank(place) => {
                let (prepared, Meeting { device, timeout }) = prepare(Some(&place))?;
                let world = Rc::new(World::join(&place, timeout, device)?);
                match work(prepared, &world, device) {
                    Ok(code) => world.leave().map(|()| code).map_err(anyhow::Error::from),
                    Err(error) => {
                        world.fail(&error);
                        Err(error)
                    }
                }
            }
        }
    }
}

/// Starts ranks and only watches them.
fn start(ranks: u32) -> anyhow::Result<u8> {
    let signals = ForwardedSignals::listen().context("listening for signals")?;
    let Outcome { code, failure } = Spawn::start(ranks)?.wait(|| signals.next())?;
    if let Some(failure) = failure {
        // Nobody is left to tell a closed standard error.
        drop(writeln!(std::io::stderr(), "error: {failure}"));
    }
    Ok(code)
}
