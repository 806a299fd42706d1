//! Limits that the kernel holds a container to, by its cgroup and by those of its processes.

use serde::{Deserialize, Serialize};

/// Limits and weights; `None` is the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// The limit of memory.
    pub memory_bytes: Option<u64>,
    /// The limit of memory and swap together; -1 is unlimited.
    pub memory_swap_bytes: Option<i64>,
    /// The limit of CPU time, in billionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// The relative weight under contention.
    pub cpu_shares: Option<u64>,
    /// The CPUs it may run on, as in `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// The limit of tasks; `None` is carrack's default, -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// Resource limits of its processes.
    pub ulimits: Vec<Ulimit>,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As in `nofile`.
    pub name: String,
    /// What processes are held to; -1 is unlimited.
    pub soft: i64,
    /// What they may raise it to; -1 is unlimited.
    pub hard: i64,
}
