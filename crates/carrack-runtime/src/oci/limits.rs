//! `update`: other limits for a container that exists.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::bundle::read;
use super::{Container, Status};
use crate::{Error, Result};

/// Limits to set; those that are `None` stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Weight of disk accesses, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Length of a period of CPU time, in microseconds.
    pub cpu_period: Option<u64>,
    /// CPU time in a period, in microseconds.
    pub cpu_quota: Option<i64>,
    /// Relative weight of CPU time.
    pub cpu_shares: Option<u64>,
    /// Length of a period of realtime, in microseconds.
    pub cpu_rt_period: Option<u64>,
    /// Realtime in a period, in microseconds.
    pub cpu_rt_runtime: Option<i64>,
    /// Processors.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Memory.
    pub memory_bytes: Option<i64>,
    /// Memory that is kept for it.
    pub memory_reservation_bytes: Option<i64>,
    /// Memory and swap together.
    pub memory_swap_bytes: Option<i64>,
    /// Processes.
    pub pids_limit: Option<i64>,
}

impl Changes {
    /// As the specification has them.
    pub fn resources(&self) -> LinuxResources {
        let mut resources = LinuxResources::default();
        resources.set_devices(None);
        let mut cpu = LinuxCpu::default();
        cpu.set_period(self.cpu_period)
            .set_quota(self.cpu_quota)
            .set_shares(self.cpu_shares)
            .set_realtime_period(self.cpu_rt_period)
            .set_realtime_runtime(self.cpu_rt_runtime)
            .set_cpus(self.cpuset_cpus.clone())
            .set_mems(self.cpuset_mems.clone());
        if cpu != LinuxCpu::default() {
            resources.set_cpu(Some(cpu));
        }
        let mut memory = LinuxMemory::default();
        memory
            .set_limit(self.memory_bytes)
            .set_reservation(self.memory_reservation_bytes)
            .set_swap(self.memory_swap_bytes);
        if memory != LinuxMemory::default() {
            resources.set_memory(Some(memory));
        }
        if let Some(limit) = self.pids_limit {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            resources.set_pids(Some(pids));
        }
        if self.blkio_weight.is_some() {
            let mut block = LinuxBlockIo::default();
            block.set_weight(self.blkio_weight);
            resources.set_block_io(Some(block));
        }
        resources
    }

    /// Reads resources as JSON of the specification.
    pub fn read(path: &Path) -> Result<LinuxResources> {
        let resources = serde_json::from_slice(&read(path)?);
        resources.map_err(|error| {
            Error::spec(format!("{} has no resources of the specification: {error}", path.display()))
        })
    }
}

impl Container {
    /// Sets limits.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<()> {
        let _lock = self.lock()?;
        if self.status()? == Status::Stopped {
            return Err(self.wrong_status("update", "container not running"));
        }
        match self.record.cgroup()?.update(resources)?.as_slice() {
            [] => Ok(()),
            missing => Err(Error::spec(format!(
                "this host has no cgroup controller {} for its limits",
                missing.join(", ")
            ))),
        }
    }
}
