//! Published ports between the container record, the network and the user's text.

use carrack_container::{PortBinding, Protocol};
use carrack_network::{Attachment, PublishedPort};

use crate::{Error, Result};

/// Parses the text of `-p`, which may name a range.
pub fn parse_ports(text: &str) -> Result<Vec<PortBinding>> {
    Ok(PublishedPort::parse(text)?.iter().map(to_binding).collect())
}

/// Parses a port of a container as images and `--expose` have it (`80`, `53/udp`, `8000-8010/tcp`) into single ones.
pub fn parse_exposed(text: &str) -> Result<Vec<String>> {
    if text.contains(':') {
        let message = format!("{text:?} is no port of a container");
        return Err(Error::refused(message, "expected PORT[-PORT][/PROTOCOL], as in 80 or 53/udp"));
    }
    Ok(parse_ports(text)?.iter().map(container_side).collect())
}

/// The ports that an attachment publishes, as a record has them.
pub fn published(attachment: &Attachment) -> Vec<PortBinding> {
    attachment.ports.iter().map(to_binding).collect()
}

/// The ports that a container runs with: chosen by now where the user left the choice.
pub(crate) fn to_published(bindings: &[PortBinding]) -> Vec<PublishedPort> {
    let published = |binding: &PortBinding| PublishedPort {
        host_address: binding.host_address,
        host_port: binding.host_port,
        last_host_port: binding.last_host_port,
        container_port: binding.container_port,
        protocol: match binding.protocol {
            Protocol::Tcp => carrack_network::Protocol::Tcp,
            Protocol::Udp => carrack_network::Protocol::Udp,
        },
    };
    bindings.iter().map(published).collect()
}

fn to_binding(port: &PublishedPort) -> PortBinding {
    PortBinding {
        host_address: port.host_address,
        host_port: port.host_port,
        last_host_port: port.last_host_port,
        container_port: port.container_port,
        protocol: match port.protocol {
            carrack_network::Protocol::Tcp => Protocol::Tcp,
            carrack_network::Protocol::Udp => Protocol::Udp,
        },
    }
}

/// `80/tcp`
pub fn container_side(port: &PortBinding) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.container_port)
}

/// `0.0.0.0:8080->80/tcp`, as `ps` shows it.
pub fn port_text(port: &PortBinding) -> String {
    format!("{}->{}", host_side(port), container_side(port))
}

/// `0.0.0.0:8080`
pub fn host_side(port: &PortBinding) -> String {
    let address = port.host_address.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
    format!("{address}:{}", port.host_port)
}
