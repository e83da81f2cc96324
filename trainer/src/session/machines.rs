//! On what a run works: what its costs are worked out from.

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;
use tch::Device;

use crate::distributed::{DistributedError, World};

/// The begin of a session as written to `metrics.jsonl`: what follows, up to the next such line, was done so.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct SessionRecord {
    kind: &'static str,
    /// Optimiser steps done before it.
    step: u64,
    /// Minutes of earlier sessions.
    minutes: f64,
    /// `cpu` or `cuda`.
    device: &'static str,
    /// Processes; on GPUs each has one.
    ranks: u32,
    /// Machines that they are on.
    machines: u32,
    /// Threads of a rank's operations.
    threads: u32,
}

impl SessionRecord {
    /// Asks all ranks where they are; every rank must call it.
    pub(super) fn of(
        world: &World,
        device: Device,
        (step, minutes): (u64, f64),
    ) -> Result<Self, DistributedError> {
        let names: BTreeSet<Vec<u8>> = world.gather(host().as_bytes())?.into_iter().collect();
        Ok(Self {
            kind: "session",
            step,
            minutes,
            device: if device.is_cuda() { "cuda" } else { "cpu" },
            ranks: world.ranks(),
            machines: names.len() as u32,
            threads: tch::get_num_threads().max(1) as u32,
        })
    }
}

/// This machine's name, or nothing where the system does not tell: then all ranks count as on one machine.
fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_is_one_rank_on_one_machine() {
        let record = SessionRecord::of(&World::alone(), Device::Cpu, (3, 1.5)).unwrap();
        let told = serde_json::to_value(&record).unwrap();
        assert_eq!((told["kind"].as_str(), told["device"].as_str()), (Some("session"), Some("cpu")));
        assert_eq!((told["ranks"].as_u64(), told["machines"].as_u64()), (Some(1), Some(1)));
        assert_eq!((told["step"].as_u64(), told["minutes"].as_f64()), (Some(3), Some(1.5)));
        assert!(told["threads"].as_u64().unwrap() >= 1);
    }
}
