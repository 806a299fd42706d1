//! nf_tables over netlink: the rules of a bridge, and its maps of published ports.
//!
//! Everything is in one table of the bridge's name in the `ip` family; no other table is read or changed.

mod attribute;
mod expression;
mod ports;
mod ruleset;
mod transaction;

pub(crate) use attribute::Attributes;
pub(crate) use ports::PortMaps;
pub(crate) use ruleset::ensure;
