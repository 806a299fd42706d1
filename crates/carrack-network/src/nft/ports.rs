//! Published ports as elements of two maps: those of one host address, and those of all.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_EXCL, NlasIterator};

use super::attribute::Attributes;
use super::expression::data;
use super::transaction::{Transaction, Verb, ask, attributes_of};
use crate::netlink::{Netlink, Purpose, Reply};
use crate::{InterfaceName, Protocol, PublishedPort, Result};

/// `inet_proto . inet_service : ipv4_addr . inet_service`.
pub(super) const PORTS: &str = "ports";
/// `ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service`.
pub(super) const ADDRESS_PORTS: &str = "address_ports";

/// An element is at most 64 bytes, and one list of them must stay below 64 KiB.
const PORTS_PER_TRANSACTION: usize = 512;

const ELEMENT_LIST: u16 = 3;
const ELEMENT_ITEM: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;

/// An element that was told to expire is gone within a tick of the kernel's clock: 1 to 10 ms.
const EXPIRY_PATIENCE: Duration = Duration::from_millis(200);
const EXPIRY_STEP: Duration = Duration::from_micros(500);

/// One of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    Ports,
    AddressPorts,
}

impl Map {
    pub const ALL: [Self; 2] = [Self::Ports, Self::AddressPorts];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ports => PORTS,
            Self::AddressPorts => ADDRESS_PORTS,
        }
    }

    fn of(port: &PublishedPort) -> Self {
        if port.host_address.is_some() { Self::AddressPorts } else { Self::Ports }
    }

    /// The map without elements. Types are those of `nft`, six bits for each part of a key.
    pub fn declare(self, table: &str) -> Attributes {
        const TABLE: u16 = 1;
        const NAME: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_TYPE: u16 = 4;
        const KEY_LEN: u16 = 5;
        const DATA_TYPE: u16 = 6;
        const DATA_LEN: u16 = 7;
        const ID: u16 = 10;
        const IS_MAP: u32 = 1 << 3;
        const MAY_EXPIRE: u32 = 1 << 4;
        const IPV4_ADDR: u32 = 7;
        const INET_PROTO: u32 = 12;
        const INET_SERVICE: u32 = 13;
        let (key_type, key_len) = match self {
            Self::Ports => (INET_PROTO << 6 | INET_SERVICE, 8),
            Self::AddressPorts => (IPV4_ADDR << 12 | INET_PROTO << 6 | INET_SERVICE, 12),
        };
        Attributes::new()
            .text(TABLE, table)
            .text(NAME, self.name())
            .number(FLAGS, IS_MAP | MAY_EXPIRE)
            .number(KEY_TYPE, key_type)
            .number(KEY_LEN, key_len)
            .number(DATA_TYPE, IPV4_ADDR << 6 | INET_SERVICE)
            .number(DATA_LEN, 8)
            .number(ID, self as u32 + 1)
    }
}

/// The maps of one bridge in the kernel.
pub(crate) struct PortMaps<'a> {
    netlink: &'a mut Netlink,
    bridge: &'a InterfaceName,
}

impl<'a> PortMaps<'a> {
    pub fn new(netlink: &'a mut Netlink, bridge: &'a InterfaceName) -> Self {
        Self { netlink, bridge }
    }

    /// Leads the ports to `address`, all or none; fails if one of them is led elsewhere.
    pub fn add(&mut self, address: Ipv4Addr, ports: &[PublishedPort]) -> Result<()> {
        for (number, chunk) in ports.chunks(PORTS_PER_TRANSACTION).enumerate() {
            if let Err(error) = self.change(Change::Add, address, chunk) {
                let _ = self.remove(address, &ports[..number * PORTS_PER_TRANSACTION]);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Leads the ports to `address`; those that are led there already stay as they are.
    pub fn restore(&mut self, address: Ipv4Addr, ports: &[PublishedPort]) -> Result<()> {
        ports.chunks(PORTS_PER_TRANSACTION).try_for_each(|chunk| self.change(Change::Restore, address, chunk))
    }

    /// Forgets the ports that lead to `address`; those that are not there are forgotten already.
    pub fn remove(&mut self, address: Ipv4Addr, ports: &[PublishedPort]) -> Result<()> {
        let change = if elements_can_be_expired() { Change::Expire } else { Change::Destroy };
        ports.chunks(PORTS_PER_TRANSACTION).try_for_each(|chunk| self.change(change, address, chunk))
    }

    fn change(&mut self, change: Change, address: Ipv4Addr, ports: &[PublishedPort]) -> Result<()> {
        let (operation, verb, flags) = match change {
            Change::Add => ("publish", Verb::NewElement, NLM_F_EXCL),
            Change::Restore => ("publish", Verb::NewElement, 0),
            Change::Expire => ("withdraw", Verb::NewElement, 0),
            Change::Destroy => ("withdraw", Verb::DestroyElement, 0),
        };
        let mut transaction = Transaction::new();
        for map in Map::ALL {
            let of_map: Vec<_> = ports.iter().filter(|port| Map::of(port) == map).collect();
            let Some(first) = of_map.first() else { continue };
            let object = match of_map.len() {
                1 => format!("port {first}"),
                count => format!("{count} ports from {first} on"),
            };
            let elements = of_map.iter().map(|port| element(port, address, change));
            let list = self.list(map).list(ELEMENT_LIST, ELEMENT_ITEM, elements);
            transaction.push(verb, flags, list, Purpose::new(operation, object));
        }
        transaction.commit(self.netlink)
    }

    /// All ports that are led somewhere, with the address they are led to.
    ///
    /// Those just withdrawn are not among them; if one of them stands in the way of `wanted`, waits until the kernel
    /// has let go of it.
    pub fn list_all(&mut self, wanted: &[PublishedPort]) -> Result<Vec<(PublishedPort, Ipv4Addr)>> {
        let patience = Instant::now() + EXPIRY_PATIENCE;
        loop {
            let elements = self.elements()?;
            let in_the_way = |element: &&Element| wanted.iter().any(|port| port.collides_with(&element.port));
            let settled =
                !elements.iter().filter(|element| element.expires).any(|element| in_the_way(&element));
            if settled || Instant::now() > patience {
                let living = elements.into_iter().filter(|element| !element.expires || !settled);
                return Ok(living.map(|element| (element.port, element.address)).collect());
            }
            thread::sleep(EXPIRY_STEP);
        }
    }

    fn elements(&mut self) -> Result<Vec<Element>> {
        let mut all = Vec::new();
        for map in Map::ALL {
            let purpose = Purpose::new("list", format!("nft map ip {} {}", self.bridge, map.name()));
            let replies = ask(self.netlink, (Verb::GetElement, NLM_F_DUMP), self.list(map), purpose)?;
            all.extend(replies.iter().flatten().flat_map(elements_of));
        }
        Ok(all)
    }

    fn list(&self, map: Map) -> Attributes {
        const TABLE: u16 = 1;
        const SET: u16 = 2;
        Attributes::new().text(TABLE, self.bridge.as_str()).text(SET, map.name())
    }
}

/// What is done to elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Fails on elements that are there.
    Add,
    /// Leaves elements that are there.
    Restore,
    /// Ends the life of elements at the next tick; the kernel frees them when it has time.
    Expire,
    /// Deletes elements. The next close of any netfilter socket then waits for an RCU grace period of 4 to 15 ms.
    Destroy,
}

/// Whether the life of an element can be changed after it was made (Linux 6.12; before, the change is ignored).
fn elements_can_be_expired() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 12))
}

fn element(port: &PublishedPort, address: Ipv4Addr, change: Change) -> Attributes {
    let element = Attributes::new().nest(ELEMENT_KEY, data(&key(port)));
    let target = data(&target(address, port.container_port));
    match change {
        Change::Add | Change::Restore => element.nest(ELEMENT_DATA, target),
        Change::Expire => element.nest(ELEMENT_DATA, target).milliseconds(ELEMENT_TIMEOUT, 1),
        Change::Destroy => element,
    }
}

/// Each part of a key takes a multiple of four bytes.
fn key(port: &PublishedPort) -> Vec<u8> {
    let [high, low] = port.host_port.to_be_bytes();
    let tail = [port.protocol.number(), 0, 0, 0, high, low, 0, 0];
    match port.host_address {
        Some(IpAddr::V4(address)) => [&address.octets()[..], &tail].concat(),
        // `attach` takes IPv4 ports only.
        _ => tail.to_vec(),
    }
}

fn target(address: Ipv4Addr, port: u16) -> [u8; 8] {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    [a, b, c, d, high, low, 0, 0]
}

/// An element as the kernel lists it.
#[derive(Debug, PartialEq, Eq)]
struct Element {
    port: PublishedPort,
    address: Ipv4Addr,
    expires: bool,
}

impl Element {
    fn parse(attributes: &[u8]) -> Option<Self> {
        let find = |kind| NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() == kind);
        let value = |kind| Some(NlasIterator::new(find(kind)?.value()).flatten().next()?.value().to_vec());
        let (key, target) = (value(ELEMENT_KEY)?, value(ELEMENT_DATA)?);
        let (address, tail) = key.split_at(key.len().checked_sub(8)?);
        let port = PublishedPort {
            host_address: address.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
            host_port: u16::from_be_bytes([tail[4], tail[5]]),
            last_host_port: None,
            container_port: u16::from_be_bytes([*target.get(4)?, *target.get(5)?]),
            protocol: Protocol::of_number(tail[0])?,
        };
        let address = Ipv4Addr::from(*target.first_chunk::<4>()?);
        Some(Self { port, address, expires: find(ELEMENT_EXPIRATION).is_some() })
    }
}

/// The elements in one reply of a dump.
fn elements_of(reply: &Reply) -> Vec<Element> {
    let lists = NlasIterator::new(attributes_of(reply)).flatten().filter(|list| list.kind() == ELEMENT_LIST);
    let parse = |list: &[u8]| -> Vec<_> {
        NlasIterator::new(list).flatten().filter_map(|item| Element::parse(item.value())).collect()
    };
    lists.flat_map(|list| parse(list.value())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_reads_back_as_it_was_written() {
        for text in ["8080:80", "127.0.0.1:53:5353/udp"] {
            let port = PublishedPort::parse(text).unwrap()[0];
            let address = Ipv4Addr::new(10, 87, 0, 2);
            let list =
                Attributes::new().list(ELEMENT_LIST, ELEMENT_ITEM, [element(&port, address, Change::Add)]);
            let reply = Reply { kind: 0, payload: list.into_message(2, 0) };
            assert_eq!(elements_of(&reply), [Element { port, address, expires: false }]);
        }
    }

    #[test]
    fn elements_of_another_shape_are_left() {
        let odd = Attributes::new().nest(ELEMENT_KEY, data(&[1, 2])).nest(ELEMENT_DATA, data(&[1]));
        let list = Attributes::new().list(ELEMENT_LIST, ELEMENT_ITEM, [odd]);
        assert!(elements_of(&Reply { kind: 0, payload: list.into_message(2, 0) }).is_empty());
        assert!(elements_of(&Reply { kind: 0, payload: vec![255; 9] }).is_empty());
    }
}
