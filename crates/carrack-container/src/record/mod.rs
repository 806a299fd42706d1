//! The record of a container: what was asked for, enough to start it again and to show it.
//!
//! Invariant: nothing in it depends on a running kernel; it changes only when the container is renamed or
//! updated. Fields that an older carrack did not write take their default.

use std::collections::BTreeMap;
use std::path::PathBuf;

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
mod secrets;
mod security;

pub use devices::{DeviceMapping, DeviceRequest, DeviceSettings};
pub use lifecycle::{HealthCheck, LifecycleSettings, LogDriver, LogSettings, RestartPolicy, UnhealthyAction};
pub use mounts::{
    Bind, ImageVolumes, MountDepth, MountOrigin, MountPoint, MountSettings, MountSource, OwnerMap, Relabel,
    TmpfsMount,
};
pub use namespaces::{IdRange, IpcMode, NamespaceMode, NamespaceSettings, UserMode};
pub use network::{ContainerNetwork, NetworkMode, PortBinding, Protocol};
pub use resources::{CgroupManager, CgroupMode, DeviceRate, DeviceWeight, Resources, Ulimit};
pub use runtime::OtherRuntime;
pub use secrets::{SecretPlace, SecretUse};
pub use security::{Contexts, SecuritySettings};

/// What a user asked for with `create` or `run`, merged with the image's config.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// The id.
    pub id: ContainerId,
    /// The name, unique in the store.
    pub name: ContainerName,
    /// When it was created.
    pub created: Timestamp,
    /// The image as the user named it, or the folder that is the root.
    pub image: String,
    /// The digest of the image's config; of nothing where the root is a folder.
    pub image_id: Digest,
    /// The folder of the host that is the root, where there is no image.
    #[serde(default)]
    pub root_folder: Option<RootFolder>,
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

/// A folder of the host that is the root of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Whether changes stay with the container; else they are made to the folder.
    pub overlay: bool,
}

impl ContainerRecord {
    /// Whether a reboot may take it: it is removed when it ends, and nothing that outlives a reboot is to be removed with
    /// it. Its record needs no disk.
    pub fn is_ephemeral(&self) -> bool {
        self.host.auto_remove && self.host.mounts.own_volumes().next().is_none()
    }

    /// Whether the container needs this image: it was made of it, or mounts it.
    pub fn uses_image(&self, id: &Digest) -> bool {
        let mounts = |point: &MountPoint| matches!(&point.source, MountSource::Image { image } if *image == id.to_string());
        self.image_id == *id || self.host.mounts.points.iter().any(mounts)
    }
}

/// A record says what differs: that of most containers is then a third as long, and all are read by `ps`.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What runs in a container, and how it is addressed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Program {
    /// The program and its fixed arguments.
    #[serde(skip_serializing_if = "is_default")]
    pub entrypoint: Vec<String>,
    /// Arguments of the entrypoint, or the whole command without one.
    #[serde(skip_serializing_if = "is_default")]
    pub command: Vec<String>,
    /// `NAME=value` entries.
    #[serde(skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// `user[:group]` as given, resolved in the container's files at each start; empty means root.
    #[serde(skip_serializing_if = "is_default")]
    pub user: String,
    /// The working folder; empty means `/`.
    #[serde(skip_serializing_if = "is_default")]
    pub working_dir: String,
    /// Variables of every container that it goes without.
    #[serde(skip_serializing_if = "is_default")]
    pub unset_env: Vec<String>,
    /// Whether it goes without all of them.
    #[serde(skip_serializing_if = "is_default")]
    pub unset_all_env: bool,
    /// The host name; empty means the short id.
    #[serde(skip_serializing_if = "is_default")]
    pub hostname: String,
    /// The NIS domain name; empty means none.
    #[serde(skip_serializing_if = "is_default")]
    pub domainname: String,
    /// The mode bits that new files lack; `None` means 022.
    #[serde(skip_serializing_if = "is_default")]
    pub umask: Option<u32>,
    /// The time zone as a name below `/usr/share/zoneinfo`, or `local`; empty means the image's.
    #[serde(skip_serializing_if = "is_default")]
    pub timezone: String,
    /// Whether it runs on a pseudo-terminal.
    #[serde(skip_serializing_if = "is_default")]
    pub tty: bool,
    /// Whether its standard input can be written to.
    #[serde(skip_serializing_if = "is_default")]
    pub open_stdin: bool,
    /// Whether the end of the first attached client's input is the end of its standard input.
    #[serde(skip_serializing_if = "is_default")]
    pub stdin_once: bool,
    /// The signal of `stop`, as a name or number; `None` means TERM.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_signal: Option<String>,
    /// How long `stop` waits before it kills; `None` means 10.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_timeout_seconds: Option<u32>,
}

/// What the host grants, limits and shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSettings {
    /// Limits.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Devices of the host.
    #[serde(skip_serializing_if = "is_default")]
    pub devices: DeviceSettings,
    /// Its network.
    #[serde(skip_serializing_if = "is_default")]
    pub network: ContainerNetwork,
    /// The namespaces that it shares.
    #[serde(skip_serializing_if = "is_default")]
    pub namespaces: NamespaceSettings,
    /// What it sees beside its image.
    #[serde(skip_serializing_if = "is_default")]
    pub mounts: MountSettings,
    /// Secrets that its program finds.
    #[serde(skip_serializing_if = "is_default")]
    pub secrets: Vec<SecretUse>,
    /// What its processes may do.
    #[serde(skip_serializing_if = "is_default")]
    pub security: SecuritySettings,
    /// Notes for OCI runtimes and their hooks.
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Restarts, health checks, and where its output goes.
    #[serde(skip_serializing_if = "is_default")]
    pub lifecycle: LifecycleSettings,
    /// How likely its processes are killed when memory is short, from -1000 to 1000.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_score_adj: Option<i32>,
    /// Kernel parameters of its namespaces.
    #[serde(skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
    /// Groups on top of the user's, as given.
    #[serde(skip_serializing_if = "is_default")]
    pub group_add: Vec<String>,
    /// Whether a small init reaps processes as pid 1.
    #[serde(skip_serializing_if = "is_default")]
    pub init: bool,
    /// Whether it is removed when it exits.
    #[serde(skip_serializing_if = "is_default")]
    pub auto_remove: bool,
    /// Who starts it; `None` is carrack itself.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: Option<OtherRuntime>,
}
