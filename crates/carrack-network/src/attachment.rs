//! What `attach` made and `detach` takes: names and addresses, all derived from the leased address.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{Error, PublishedPort, Result};

/// How a container is joined to a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The container it belongs to, as its caller named it.
    pub container: String,
    /// The bridge of the host.
    pub bridge: InterfaceName,
    /// The interface in the container's namespace.
    pub interface: InterfaceName,
    /// Its address.
    pub address: Ipv4Addr,
    /// The length of the network part of the address in bits.
    pub prefix: u8,
    /// The bridge's address, the container's default route.
    pub gateway: Ipv4Addr,
    /// Its hardware address.
    pub mac: MacAddress,
    /// The ports of the host that lead here; none has host port 0.
    pub ports: Vec<PublishedPort>,
    /// The other end of the interface, in the host's namespace.
    pub host_interface: InterfaceName,
}

/// A name of a network interface that is also safe as a file name: 1 to 15 of `a-z A-Z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if (1..=15).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name))
        } else {
            Err(Error::InterfaceName { name })
        }
    }

    /// The host's end of the pair that has `address`. The kernel refuses a second interface of the same name, which
    /// makes the name the proof that the address is free on this host.
    pub(crate) fn of_address(address: Ipv4Addr) -> Self {
        Self(format!("veth{:08x}", u32::from(address)))
    }

    /// The name that programs expect in a container.
    pub(crate) fn in_container() -> Self {
        Self("eth0".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}

/// A hardware address; as text `0a:58:0a:57:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether an interface can have it: one of a group (its first octet is odd) or of zeros cannot.
    pub fn is_of_one_interface(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// The locally administered address of an IPv4 address: neighbours' caches stay right when it is leased again.
    pub(crate) fn of_address(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x0a, 0x58, a, b, c, d])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl TryFrom<String> for MacAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let octet = |part: &str| {
            let plain = part.len() <= 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| plain)
        };
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        match octets.and_then(|octets| octets.try_into().ok()) {
            Some(octets) => Ok(Self(octets)),
            None => Err(Error::MacAddress { text }),
        }
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_paths_and_for_the_kernel() {
        for name in ["", ".", "..", "a/b", "a b", "0123456789abcdef", "br\0", "é", "a.b", "a:1"] {
            assert!(InterfaceName::new(name).is_err(), "{name:?}");
        }
        assert_eq!(InterfaceName::new("carrack0").unwrap().as_str(), "carrack0");
        assert_eq!(InterfaceName::of_address(Ipv4Addr::new(10, 87, 255, 254)).as_str(), "veth0a57fffe");
    }

    #[test]
    fn a_record_with_a_hostile_bridge_name_is_refused() {
        let text = r#""../../etc""#;
        assert!(serde_json::from_str::<InterfaceName>(text).is_err());
    }

    #[test]
    fn hardware_addresses_round_trip() {
        let mac = MacAddress::of_address(Ipv4Addr::new(10, 87, 0, 2));
        assert_eq!(mac.to_string(), "0a:58:0a:57:00:02");
        assert_eq!(MacAddress::try_from(mac.to_string()).unwrap(), mac);
        assert!(MacAddress::try_from("0a:58".to_owned()).is_err());
    }
}
