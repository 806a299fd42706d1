//! What can go wrong; every kernel error names the operation and its object.

use std::io;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::{PublishedPort, Subnet};

/// The result of a network operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the state folder, a sysctl or a namespace.
    #[error(transparent)]
    Io(#[from] carrack_sys::Error),

    /// A netlink request that the kernel refused.
    #[error("cannot {operation} {object}: {source}{}", detail.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Netlink {
        /// What was asked, as in "create".
        operation: &'static str,
        /// Of what, as in "bridge carrack0".
        object: String,
        /// The kernel's extended message, where it sent one.
        detail: Option<String>,
        /// What the kernel said.
        source: io::Error,
    },

    /// The host port belongs to another container or to a process of the host.
    #[error("cannot publish port {port}: {} is in use by {holder}", port.host_side())]
    PortInUse {
        /// The port that was asked for.
        port: PublishedPort,
        /// Who has it.
        holder: String,
    },

    /// The host port cannot be had for another reason, such as an address that is not the host's.
    #[error("cannot publish port {port}: {source}")]
    PortUnavailable {
        /// The port that was asked for.
        port: PublishedPort,
        /// What the kernel said about binding it.
        source: io::Error,
    },

    /// The network is IPv4 only.
    #[error("cannot publish port {port}: the network has IPv4 addresses only")]
    PortFamily {
        /// The port that was asked for.
        port: PublishedPort,
    },

    /// A `--publish` value that cannot be understood.
    #[error("cannot parse published port {text:?}: {problem}")]
    PortSyntax {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A subnet that cannot be understood or used.
    #[error("cannot parse subnet {text:?}: {problem}")]
    SubnetSyntax {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A name that the kernel or a path would not take.
    #[error("cannot use {name:?} as an interface name: expected 1 to 15 characters of a-z A-Z 0-9 _ -")]
    InterfaceName {
        /// What was given.
        name: String,
    },

    /// A hardware address that cannot be understood.
    #[error("cannot parse hardware address {text:?}: expected six hexadecimal octets separated by colons")]
    MacAddress {
        /// What was given.
        text: String,
    },

    /// The address that was asked for belongs to another container.
    #[error("cannot lease address {address}: it is in use by another container")]
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
    },

    /// The address that was asked for is not one that a container of the bridge can have.
    #[error("cannot lease address {address}: expected one of subnet {subnet} that is not the bridge's own")]
    AddressOutside {
        /// The address.
        address: Ipv4Addr,
        /// The bridge's subnet.
        subnet: Subnet,
    },

    /// Every address of the subnet is leased.
    #[error("cannot lease an address: all of subnet {subnet} are in use")]
    NoAddressLeft {
        /// The bridge's subnet.
        subnet: Subnet,
    },

    /// The subnet is already that of another interface of the host.
    #[error(
        "cannot create bridge {bridge}: subnet {subnet} overlaps {address}/{prefix} of interface {interface}"
    )]
    SubnetOverlap {
        /// The bridge.
        bridge: String,
        /// The bridge's subnet.
        subnet: Subnet,
        /// The interface that has it.
        interface: String,
        /// That interface's address.
        address: Ipv4Addr,
        /// That interface's prefix length.
        prefix: u8,
    },

    /// An interface of the bridge's name exists and is something else.
    #[error("cannot use interface {name} as a bridge: expected a bridge, got another kind")]
    NotABridge {
        /// The interface.
        name: String,
    },

    /// A lease file that is not what was written there.
    #[error("cannot read lease {address}: {source}")]
    Lease {
        /// The leased address.
        address: Ipv4Addr,
        /// What the parser said.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether this is the kernel's answer `errno` to a netlink request.
    pub(crate) fn is_answer(&self, errno: Errno) -> bool {
        matches!(self, Self::Netlink { source, .. } if source.raw_os_error() == Some(errno.raw_os_error()))
    }
}
