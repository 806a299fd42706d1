//! Stats: what containers use, as samples; a rate is what two samples of a container differ by.

use std::time::{Duration, Instant};

use carrack_container::{Container, NetworkMode};
use carrack_runtime::cgroup::{Interface, Stats, network_interfaces};

use crate::{Engine, Result, limits};

/// What a container uses at one moment.
#[derive(Clone, Debug)]
pub struct ContainerStats {
    /// When it was looked at.
    pub at: Instant,
    /// What the kernel counts.
    pub usage: Stats,
    /// Traffic of its interfaces; none when it has the host's.
    pub interfaces: Vec<Interface>,
    /// The limit of memory, or the memory of the host.
    pub memory_limit_bytes: u64,
}

impl ContainerStats {
    /// CPU time between an earlier sample and this one, in CPUs.
    pub fn cpus_since(&self, earlier: &Self) -> f64 {
        let used = Duration::from_nanos(self.usage.cpu.usage_ns.saturating_sub(earlier.usage.cpu.usage_ns));
        let passed = self.at.duration_since(earlier.at);
        if passed.is_zero() { 0.0 } else { used.as_secs_f64() / passed.as_secs_f64() }
    }
}

impl Engine {
    /// What a container uses now; `None` when it does not run.
    pub fn container_stats(&self, container: &Container) -> Result<Option<ContainerStats>> {
        let record = &container.record;
        let init = container.state.init.as_ref().filter(|_| container.state.status.is_running());
        let Some(init) = init else { return Ok(None) };
        let cgroup = limits::require_cgroup(record.id.as_str(), &record.host.resources)?;
        let (at, usage) = (Instant::now(), cgroup.stats()?);
        let interfaces = match record.host.network.mode {
            NetworkMode::Host => Vec::new(),
            _ => network_interfaces(init.pid)?,
        };
        let memory_limit_bytes = usage.memory.limit_bytes.map_or_else(host_memory_bytes, Ok)?;
        Ok(Some(ContainerStats { at, usage, interfaces, memory_limit_bytes }))
    }
}

fn host_memory_bytes() -> Result<u64> {
    let bytes = carrack_sys::atomic::read("/proc/meminfo".as_ref())?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|total| total.split_ascii_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.unwrap_or(0) * 1024)
}
