//! Devices of the host that a container may use.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Devices beside those that every container has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceSettings {
    /// Device nodes of the host, or folders of them.
    pub devices: Vec<DeviceMapping>,
    /// Rules of the cgroup as given, as in `c 189:* rmw`.
    pub cgroup_rules: Vec<String>,
    /// Devices by what they are, not where.
    pub requests: Vec<DeviceRequest>,
}

/// A device node of the host, or a folder of them, that is seen in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is seen in the container.
    pub destination: PathBuf,
    /// Of `r` (read), `w` (write) and `m` (make nodes).
    pub access: String,
}

/// Devices by what they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceRequest {
    /// Devices that CDI files name, as in `vendor.com/class=name`.
    Cdi(Vec<String>),
    /// So many graphics processors.
    GpuCount(u32),
    /// All graphics processors.
    AllGpus,
    /// Graphics processors by number or UUID.
    Gpus(Vec<String>),
}
