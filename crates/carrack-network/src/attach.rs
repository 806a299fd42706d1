//! `attach` and `detach`. The lease is written before the kernel is changed and removed after, and whatever fails is
//! undone; what a killed process left is taken back when its address or port is wanted again.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use crate::lease::Leases;
use crate::link::{InterfaceAddress, Links, Pair};
use crate::netlink::Netlink;
use crate::nft::{self, PortMaps};
use crate::port_choice::PortChoice;
use crate::{
    Attachment, Bridge, Error, InterfaceName, MacAddress, PublishedPort, Result, conntrack, netns, sysctl,
};

/// What a container asks of its place in the network; `None` is whatever is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish<'a> {
    /// The ports that are published; host port 0 is any.
    pub ports: &'a [PublishedPort],
    /// The address.
    pub address: Option<Ipv4Addr>,
    /// The hardware address.
    pub mac: Option<MacAddress>,
}

/// Joins the network namespace `container_netns` to the bridge, with a leased address and the published ports.
///
/// Switches the namespace's loopback interface on too. The bridge, the rules and the host's forwarding are made where
/// they are missing; if the rules were missing, the ports of all leases are published again. Safe across processes.
/// After an error nothing of the attachment is left.
pub fn attach(
    state_dir: &Path,
    bridge: &Bridge,
    container: &str,
    container_netns: BorrowedFd<'_>,
    ports: &[PublishedPort],
) -> Result<Attachment> {
    attach_at(state_dir, bridge, container, container_netns, Wish { ports, ..Wish::default() })
}

/// The same at an address, with a hardware address, that the container asks for.
pub fn attach_at(
    state_dir: &Path,
    bridge: &Bridge,
    container: &str,
    container_netns: BorrowedFd<'_>,
    wish: Wish<'_>,
) -> Result<Attachment> {
    let ports = wish.ports;
    if let Some(port) = ports.iter().find(|port| matches!(port.host_address, Some(IpAddr::V6(_)))) {
        return Err(Error::PortFamily { port: *port });
    }
    let mut host = Host::prepare(state_dir, bridge)?;
    let ports = host.choose_ports(ports)?;
    let attachment = host.create_pair(container, container_netns, ports, wish)?;
    match host.finish(&attachment, container_netns) {
        Ok(()) => Ok(attachment),
        Err(error) => {
            // The first error is the one to tell; what cannot be undone now is taken back as a dead lease later.
            let _ = host.links.delete(&attachment.host_interface);
            let _ = host.leases.remove(attachment.address);
            Err(error)
        }
    }
}

/// Withdraws the published ports and gives the address back. Idempotent; the namespace may be gone already.
///
/// The ports end with the kernel's next clock tick (1 to 10 ms; at once before Linux 6.12); an `attach` that wants one
/// of them waits for that.
///
/// The interfaces are left to go with the namespace: deleting them here would wait for the kernel's grace period. As
/// long as they exist their address is not leased again.
pub fn detach(state_dir: &Path, attachment: &Attachment) -> Result<()> {
    let leases = Leases::lock(state_dir, &attachment.bridge)?;
    match leases.get(attachment.address)? {
        Some(lease) if lease.container == attachment.container => {
            release(&leases, &mut Netlink::netfilter()?, &lease)
        }
        // Detached before, or the address belongs to another container by now.
        _ => Ok(()),
    }
}

/// The attachment that a container has, as its lease tells it: also one whose `attach` was killed halfway.
pub fn find(state_dir: &Path, bridge: &InterfaceName, container: &str) -> Result<Option<Attachment>> {
    let leases = Leases::lock(state_dir, bridge)?.list()?;
    Ok(leases.into_iter().find(|lease| lease.container == container))
}

/// Makes the bridge, the rules and the published ports of all leases again where they are missing, as after
/// `nft flush ruleset`.
pub fn reload(state_dir: &Path, bridge: &Bridge) -> Result<()> {
    let mut host = Host::prepare(state_dir, bridge)?;
    let mut maps = PortMaps::new(&mut host.netfilter, &bridge.name);
    host.leases.list()?.iter().try_for_each(|lease| maps.restore(lease.address, &lease.ports))
}

fn release(leases: &Leases, netfilter: &mut Netlink, lease: &Attachment) -> Result<()> {
    match PortMaps::new(netfilter, &lease.bridge).remove(lease.address, &lease.ports) {
        // The table is gone, and the ports with it.
        Err(error) if error.is_answer(Errno::NOENT) => {}
        result => result?,
    }
    leases.remove(lease.address)
}

/// The host's side, ready for an attachment and locked against others.
struct Host<'a> {
    bridge: &'a Bridge,
    bridge_index: u32,
    leases: Leases,
    links: Links,
    netfilter: Netlink,
}

impl<'a> Host<'a> {
    fn prepare(state_dir: &Path, bridge: &'a Bridge) -> Result<Self> {
        let leases = Leases::lock(state_dir, &bridge.name)?;
        let mut links = Links::open()?;
        let mut netfilter = Netlink::netfilter()?;
        // Rules before the bridge: they guard what `route_localnet` opens.
        nft::ensure(&mut netfilter, bridge, || leases.list())?;
        let bridge_index = bridge.ensure(&mut links)?;
        Ok(Self { bridge, bridge_index, leases, links, netfilter })
    }

    fn choose_ports(&mut self, wanted: &[PublishedPort]) -> Result<Vec<PublishedPort>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.withdraw_dead(wanted)?;
        let taken = PortMaps::new(&mut self.netfilter, &self.bridge.name).list_all(wanted)?;
        let holder_name = |address| match self.leases.get(address) {
            Ok(Some(lease)) => format!("container {}", lease.container),
            _ => format!("the container at {address}"),
        };
        PortChoice::new(taken, holder_name).choose(wanted)
    }

    /// Withdraws those of the ports whose container is gone without `detach`.
    fn withdraw_dead(&mut self, wanted: &[PublishedPort]) -> Result<()> {
        let is_wanted = |port: &PublishedPort| wanted.iter().any(|other| other.collides_with(port));
        let taken = PortMaps::new(&mut self.netfilter, &self.bridge.name).list_all(&[])?;
        for (port, address) in taken.into_iter().filter(|(port, _)| is_wanted(port)) {
            if self.links.find(&InterfaceName::of_address(address))?.is_some() {
                continue;
            }
            PortMaps::new(&mut self.netfilter, &self.bridge.name).remove(address, &[port])?;
            if let Some(lease) = self.leases.get(address)? {
                release(&self.leases, &mut self.netfilter, &lease)?;
            }
        }
        Ok(())
    }

    /// Leases the next free address and makes the pair of interfaces that has it.
    fn create_pair(
        &mut self,
        container: &str,
        netns: BorrowedFd<'_>,
        ports: Vec<PublishedPort>,
        wish: Wish<'_>,
    ) -> Result<Attachment> {
        let mtu = self.bridge.packet_size(&mut self.links)?;
        let mut attachment = self.plan(container, ports)?;
        for address in self.candidates(wish.address)? {
            if !self.is_free(address)? {
                continue;
            }
            attachment.address = address;
            attachment.mac = wish.mac.unwrap_or_else(|| MacAddress::of_address(address));
            attachment.host_interface = InterfaceName::of_address(address);
            self.leases.put(&attachment)?;
            let pair = Pair {
                host: &attachment.host_interface,
                bridge: self.bridge_index,
                mtu,
                container: &attachment.interface,
                mac: attachment.mac,
                netns,
            };
            let Err(error) = self.links.create_pair(&pair) else { return Ok(attachment) };
            self.leases.remove(address)?;
            let is_taken = error.is_answer(Errno::EXIST) && self.links.find(pair.host)?.is_some();
            if !is_taken {
                return Err(error);
            }
        }
        match wish.address {
            Some(address) => Err(Error::AddressInUse { address }),
            None => Err(Error::NoAddressLeft { subnet: self.bridge.subnet }),
        }
    }

    /// The addresses that the container may get, the first one that is free.
    fn candidates(&self, wanted: Option<Ipv4Addr>) -> Result<impl Iterator<Item = Ipv4Addr> + use<>> {
        let subnet = self.bridge.subnet;
        if let Some(address) = wanted.filter(|address| !subnet.has_host(*address)) {
            return Err(Error::AddressOutside { address, subnet });
        }
        let last = self.leases.last()?;
        let any = wanted.is_none().then(|| subnet.addresses_after(last));
        Ok(wanted.into_iter().chain(any.into_iter().flatten()))
    }

    /// An attachment that lacks only what follows from its address.
    fn plan(&self, container: &str, ports: Vec<PublishedPort>) -> Result<Attachment> {
        let address = Ipv4Addr::UNSPECIFIED;
        Ok(Attachment {
            container: container.to_owned(),
            bridge: self.bridge.name.clone(),
            interface: InterfaceName::in_container(),
            address,
            prefix: self.bridge.subnet.prefix(),
            gateway: self.bridge.subnet.gateway(),
            mac: MacAddress::of_address(address),
            ports,
            host_interface: InterfaceName::of_address(address),
        })
    }

    /// Whether an address is not leased, or its lease outlived its container and is taken back now.
    fn is_free(&mut self, address: Ipv4Addr) -> Result<bool> {
        let Some(lease) = self.leases.get(address)? else { return Ok(true) };
        if self.links.find(&lease.host_interface)?.is_some() {
            return Ok(false);
        }
        release(&self.leases, &mut self.netfilter, &lease)?;
        Ok(true)
    }

    /// Switches both ends on, gives the container its address and route, and publishes its ports.
    fn finish(&mut self, attachment: &Attachment, container_netns: BorrowedFd<'_>) -> Result<()> {
        sysctl::refuse_ipv6(&attachment.host_interface)?;
        self.links.set_port_up(&attachment.host_interface)?;
        netns::inside(container_netns, || configure(attachment))?;
        PortMaps::new(&mut self.netfilter, &self.bridge.name).add(attachment.address, &attachment.ports)?;
        conntrack::forget_flows(&mut self.netfilter, &attachment.ports)?;
        self.links.wait_until_up(&attachment.host_interface)?;
        // The bridge gets its own carrier with its first port.
        self.links.wait_until_up(&self.bridge.name)
    }
}

/// What is done in the container's namespace.
fn configure(attachment: &Attachment) -> Result<()> {
    let mut links = Links::open()?;
    links.set_loopback_up()?;
    sysctl::refuse_ipv6(&attachment.interface)?;
    let interface = links.index_of(&attachment.interface)?;
    let (address, prefix) = (attachment.address, attachment.prefix);
    links.add_address(&InterfaceAddress { interface, address, prefix })?;
    links.set_up(&attachment.interface)?;
    links.add_default_route(attachment.gateway)?;
    links.wait_until_up(&attachment.interface)
}
