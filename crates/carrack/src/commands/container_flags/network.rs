//! Flags for how a container is connected.

use carrack_engine::{ContainerNetwork, NetworkMode, PortBinding};
use clap::Args;

use crate::failure::{Result, invalid};

#[derive(Args)]
pub struct NetworkFlags {
    /// none, host or bridge
    #[arg(long, visible_alias = "net", value_name = "NETWORK", default_value = "bridge")]
    network: String,
    /// Publish a port of the container on the host
    #[arg(short, long, value_name = "[ADDRESS:][HOST:]CONTAINER[/udp]")]
    publish: Vec<String>,
    /// Name server of the container
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<std::net::IpAddr>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
}

impl NetworkFlags {
    /// What is asked of the engine.
    pub fn settings(&self) -> Result<ContainerNetwork> {
        let ports: Vec<Vec<PortBinding>> =
            self.publish.iter().map(|text| carrack_engine::parse_ports(text)).collect::<Result<_, _>>()?;
        Ok(ContainerNetwork {
            mode: network(&self.network)?,
            ports: ports.concat(),
            dns: self.dns.clone(),
            extra_hosts: self.add_host.clone(),
        })
    }
}

/// none, host or bridge, as given.
pub fn network(text: &str) -> Result<NetworkMode> {
    match text {
        "bridge" | "default" => Ok(NetworkMode::Bridge),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => Err(invalid("--network", text, "none, host or bridge")),
    }
}
