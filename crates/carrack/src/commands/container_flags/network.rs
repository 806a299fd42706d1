//! Flags for how a container is connected.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use carrack_engine::{ContainerNetwork, NetworkMode, PortBinding};
use clap::Args;

use crate::failure::{Result, invalid};

#[derive(Args)]
pub struct NetworkFlags {
    /// none, host, bridge, container:NAME or ns:PATH; bridge:ip=ADDRESS,mac=ADDRESS asks for addresses
    #[arg(long, visible_alias = "net", value_name = "NETWORK", default_value = "bridge")]
    network: String,
    /// Address of the container on the bridge
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Hardware address of the container
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Publish a port or a range of ports of the container on the host
    #[arg(short, long, value_name = "[ADDRESS:][HOST:]CONTAINER[/udp]")]
    publish: Vec<String>,
    /// Publish every port that the image or --expose names, each on a port that is chosen
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Say that the container serves a port or a range of ports
    #[arg(long, value_name = "PORT[-PORT][/udp]")]
    expose: Vec<String>,
    /// Name server of the container
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Domain that short names are tried in; a dot takes the host's away
    #[arg(long, value_name = "DOMAIN", value_parser = parse_word)]
    dns_search: Vec<String>,
    /// Option of the resolver, as in ndots:2
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_parser = parse_word)]
    dns_option: Vec<String>,
    /// Add a line to /etc/hosts; host-gateway stands for the host
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Leave /etc/hosts as the image has it
    #[arg(long, conflicts_with = "add_host")]
    no_hosts: bool,
    /// Leave /etc/hostname as the image has it
    #[arg(long)]
    no_hostname: bool,
}

impl NetworkFlags {
    /// What is asked of the engine.
    pub fn settings(&self) -> Result<ContainerNetwork> {
        let ports: Vec<Vec<PortBinding>> =
            self.publish.iter().map(|text| carrack_engine::parse_ports(text)).collect::<Result<_, _>>()?;
        let exposed: Vec<Vec<String>> =
            self.expose.iter().map(|text| carrack_engine::parse_exposed(text)).collect::<Result<_, _>>()?;
        let place = Place::parse(&self.network)?;
        let address = one_of("--ip", self.ip, place.address)?;
        let mac = one_of("--mac-address", self.mac_address.clone(), place.mac)?;
        Ok(ContainerNetwork {
            mode: place.mode,
            address,
            mac,
            // A published port is served in any case.
            exposed: exposed
                .concat()
                .into_iter()
                .chain(ports.iter().flatten().map(carrack_engine::container_side))
                .collect::<BTreeSet<_>>(),
            ports: ports.concat(),
            publish_all: self.publish_all,
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_option.clone(),
            extra_hosts: self.add_host.clone(),
            keeps_hosts: self.no_hosts,
            keeps_hostname: self.no_hostname,
        })
    }
}

/// A network with what is asked of it: podman's `bridge:ip=..,mac=..`, Docker's `name=bridge,ip=..,mac-address=..`.
struct Place {
    mode: NetworkMode,
    address: Option<Ipv4Addr>,
    mac: Option<String>,
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            invalid(
                "--network",
                text,
                "none, host, bridge[:ip=ADDRESS,mac=ADDRESS], container:NAME or ns:PATH",
            )
        };
        let (name, options) = match text.split_once(':') {
            Some(("bridge" | "default", options)) => ("bridge", options),
            _ if text.contains('=') => ("", text),
            _ => (text, ""),
        };
        let mut place = Self { mode: NetworkMode::Bridge, address: None, mac: None };
        if !name.is_empty() {
            place.mode = run_network(name)?;
        }
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=').ok_or_else(wrong)? {
                ("name", name) => place.mode = run_network(name)?,
                ("ip", address) => place.address = Some(address.parse().map_err(|_| wrong())?),
                ("mac" | "mac-address", address) => place.mac = Some(address.to_owned()),
                _ => return Err(wrong()),
            }
        }
        Ok(place)
    }
}

fn one_of<T>(flag: &str, given: Option<T>, of_network: Option<T>) -> Result<Option<T>> {
    match (given, of_network) {
        (Some(_), Some(_)) => Err(invalid(flag, "a second address", "one address, here or in --network")),
        (given, of_network) => Ok(given.or(of_network)),
    }
}

/// A word of resolv.conf.
fn parse_word(text: &str) -> Result<String, String> {
    let is_word = !text.is_empty() && text.chars().all(|symbol| symbol.is_ascii_graphic());
    if is_word { Ok(text.to_owned()) } else { Err("expected one word".to_owned()) }
}

/// What a container may join beside the networks that a build has too.
fn run_network(text: &str) -> Result<NetworkMode> {
    match text.split_once(':') {
        Some(("container", name)) if !name.is_empty() => Ok(NetworkMode::Container(name.to_owned())),
        Some(("ns", path)) if path.starts_with('/') => Ok(NetworkMode::Path(path.into())),
        _ => network(text),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_may_come_with_addresses() {
        for text in [
            "bridge:ip=10.87.0.9,mac=02:00:00:00:00:09",
            "name=bridge,ip=10.87.0.9,mac-address=02:00:00:00:00:09",
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!(place.mode, NetworkMode::Bridge);
            assert_eq!(place.address, Some(Ipv4Addr::new(10, 87, 0, 9)));
            assert_eq!(place.mac.as_deref(), Some("02:00:00:00:00:09"));
        }
        assert_eq!(Place::parse("none").unwrap().mode, NetworkMode::None);
        for text in ["bridge:ip=x", "bridge:alias=a", "bridge:ip", "shore", "name=shore", "host:ip=10.0.0.1"]
        {
            assert!(Place::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
