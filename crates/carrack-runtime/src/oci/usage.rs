//! What a container uses, in the form of runc's `events`, which callers parse.

use serde_json::{Value, json};

use super::Container;
use crate::Result;
use crate::cgroup::Stats;

impl Container {
    /// How often the kernel killed a process of the container for want of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        Ok(self.record().cgroup()?.stats()?.memory.oom_kills)
    }

    /// What it uses now.
    pub fn usage(&self) -> Result<Value> {
        Ok(as_runc(&self.record().cgroup()?.stats()?))
    }
}

fn as_runc(stats: &Stats) -> Value {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    json!({
        "cpu": {
            "usage": { "total": cpu.usage_ns, "kernel": cpu.system_ns, "user": cpu.user_ns },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_ns,
            },
        },
        "memory": {
            "cache": memory.cache_bytes,
            "usage": {
                // No limit is the largest number, as the kernel's v1 files have it.
                "limit": memory.limit_bytes.unwrap_or(u64::MAX),
                "usage": memory.usage_bytes,
                "max": memory.max_usage_bytes.unwrap_or(memory.usage_bytes),
                "failcnt": memory.limit_hits,
            },
            "swap": { "usage": memory.swap_bytes },
            "raw": memory.details,
        },
        "pids": { "current": stats.tasks.current, "limit": stats.tasks.limit.unwrap_or(0) },
        "blkio": {
            "ioServiceBytesRecursive": blocks(stats, |one| (one.read_bytes, one.written_bytes)),
            "ioServicedRecursive": blocks(stats, |one| (one.reads, one.writes)),
        },
    })
}

fn blocks(stats: &Stats, of: impl Fn(&crate::cgroup::BlockIo) -> (u64, u64)) -> Vec<Value> {
    let rows = stats.block_io.iter().flat_map(|device| {
        let (read, written) = of(device);
        [("Read", read), ("Write", written)].map(|(operation, value)| {
            json!({ "major": device.major, "minor": device.minor, "op": operation, "value": value })
        })
    });
    rows.collect()
}
