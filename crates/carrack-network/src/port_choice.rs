//! Which ports of the host a container gets: those it asked for if they are free, free ones where it left the choice.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::{Error, Protocol, PublishedPort, Result};

/// A free port may be found taken by a container; the kernel then chooses again, this many times at most.
const TRIES: usize = 64;

/// The ports that are led to containers, and those chosen so far.
pub(crate) struct PortChoice<H> {
    taken: HashMap<(Protocol, u16), Vec<(PublishedPort, Ipv4Addr)>>,
    holder_name: H,
}

impl<H: Fn(Ipv4Addr) -> String> PortChoice<H> {
    /// `holder_name` tells a user who has a container address.
    pub fn new(taken: impl IntoIterator<Item = (PublishedPort, Ipv4Addr)>, holder_name: H) -> Self {
        let mut choice = Self { taken: HashMap::new(), holder_name };
        taken.into_iter().for_each(|(port, address)| choice.take(port, address));
        choice
    }

    /// The ports as they are published, in order, none with host port 0.
    pub fn choose(&mut self, ports: &[PublishedPort]) -> Result<Vec<PublishedPort>> {
        ports.iter().map(|port| self.choose_one(*port)).collect()
    }

    fn choose_one(&mut self, port: PublishedPort) -> Result<PublishedPort> {
        let tries = if port.host_port == 0 { TRIES } else { 1 };
        let wanted = port.host_port..=port.last_host_port.unwrap_or(port.host_port);
        let mut last = None;
        for host_port in wanted.flat_map(|wanted| std::iter::repeat_n(wanted, tries)) {
            let candidate = PublishedPort { host_port, last_host_port: None, ..port };
            let holder = match bind(&candidate)? {
                None => Some("a process of the host".to_owned()),
                Some(host_port) => {
                    let chosen = PublishedPort { host_port, ..candidate };
                    let holder = self.holder_of(&chosen);
                    if holder.is_none() {
                        self.take(chosen, Ipv4Addr::UNSPECIFIED);
                        return Ok(chosen);
                    }
                    holder
                }
            };
            last = holder;
        }
        Err(Error::PortInUse { port, holder: last.unwrap_or_default() })
    }

    fn take(&mut self, port: PublishedPort, address: Ipv4Addr) {
        self.taken.entry((port.protocol, port.host_port)).or_default().push((port, address));
    }

    fn holder_of(&self, port: &PublishedPort) -> Option<String> {
        let candidates = self.taken.get(&(port.protocol, port.host_port))?;
        let (_, address) = candidates.iter().find(|(other, _)| other.collides_with(port))?;
        Some(match address {
            &Ipv4Addr::UNSPECIFIED => "another published port of the same container".to_owned(),
            address => (self.holder_name)(*address),
        })
    }
}

/// Binds the host's port for a moment: no process of the host may have it. Returns its number; `None` where one has it.
fn bind(port: &PublishedPort) -> Result<Option<u16>> {
    let address = port.host_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let address = SocketAddr::new(address, port.host_port);
    let bound = match port.protocol {
        Protocol::Tcp => TcpListener::bind(address).and_then(|socket| socket.local_addr()),
        Protocol::Udp => UdpSocket::bind(address).and_then(|socket| socket.local_addr()),
    };
    match bound {
        Ok(address) => Ok(Some(address.port())),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(source) => Err(Error::PortUnavailable { port: *port, source }),
    }
}
