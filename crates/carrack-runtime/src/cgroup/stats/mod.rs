//! What a container uses, as the kernel counts it, whichever version of cgroups counts.
//!
//! Invariant: a number that nothing counts is absent or zero, never made up. On a host with v1 a container is only in
//! the hierarchies that its limits need, because joining one costs as much as the rest of a start: what those do not
//! count is summed up over the container's processes.

use std::collections::BTreeMap;

use super::Cgroup;
use crate::Result;

mod network;
mod processes;
mod v1;
mod v2;

pub use network::{Interface, network_interfaces};

/// What a container uses at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Time on CPUs.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub tasks: Tasks,
    /// Traffic with block devices; one entry a device, or one of number 0:0 for all of them.
    pub block_io: Vec<BlockIo>,
}

/// Time on CPUs since the container began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All of it, in nanoseconds.
    pub usage_ns: u64,
    /// In programs.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Periods of the quota that have passed.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// How long processes waited for the next period.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All that is charged to the container, page cache among it.
    pub usage_bytes: u64,
    /// The most that it was, where that is counted.
    pub max_usage_bytes: Option<u64>,
    /// The limit, where there is one.
    pub limit_bytes: Option<u64>,
    /// Page cache.
    pub cache_bytes: u64,
    /// The part of it that has not been used for long; the kernel takes it back when it needs memory.
    pub inactive_file_bytes: u64,
    /// Swap in use.
    pub swap_bytes: u64,
    /// How often the limit was hit.
    pub limit_hits: u64,
    /// How many processes were killed for want of memory.
    pub oom_kills: u64,
    /// Everything in the kernel's `memory.stat`, by its names.
    pub details: BTreeMap<String, u64>,
}

impl Memory {
    /// What Docker shows: without page cache that has not been used for long.
    pub fn working_set_bytes(&self) -> u64 {
        self.usage_bytes.saturating_sub(self.inactive_file_bytes)
    }
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// How many there are.
    pub current: u64,
    /// How many there may be, where that is limited.
    pub limit: Option<u64>,
}

/// Traffic with a block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// The device's major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

impl Cgroup {
    /// What the container uses now.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        let mut counted = Counted::default();
        if let Some(folder) = &self.v2 {
            v2::add(&mut stats, &mut counted, folder)?;
        }
        for hierarchy in &self.v1 {
            v1::add(&mut stats, &mut counted, hierarchy)?;
        }
        processes::add(&mut stats, &counted, &self.processes()?);
        Ok(stats)
    }
}

/// What the cgroup has counted, so that it is not to be summed up over processes.
#[derive(Default)]
struct Counted {
    cpu: bool,
    memory: bool,
    tasks: bool,
    block_io: bool,
}

/// Lines of `name number`.
fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests;
