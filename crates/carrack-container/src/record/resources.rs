//! Limits that the kernel holds a container to, by its cgroup and by those of its processes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Limits and weights; `None` is the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// The limit of memory.
    pub memory_bytes: Option<u64>,
    /// The limit of memory and swap together; -1 is unlimited.
    pub memory_swap_bytes: Option<i64>,
    /// What it is pressed down to when the host is short of memory.
    pub memory_reservation_bytes: Option<u64>,
    /// How readily its memory is swapped out, 0 to 100.
    pub memory_swappiness: Option<u8>,
    /// Whether its processes wait for memory in place of being killed.
    pub oom_kill_disable: Option<bool>,
    /// The limit of CPU time, in billionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// The relative weight under contention.
    pub cpu_shares: Option<u64>,
    /// The period of the quota.
    pub cpu_period_us: Option<u64>,
    /// CPU time in each period; -1 is unlimited.
    pub cpu_quota_us: Option<i64>,
    /// The period of real-time scheduling.
    pub cpu_rt_period_us: Option<u64>,
    /// Real-time CPU time in each of its periods.
    pub cpu_rt_runtime_us: Option<i64>,
    /// The CPUs it may run on, as in `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes it may use, as in `0-1`.
    pub cpuset_mems: Option<String>,
    /// The limit of tasks; `None` is carrack's default, -1 is unlimited.
    pub pids_limit: Option<i64>,
    /// The relative weight of block I/O, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// The same for single devices.
    pub blkio_weight_devices: Vec<DeviceWeight>,
    /// Bytes a second that are read from devices.
    pub device_read_bps: Vec<DeviceRate>,
    /// Bytes a second that are written to devices.
    pub device_write_bps: Vec<DeviceRate>,
    /// Reads from devices in a second.
    pub device_read_iops: Vec<DeviceRate>,
    /// Writes to devices in a second.
    pub device_write_iops: Vec<DeviceRate>,
    /// Whether it has a cgroup of its own.
    pub cgroups: CgroupMode,
    /// Who makes it.
    pub cgroup_manager: CgroupManager,
    /// The cgroup that its own is made in; `None` is carrack's.
    pub cgroup_parent: Option<String>,
    /// Files of cgroup v2 and what is written to them.
    pub cgroup_conf: BTreeMap<String, String>,
    /// Resource limits of its processes.
    pub ulimits: Vec<Ulimit>,
}

/// Whether a container has a cgroup of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupMode {
    /// It has; its monitor is never in it.
    #[default]
    Enabled,
    /// It is in the cgroup of the command that starts it.
    Disabled,
    /// Podman's word for what `Enabled` is here.
    NoConmon,
}

/// Who makes the cgroup of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupManager {
    /// carrack, by folders in the cgroup filesystem.
    #[default]
    Cgroupfs,
    /// systemd, as a scope in a slice.
    Systemd,
}

impl CgroupManager {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

impl std::str::FromStr for CgroupManager {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::Cgroupfs, Self::Systemd].into_iter().find(|manager| manager.name() == text);
        known.ok_or_else(|| format!("{text:?} makes no cgroups: expected cgroupfs or systemd"))
    }
}

/// A weight for a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    /// The device on the host.
    pub path: PathBuf,
    /// 10 to 1000.
    pub weight: u16,
}

/// A limit for a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device on the host.
    pub path: PathBuf,
    /// Bytes or operations in a second.
    pub rate: u64,
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
