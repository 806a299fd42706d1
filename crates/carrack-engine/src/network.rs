//! The network of containers: which bridge, where its leases are, what a container has of it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use carrack_container::{Container, ContainerId, ContainerNetwork, NetworkMode, PortBinding};
use carrack_network::{Attachment, Bridge, InterfaceName, MacAddress, Wish};

use crate::host_files::extra_host;
use crate::{Engine, Error, Result};

impl Engine {
    pub(crate) fn bridge(&self) -> Result<Bridge> {
        let settings = &self.environment.settings.network;
        let name = InterfaceName::new(settings.bridge.clone())?;
        Ok(Bridge { name, subnet: settings.subnet.parse()?, ..Bridge::standard()? })
    }

    pub(crate) fn network_state(&self) -> PathBuf {
        self.environment.paths.runroot.join("network")
    }

    pub(crate) fn attachment(&self, id: &ContainerId) -> Result<Option<Attachment>> {
        Ok(carrack_network::find(&self.network_state(), &self.bridge()?.name, id.as_str())?)
    }

    /// The ports that a container serves now, with those that were chosen for it.
    pub fn published_ports(&self, container: &Container) -> Result<Vec<PortBinding>> {
        if container.record.host.network.ports.is_empty() || !container.state.status.is_active() {
            return Ok(Vec::new());
        }
        let attachment = self.attachment(&container.record.id)?;
        Ok(attachment.as_ref().map_or_else(Vec::new, crate::ports::published))
    }
}

/// The addresses that the user asked for.
pub(crate) fn wish(network: &ContainerNetwork) -> Result<Wish<'static>> {
    let mac = network.mac.clone().map(MacAddress::try_from).transpose()?;
    Ok(Wish { ports: &[], address: network.address, mac })
}

impl Engine {
    /// What `host-gateway` stands for: the host as the container reaches it.
    pub(crate) fn host_gateway(&self, mode: &NetworkMode) -> Result<IpAddr> {
        match mode {
            NetworkMode::Host => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => Ok(IpAddr::V4(self.bridge()?.subnet.gateway())),
        }
    }

    /// Refuses wishes that contradict each other or the network.
    pub(crate) fn check_network(&self, network: &ContainerNetwork) -> Result<()> {
        let own = match network.mode {
            NetworkMode::Bridge => true,
            NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Path(_) => false,
        };
        let is_published = !network.ports.is_empty() || network.publish_all;
        if is_published
            && matches!(network.mode, NetworkMode::None | NetworkMode::Container(_) | NetworkMode::Path(_))
        {
            let message = "cannot publish a port without a network of its own";
            return Err(Error::refused(message, "use --network bridge"));
        }
        let wish = wish(network)?;
        if !own && wish != Wish::default() {
            let message = "an address can be chosen only on the bridge";
            return Err(Error::refused(message, "use --network bridge"));
        }
        if let Some(mac) = wish.mac.filter(|mac| !mac.is_of_one_interface()) {
            let hint = "expected one whose first octet is even, as in 02:42:ac:11:00:02";
            return Err(Error::refused(format!("no interface can have the hardware address {mac}"), hint));
        }
        let subnet = self.bridge()?.subnet;
        if let Some(address) = wish.address.filter(|address| !subnet.has_host(*address)) {
            let hint = format!("expected one of {subnet} that is not the bridge's own");
            return Err(Error::refused(format!("no container can have the address {address}"), hint));
        }
        network.extra_hosts.iter().try_for_each(|entry| extra_host(entry).map(drop))
    }
}
