//! How a container is connected.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The network of a container, and how names are resolved in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerNetwork {
    /// The network it joins.
    pub mode: NetworkMode,
    /// Published ports.
    pub ports: Vec<PortBinding>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Domains that short names are tried in; a single `.` takes the host's away.
    pub dns_search: Vec<String>,
    /// Options of the resolver, as in `ndots:2`.
    pub dns_options: Vec<String>,
    /// Lines of `/etc/hosts`, `name:address` as given.
    pub extra_hosts: Vec<String>,
    /// The address that it asked for.
    pub address: Option<Ipv4Addr>,
    /// The hardware address that it asked for, as in `02:42:ac:11:00:02`.
    pub mac: Option<String>,
    /// Ports that it is known to serve, as in `80/tcp`.
    pub exposed: BTreeSet<String>,
    /// Whether each of those is published on a port that is chosen.
    pub publish_all: bool,
    /// Whether `/etc/hosts` is the image's own.
    pub keeps_hosts: bool,
    /// Whether `/etc/hostname` is the image's own.
    pub keeps_hostname: bool,
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
    /// That of another container, by its id once the container is created.
    Container(String),
    /// That of a file.
    Path(PathBuf),
}

/// A port of the container that the host serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The address of the host; `None` is all of them.
    pub host_address: Option<IpAddr>,
    /// The port of the host; 0 means one is chosen at each start.
    pub host_port: u16,
    /// Where a free one of a range is chosen at each start: the last of the range, which begins with `host_port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_host_port: Option<u16>,
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
