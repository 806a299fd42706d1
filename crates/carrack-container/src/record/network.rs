//! How a container is connected.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ContainerId;

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
    /// Lines of `/etc/hosts`, `name:address` as given.
    pub extra_hosts: Vec<String>,
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
