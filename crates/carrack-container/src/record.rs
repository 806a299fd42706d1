//! The record of a container: what was asked for, enough to start it again and to show it.
//!
//! Invariant: nothing in it depends on a running kernel; it is written once and changes only when the container is
//! renamed. Fields that an older carrack did not write take their default.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use carrack_oci::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, ContainerName};

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
    /// The host name; empty means the short id.
    pub hostname: String,
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
    /// The network it joins.
    pub network: NetworkMode,
    /// Published ports.
    pub ports: Vec<PortBinding>,
    /// Files and folders of the host or of volumes.
    pub binds: Vec<Bind>,
    /// Empty file systems in memory.
    pub tmpfs: Vec<TmpfsMount>,
    /// Whether the root file system cannot be written to.
    pub read_only: bool,
    /// Capabilities on top of the default, as given (`NET_ADMIN`, `ALL`).
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default, as given.
    pub cap_drop: Vec<String>,
    /// Security options, as given (`no-new-privileges`, `seccomp=unconfined`).
    pub security_options: Vec<String>,
    /// Resource limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Groups on top of the user's, as given.
    pub group_add: Vec<String>,
    /// The size of `/dev/shm`.
    pub shm_size_bytes: Option<u64>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Lines of `/etc/hosts`, `name:address` as given.
    pub extra_hosts: Vec<String>,
    /// Whether a small init reaps processes as pid 1.
    pub init: bool,
    /// Whether it is removed when it exits.
    pub auto_remove: bool,
}

/// The network that a container joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// carrack's bridge.
    #[default]
    Bridge,
    /// Its own, with nothing but loopback.
    None,
    /// The host's.
    Host,
    /// That of another container.
    Container(ContainerId),
}

/// A port of the container that the host serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The address of the host; `None` is all of them.
    pub host_address: Option<IpAddr>,
    /// The port of the host; 0 means one is chosen at each start.
    pub host_port: u16,
    /// The port of the container.
    pub container_port: u16,
    /// The transport.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A file or folder of the host that is seen in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is seen in the container.
    pub destination: PathBuf,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Where it is seen in the container.
    pub destination: PathBuf,
    /// Mount options as given, as in `size=64m,mode=1777`.
    pub options: String,
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
