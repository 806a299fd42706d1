//! The bridge of the host that containers are joined to. `ensure` is idempotent and finishes what a crash left half
//! done: settings come before the bridge is switched on.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::link::{InterfaceAddress, Link, Links};
use crate::{Error, InterfaceName, MacAddress, Result, Subnet, sysctl};

/// The interface's size of packets where the host has no route to copy it from.
const ETHERNET_MTU: u32 = 1500;

/// A bridge and what is handed out on it. The nft table of its rules has its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its name as an interface.
    pub name: InterfaceName,
    /// Where addresses are leased from; the first one is the bridge's own.
    pub subnet: Subnet,
    /// The largest packet in bytes; `None` for that of the host's default route.
    pub mtu: Option<u32>,
}

impl Bridge {
    /// `carrack0` with 10.87.0.0/16, a range that Docker and Podman do not hand out by themselves.
    pub fn standard() -> Result<Self> {
        Ok(Self { name: InterfaceName::new("carrack0")?, subnet: "10.87.0.0/16".parse()?, mtu: None })
    }

    /// Makes the bridge ready and returns its index.
    pub(crate) fn ensure(&self, links: &mut Links) -> Result<u32> {
        let link = match links.find(&self.name)? {
            Some(link) => link,
            None => self.create(links)?,
        };
        if !link.is_bridge {
            return Err(Error::NotABridge { name: self.name.to_string() });
        }
        sysctl::refuse_ipv6(&self.name)?;
        sysctl::route_loopback(&self.name)?;
        sysctl::forward_ipv4()?;
        let (address, prefix) = (self.subnet.gateway(), self.subnet.prefix());
        links.add_address(&InterfaceAddress { interface: link.index, address, prefix })?;
        if !link.up {
            links.set_up(&self.name)?;
        }
        Ok(link.index)
    }

    fn create(&self, links: &mut Links) -> Result<Link> {
        self.refuse_overlap(links)?;
        match links.create_bridge(&self.name, MacAddress::of_address(self.subnet.gateway())) {
            // Another process with another state folder was faster.
            Err(error) if error.is_answer(Errno::EXIST) => {}
            result => result?,
        }
        links.find(&self.name)?.ok_or_else(|| Error::NotABridge { name: self.name.to_string() })
    }

    /// Two networks of one range would take each other's packets.
    fn refuse_overlap(&self, links: &mut Links) -> Result<()> {
        let addresses = links.addresses()?.into_iter();
        for other in addresses.filter(|other| self.subnet.overlaps(other.address, other.prefix)) {
            let interface = links.at(other.interface)?.map(|link| link.name).unwrap_or_default();
            // It is the bridge's own where another process with another state folder was faster.
            if interface != self.name.as_str() {
                let (bridge, subnet) = (self.name.to_string(), self.subnet);
                let InterfaceAddress { address, prefix, .. } = other;
                return Err(Error::SubnetOverlap { bridge, subnet, interface, address, prefix });
            }
        }
        Ok(())
    }

    /// The size of packets for a new attachment: never more than what leaves the host in one piece.
    pub(crate) fn packet_size(&self, links: &mut Links) -> Result<u32> {
        match self.mtu {
            Some(mtu) => Ok(mtu),
            None => Ok(links.outside()?.map_or(ETHERNET_MTU, |link| link.mtu.clamp(576, ETHERNET_MTU))),
        }
    }
}
