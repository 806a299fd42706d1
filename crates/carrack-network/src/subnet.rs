//! An IPv4 subnet whose first address is the gateway's and whose other addresses are leased in turn.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A network address with a prefix length, such as `10.87.0.0/16`; always has room for a gateway and a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    network: u32,
    prefix: u8,
}

impl Subnet {
    /// The network of `address`/`prefix`; a prefix outside 8 to 30 is refused.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self> {
        let refuse = |problem| Error::SubnetSyntax { text: format!("{address}/{prefix}"), problem };
        if !(8..=30).contains(&prefix) {
            return Err(refuse("expected a prefix length from 8 to 30"));
        }
        let network = u32::from(address) & mask(prefix);
        if network != u32::from(address) {
            return Err(refuse("expected a network address, got one with host bits"));
        }
        Ok(Self { network, prefix })
    }

    /// The network address and the mask of its bits.
    pub(crate) fn network_and_mask(self) -> (Ipv4Addr, Ipv4Addr) {
        (Ipv4Addr::from(self.network), Ipv4Addr::from(mask(self.prefix)))
    }

    /// The length of the network part in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The bridge's own address: the first one.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1)
    }

    /// Whether any address is in both networks.
    pub fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        let shared = mask(self.prefix.min(prefix));
        (self.network ^ u32::from(address)) & shared == 0
    }

    /// Whether a container can have this address.
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        let reserved = [self.network, self.network + 1, self.network | !mask(self.prefix)];
        self.overlaps(address, 32) && !reserved.contains(&u32::from(address))
    }

    /// All addresses for containers, starting after `last` and going round once.
    pub(crate) fn addresses_after(self, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
        let first = self.network + 2;
        let count = (!mask(self.prefix) - 1).saturating_sub(1);
        let offset = match last.map(u32::from) {
            Some(last) if (first..first + count).contains(&last) => last - first + 1,
            _ => 0,
        };
        (0..count).map(move |step| Ipv4Addr::from(first + (offset + step) % count))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::SubnetSyntax { text: text.to_owned(), problem: "expected ADDRESS/PREFIX" };
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        Self::new(address.parse().map_err(|_| refuse())?, prefix.parse().map_err(|_| refuse())?)
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_and_leave_out_network_gateway_and_broadcast() {
        let subnet: Subnet = "192.168.7.8/29".parse().unwrap();
        let after = |last: &str| {
            subnet.addresses_after(last.parse().ok()).map(|address| address.octets()[3]).collect::<Vec<_>>()
        };
        assert_eq!(subnet.gateway().octets()[3], 9);
        assert_eq!(after(""), [10, 11, 12, 13, 14]);
        assert_eq!(after("192.168.7.12"), [13, 14, 10, 11, 12]);
        assert_eq!(after("192.168.7.14"), [10, 11, 12, 13, 14]);
        assert_eq!(after("10.0.0.1"), [10, 11, 12, 13, 14], "a foreign cursor starts anew");
        assert_eq!("10.0.0.0/30".parse::<Subnet>().unwrap().addresses_after(None).count(), 1);
    }

    #[test]
    fn overlap_is_symmetric_and_exact() {
        let subnet: Subnet = "10.87.0.0/16".parse().unwrap();
        for (address, prefix, overlaps) in
            [("10.87.3.1", 24, true), ("10.0.0.1", 8, true), ("10.88.0.1", 16, false), ("0.0.0.0", 0, true)]
        {
            assert_eq!(subnet.overlaps(address.parse().unwrap(), prefix), overlaps, "{address}/{prefix}");
        }
    }

    #[test]
    fn odd_subnets_are_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.1/24",
            "10.0.0.0/31",
            "10.0.0.0/7",
            "10.0.0.0/33",
            "::/64",
            "10.0.0.0/+16x",
        ] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
