//! Published ports and Docker's `--publish` syntax. A parsed port always names a container port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A transport protocol whose ports can be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The default.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// The protocol's number in the IP header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol of that number, if ports of it can be published.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| protocol.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port of the host that leads to one port of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host address it is reachable at; `None` for all of them.
    pub host_address: Option<IpAddr>,
    /// The port of the host; 0 lets [`attach`](crate::attach()) choose a free one.
    pub host_port: u16,
    /// Where [`attach`](crate::attach()) is to choose a free one of a range that begins with `host_port`: its last port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_host_port: Option<u16>,
    /// The port of the container; never 0.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl PublishedPort {
    /// Parses Docker's `[[ADDRESS:][PORT[-PORT]]:]PORT[-PORT][/PROTOCOL]`; a range of container ports gives
    /// several ports, one of host ports alone is what to choose from.
    ///
    /// An IPv6 address stands in brackets. An absent or empty host port means "choose one".
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let refuse = |problem| Error::PortSyntax { text: text.to_owned(), problem };
        let (rest, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, name)) if name.eq_ignore_ascii_case("tcp") => (rest, Protocol::Tcp),
            Some((rest, name)) if name.eq_ignore_ascii_case("udp") => (rest, Protocol::Udp),
            Some(_) => return Err(refuse("expected the protocol tcp or udp")),
        };
        let (host, container) = match rest.rsplit_once(':') {
            None => ("", rest),
            Some(parts) => parts,
        };
        let (host_address, host) = split_address(host).map_err(refuse)?;
        let container = parse_range(container).map_err(refuse)?;
        let hosts =
            if host.is_empty() || host == "0" { None } else { Some(parse_range(host).map_err(refuse)?) };
        let is_choice = container.len() == 1;
        if hosts.as_ref().is_some_and(|hosts| hosts.len() != container.len() && !is_choice) {
            return Err(refuse("expected as many host ports as container ports, or one container port"));
        }
        let last_host_port =
            hosts.as_ref().filter(|hosts| is_choice && hosts.len() > 1).map(|hosts| *hosts.end());
        let pair = |(offset, container_port): (usize, u16)| {
            // The offset is below the length of the host range, so it neither truncates nor overflows.
            let host_port = hosts.as_ref().map_or(0, |hosts| hosts.start() + offset as u16);
            Self { host_address, host_port, last_host_port, container_port, protocol }
        };
        Ok(container.enumerate().map(pair).collect())
    }

    /// The host's half as text, such as `0.0.0.0:8080/tcp`.
    pub fn host_side(&self) -> String {
        format!("{}/{}", self.host_ports(), self.protocol)
    }

    /// `0.0.0.0:8080`, or `0.0.0.0:8080-8090` where one is to be chosen.
    fn host_ports(&self) -> String {
        let address = self.host_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let last = self.last_host_port.map_or_else(String::new, |last| format!("-{last}"));
        format!("{}{last}", std::net::SocketAddr::new(address, self.host_port))
    }

    /// Whether a packet could be meant for both.
    pub(crate) fn collides_with(&self, other: &Self) -> bool {
        let same_address = match (self.host_address, other.host_address) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        same_address && self.host_port == other.host_port && self.protocol == other.protocol
    }
}

/// Docker's form of `docker ps`: `0.0.0.0:8080->80/tcp`.
impl fmt::Display for PublishedPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}->{}/{}", self.host_ports(), self.container_port, self.protocol)
    }
}

/// Splits `[ADDRESS:]PORTS`; `0.0.0.0` is the same as no address.
fn split_address(host: &str) -> Result<(Option<IpAddr>, &str), &'static str> {
    const PROBLEM: &str = "expected an IP address, IPv6 in brackets";
    let Some((address, ports)) = host.rsplit_once(':') else {
        return Ok((None, host));
    };
    let address = match address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => IpAddr::V6(inner.parse().map_err(|_| PROBLEM)?),
        None => IpAddr::V4(address.parse().map_err(|_| PROBLEM)?),
    };
    Ok((Some(address).filter(|address| *address != IpAddr::V4(Ipv4Addr::UNSPECIFIED)), ports))
}

fn parse_range(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let port = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|port: &u16| plain && *port != 0).ok_or("expected a port from 1 to 65535")
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first)?..=port(last)?;
    if range.is_empty() { Err("expected the range's first port to be the lower one") } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let got: Vec<_> = PublishedPort::parse(text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn docker_forms() {
        check("80", &["0.0.0.0:0->80/tcp"]);
        check("8080:80", &["0.0.0.0:8080->80/tcp"]);
        check("8080:80/UDP", &["0.0.0.0:8080->80/udp"]);
        check("127.0.0.1:8080:80", &["127.0.0.1:8080->80/tcp"]);
        check("127.0.0.1::80/tcp", &["127.0.0.1:0->80/tcp"]);
        check(":80", &["0.0.0.0:0->80/tcp"]);
        check("127.0.0.1:0:80", &["127.0.0.1:0->80/tcp"]);
        check("[::1]:8080:80", &["[::1]:8080->80/tcp"]);
        check("7000-7002:80-82", &["0.0.0.0:7000->80/tcp", "0.0.0.0:7001->81/tcp", "0.0.0.0:7002->82/tcp"]);
        check("7000-7002:80", &["0.0.0.0:7000-7002->80/tcp"]);
        check("7000-7000:80", &["0.0.0.0:7000->80/tcp"]);
        check("90-91", &["0.0.0.0:0->90/tcp", "0.0.0.0:0->91/tcp"]);
        check("65535:65535", &["0.0.0.0:65535->65535/tcp"]);
        assert_eq!(PublishedPort::parse("0.0.0.0:1:1").unwrap(), PublishedPort::parse("1:1").unwrap());
        assert_eq!(PublishedPort::parse("1-65535:1-65535").unwrap().len(), 65535);
    }

    #[test]
    fn odd_forms_are_refused() {
        for text in [
            "",
            ":",
            "0",
            "80:0",
            "65536",
            "+80",
            "80/sctp",
            "80/",
            "1-2:3-5",
            "2-1",
            "a:80",
            "localhost:80:80",
            "::1:80:80",
            "1.2.3:80:80",
            "1.2.3.4:1:2:3",
            "80-",
            "-80",
            "80:80:80",
        ] {
            let error = PublishedPort::parse(text).unwrap_err();
            assert!(matches!(error, Error::PortSyntax { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn every_address_collides_with_each() {
        let port = |text| PublishedPort::parse(text).unwrap()[0];
        for (one, two, collides) in [
            ("80:80", "127.0.0.1:80:81", true),
            ("127.0.0.1:80:80", "127.0.0.2:80:80", false),
            ("80:80", "80:80/udp", false),
            ("80:80", "81:80", false),
        ] {
            assert_eq!(port(one).collides_with(&port(two)), collides, "{one} {two}");
            assert_eq!(port(two).collides_with(&port(one)), collides, "{two} {one}");
        }
    }
}
