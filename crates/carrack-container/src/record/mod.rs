//! The record of a container: what was asked for, enough to start it again and to show it.
//!
//! Invariant: nothing in it depends on a running kernel; it changes only when the container is renamed or
//! updated. Fields that an older carrack did not write take their default.

use std::collections::BTreeMap;

use carrack_oci::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, ContainerName};

mod devices;
mod lifecycle;
mod mounts;
mod namespaces;
mod network;
mod resources;
mod runtime;
mod security;

pub use devices::{DeviceMapping, DeviceRequest, DeviceSettings};
pub use lifecycle::{HealthCheck, LifecycleSettings, LogDriver, LogSettings, RestartPolicy};
pub use mounts::{
    Bind, MountDepth, MountOrigin, MountPoint, MountSettings, MountSource, OwnerMap, Relabel, TmpfsMount,
};
pub use namespaces::{IdRange, IpcMode, NamespaceMode, NamespaceSettings, UserMode};
pub use network::{ContainerNetwork, NetworkMode, PortBinding, Protocol};
pub use resources::{CgroupMode, DeviceRate, DeviceWeight, Resources, Ulimit};
pub use runtime::OtherRuntime;
pub use security::SecuritySettings;

/// What a user asked for with `create` or `run`, merged with the image's config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The id.
    pub id: ContainerId,
    /// The name, unique in the store.
    pub name: ContainerName,
    /// When it was created.
    pub created: Timestamp,
    /// The image as the user named it.
    pub image: String,
    /// The digest of the image's config.
    pub image_id: Digest,
    /// The key of the active snapshot that is the container's root file system.
    pub snapshot: String,
    /// What runs in it.
    pub program: Program,
    /// What the host gives it.
    pub host: HostSettings,
    /// The user's and the image's labels; never read by carrack.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl ContainerRecord {
    /// Whether the container needs this image: it was made of it, or mounts it.
    pub fn uses_image(&self, id: &Digest) -> bool {
        let mounts = |point: &MountPoint| matches!(&point.source, MountSource::Image { image } if *image == id.to_string());
        self.image_id == *id || self.host.mounts.points.iter().any(mounts)
    }
}

/// What runs in a container, and how it is addressed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Program {
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments of the entrypoint, or the whole command without one.
    pub command: Vec<String>,
    /// `NAME=value` entries.
    pub env: Vec<String>,
    /// `user[:group]` as given, resolved in the container's files at each start; empty means root.
    pub user: String,
    /// The working folder; empty means `/`.
    pub working_dir: String,
    /// Variables of every container that it goes without.
    pub unset_env: Vec<String>,
    /// Whether it goes without all of them.
    pub unset_all_env: bool,
    /// The host name; empty means the short id.
    pub hostname: String,
    /// The NIS domain name; empty means none.
    pub domainname: String,
    /// The mode bits that new files lack; `None` means 022.
    pub umask: Option<u32>,
    /// The time zone as a name below `/usr/share/zoneinfo`, or `local`; empty means the image's.
    pub timezone: String,
    /// Whether it runs on a pseudo-terminal.
    pub tty: bool,
    /// Whether its standard input can be written to.
    pub open_stdin: bool,
    /// Whether the end of the first attached client's input is the end of its standard input.
    pub stdin_once: bool,
    /// The signal of `stop`, as a name or number; `None` means TERM.
    pub stop_signal: Option<String>,
    /// How long `stop` waits before it kills; `None` means 10.
    pub stop_timeout_seconds: Option<u32>,
}

/// What the host grants, limits and shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSettings {
    /// Limits.
    pub resources: Resources,
    /// Devices of the host.
    pub devices: DeviceSettings,
    /// Its network.
    pub network: ContainerNetwork,
    /// The namespaces that it shares.
    pub namespaces: NamespaceSettings,
    /// What it sees beside its image.
    pub mounts: MountSettings,
    /// What its processes may do.
    pub security: SecuritySettings,
    /// Notes for OCI runtimes and their hooks.
    pub annotations: BTreeMap<String, String>,
    /// Restarts, health checks, and where its output goes.
    pub lifecycle: LifecycleSettings,
    /// How likely its processes are killed when memory is short, from -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Groups on top of the user's, as given.
    pub group_add: Vec<String>,
    /// Whether a small init reaps processes as pid 1.
    pub init: bool,
    /// Whether it is removed when it exits.
    pub auto_remove: bool,
    /// Who starts it; `None` is carrack itself.
    pub runtime: Option<OtherRuntime>,
}
