//! Interfaces, addresses and routes of one network namespace, by rtnetlink (rtnetlink(7)).

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::netlink::{Netlink, Purpose, Reply, Request};
use crate::{InterfaceName, MacAddress, Result};

/// The index of the loopback interface in every namespace.
const LOOPBACK: u32 = 1;
/// An address that no host has (RFC 5737, TEST-NET-2), to ask for the route to the world.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

const CARRIER_PATIENCE: Duration = Duration::from_millis(100);
const CARRIER_STEP: Duration = Duration::from_micros(100);

/// The interfaces of the namespace in which it was opened.
pub(crate) struct Links(Netlink);

/// An interface as the kernel describes it.
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    /// Switched on, and the other end too.
    pub carries: bool,
    pub is_bridge: bool,
    pub mtu: u32,
}

/// A pair of interfaces to make: one in this namespace and joined to a bridge, one in `netns`.
pub(crate) struct Pair<'a> {
    pub host: &'a InterfaceName,
    pub bridge: u32,
    pub mtu: u32,
    pub container: &'a InterfaceName,
    pub mac: MacAddress,
    pub netns: BorrowedFd<'a>,
}

/// An address of an interface.
pub(crate) struct InterfaceAddress {
    pub interface: u32,
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl Links {
    pub fn open() -> Result<Self> {
        Ok(Self(Netlink::route()?))
    }

    /// The interface of that name, if there is one.
    pub fn find(&mut self, name: &InterfaceName) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        self.get_link(message, format!("interface {name}"))
    }

    /// The index of an interface that must exist.
    pub fn index_of(&mut self, name: &InterfaceName) -> Result<u32> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        let purpose = Purpose::new("look up", format!("interface {name}"));
        let replies = self.ask(&RouteNetlinkMessage::GetLink(message), 0, purpose.clone())?;
        let index = replies.iter().find_map(Link::parse).map(|link| link.index);
        index.ok_or_else(|| purpose.failed(Errno::BADMSG.into(), None))
    }

    /// The interface of that index, if there is one.
    pub fn at(&mut self, index: u32) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.get_link(message, format!("interface {index}"))
    }

    fn get_link(&mut self, message: LinkMessage, object: String) -> Result<Option<Link>> {
        let question = RouteNetlinkMessage::GetLink(message);
        match self.ask(&question, 0, Purpose::new("look up", object)) {
            Ok(replies) => Ok(replies.iter().find_map(Link::parse)),
            Err(error) if error.is_answer(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a bridge that is down, with a hardware address that does not change as interfaces come and go.
    pub fn create_bridge(&mut self, name: &InterfaceName, mac: MacAddress) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        let purpose = Purpose::new("create", format!("bridge {name}"));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, purpose)
    }

    /// Makes a pair of interfaces, both down; the far end is born in the other namespace.
    pub fn create_pair(&mut self, pair: &Pair<'_>) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(pair.container.to_string()));
        peer.attributes.push(LinkAttribute::Address(pair.mac.0.to_vec()));
        peer.attributes.push(LinkAttribute::Mtu(pair.mtu));
        peer.attributes.push(LinkAttribute::NetNsFd(pair.netns.as_raw_fd()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(pair.host.to_string()));
        message.attributes.push(LinkAttribute::Mtu(pair.mtu));
        message.attributes.push(LinkAttribute::Controller(pair.bridge));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let purpose = Purpose::new("create", format!("interfaces {} and {}", pair.host, pair.container));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, purpose)
    }

    /// Deletes an interface and its far end.
    pub fn delete(&mut self, name: &InterfaceName) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        self.change(
            RouteNetlinkMessage::DelLink(message),
            0,
            Purpose::new("delete", format!("interface {name}")),
        )
    }

    /// Switches an interface on.
    pub fn set_up(&mut self, name: &InterfaceName) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        self.switch_on(message, format!("interface {name}"))
    }

    /// Switches an interface of the bridge on, as one that may get back what it sent.
    ///
    /// Where br_netfilter is on, a container's packet to its own published port is turned around within the bridge
    /// ("hairpin") instead of going up to the host.
    pub fn set_port_up(&mut self, name: &InterfaceName) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ]));
        let purpose = Purpose::new("switch on", format!("bridge port {name}"));
        self.change(RouteNetlinkMessage::NewLink(message), 0, purpose)
    }

    /// Waits until packets pass. The kernel notices a carrier in the background, and what comes before is dropped by
    /// the interface and by the bridge: a lost address query would cost the first connection a second.
    pub fn wait_until_up(&mut self, name: &InterfaceName) -> Result<()> {
        let patience = Instant::now() + CARRIER_PATIENCE;
        // Without a carrier after that long, packets will pass when it comes.
        while Instant::now() < patience {
            if self.find(name)?.is_some_and(|link| link.carries) {
                break;
            }
            thread::sleep(CARRIER_STEP);
        }
        Ok(())
    }

    /// Switches the loopback interface on; its addresses come with that.
    pub fn set_loopback_up(&mut self) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = LOOPBACK;
        self.switch_on(message, "the loopback interface".to_owned())
    }

    fn switch_on(&mut self, mut message: LinkMessage, object: String) -> Result<()> {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0, Purpose::new("switch on", object))
    }

    /// Gives an interface an address; one that it has already is fine.
    pub fn add_address(&mut self, address: &InterfaceAddress) -> Result<()> {
        let host_part = u32::MAX.checked_shr(address.prefix.into()).unwrap_or(0);
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = address.prefix;
        message.header.index = address.interface;
        message.attributes.push(AddressAttribute::Local(IpAddr::V4(address.address)));
        message.attributes.push(AddressAttribute::Address(IpAddr::V4(address.address)));
        let broadcast = Ipv4Addr::from(u32::from(address.address) | host_part);
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
        let object =
            format!("address {}/{} to interface {}", address.address, address.prefix, address.interface);
        let added = self.change(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
            Purpose::new("add", object),
        );
        added.or_else(|error| if error.is_answer(Errno::EXIST) { Ok(()) } else { Err(error) })
    }

    /// All IPv4 addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<InterfaceAddress>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let question = RouteNetlinkMessage::GetAddress(message);
        let replies = self.ask(&question, NLM_F_DUMP, Purpose::new("list", "the addresses of the host"))?;
        Ok(replies.iter().filter_map(InterfaceAddress::parse).collect())
    }

    /// Sends everything that has no route of its own to `gateway`.
    pub fn add_default_route(&mut self, gateway: Ipv4Addr) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        let purpose = Purpose::new("add", format!("the default route by {gateway}"));
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL, purpose)
    }

    /// The interface by which the host reaches the outside, if it does.
    pub fn outside(&mut self) -> Result<Option<Link>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 32;
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(OUTSIDE)));
        let question = RouteNetlinkMessage::GetRoute(message);
        let replies = match self.ask(&question, 0, Purpose::new("look up", "the host's default route")) {
            Ok(replies) => replies,
            // "No route" has several names: none at all, a blackhole, a prohibition.
            Err(error) if error.is_answer(Errno::NETUNREACH) || error.is_answer(Errno::HOSTUNREACH) => {
                return Ok(None);
            }
            Err(error) if error.is_answer(Errno::INVAL) || error.is_answer(Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(error),
        };
        match replies.iter().find_map(outgoing_interface) {
            Some(index) => self.at(index),
            None => Ok(None),
        }
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16, purpose: Purpose) -> Result<()> {
        let (kind, payload) = Request::route(&message);
        self.0.send(&[Request::change(kind, flags, payload, purpose)]).map(drop)
    }

    fn ask(&mut self, message: &RouteNetlinkMessage, flags: u16, purpose: Purpose) -> Result<Vec<Reply>> {
        let (kind, payload) = Request::route(message);
        self.0.send(&[Request::question(kind, flags, payload, purpose)])
    }
}

fn parse(reply: &Reply) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = reply.kind;
    RouteNetlinkMessage::deserialize(&header, &reply.payload).ok()
}

impl Link {
    fn parse(reply: &Reply) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = parse(reply)? else { return None };
        let up = message.header.flags.contains(LinkFlags::Up);
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up,
            carries: false,
            is_bridge: false,
            mtu: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::OperState(state) => link.carries = state == State::Up,
                LinkAttribute::LinkInfo(infos) => {
                    link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge))
                }
                _ => {}
            }
        }
        Some(link)
    }
}

impl InterfaceAddress {
    fn parse(reply: &Reply) -> Option<Self> {
        let RouteNetlinkMessage::NewAddress(message) = parse(reply)? else { return None };
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        })?;
        Some(Self { interface: message.header.index, address, prefix: message.header.prefix_len })
    }
}

fn outgoing_interface(reply: &Reply) -> Option<u32> {
    let RouteNetlinkMessage::NewRoute(message) = parse(reply)? else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}
