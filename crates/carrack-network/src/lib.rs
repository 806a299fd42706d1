//! A container's way to the network: a bridge, an address, a pair of interfaces, published ports.
//!
//! [`attach`] joins a network namespace to a [`Bridge`] and returns the [`Attachment`] that [`detach`] takes. All of
//! it is netlink and `/proc/sys`; no program is run. The calls act on the network namespace of the calling thread
//! ("the host") and take that of the container as a descriptor, which a short-lived thread enters.
//!
//! Where the truth is kept:
//!
//! ```text
//! <state_dir>/<bridge>/lock            held by every change
//! <state_dir>/<bridge>/last            the address that was handed out last (round-robin)
//! <state_dir>/<bridge>/<ADDRESS>       an Attachment as JSON; written before the kernel is changed
//! interface veth<ADDR in hex>          made with O_EXCL meaning: two state folders never hand out one address
//! nft table ip <bridge>                static rules, made once; a published port is one element of one map
//! ```
//!
//! The state folder belongs to the host's network namespace, so it is run state (a reboot takes both) and one folder
//! serves all stores of a host. An attachment needs no clean-up in the kernel but its map elements: its interfaces go
//! when the container's namespace goes.

mod attach;
mod attachment;
mod bridge;
mod conntrack;
mod error;
mod lease;
mod link;
mod netlink;
mod netns;
mod nft;
mod port;
mod port_choice;
mod subnet;
mod sysctl;

pub use attach::{Wish, attach, attach_at, detach, find, reload};
pub use attachment::{Attachment, InterfaceName, MacAddress};
pub use bridge::Bridge;
pub use error::{Error, Result};
pub use lease::{LeaseScan, remove_damaged, scan};
pub use port::{Protocol, PublishedPort};
pub use subnet::Subnet;
