//! Flows that the kernel remembers from before a port was published.
//!
//! A UDP client that keeps its source port stays on the path its first packet took: to the host itself, or to the
//! container that had the port before. Those flows are forgotten, so that its next packet is looked at anew.

use rustix::io::Errno;

use crate::netlink::{Netlink, Purpose, Request};
use crate::nft::Attributes;
use crate::{Protocol, PublishedPort, Result};

const FAMILY_IPV4: u8 = 2;
/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = 1 << 8 | 2;

/// Forgets the flows to the UDP ports among `ports`.
///
/// A kernel that cannot select flows by port refuses; then a client's old flow ends by itself in half a minute to
/// two of silence.
pub(crate) fn forget_flows(netlink: &mut Netlink, ports: &[PublishedPort]) -> Result<()> {
    for port in ports.iter().filter(|port| port.protocol == Protocol::Udp) {
        let purpose = Purpose::new("forget", format!("flows to udp port {}", port.host_port));
        let message = selection(port).into_message(FAMILY_IPV4, 0);
        match netlink.send(&[Request::change(DELETE, 0, message, purpose)]) {
            Err(error)
                if [Errno::NOENT, Errno::INVAL, Errno::OPNOTSUPP].iter().any(|it| error.is_answer(*it)) => {}
            result => result.map(drop)?,
        }
    }
    Ok(())
}

/// Flows whose first packet went to this protocol and port, whatever the addresses (`CTA_FILTER`, Linux 5.8).
fn selection(port: &PublishedPort) -> Attributes {
    const TUPLE_ORIGINAL: u16 = 1;
    const TUPLE_PROTOCOL: u16 = 2;
    const PROTOCOL_NUMBER: u16 = 1;
    const PROTOCOL_DESTINATION_PORT: u16 = 3;
    const FILTER: u16 = 25;
    const FILTER_ORIGINAL: u16 = 1;
    const FILTER_REPLY: u16 = 2;
    const BY_PROTOCOL: u32 = 1 << 3;
    const BY_DESTINATION_PORT: u32 = 1 << 5;
    let protocol = Attributes::new()
        .bytes(PROTOCOL_NUMBER, &[port.protocol.number()])
        .bytes(PROTOCOL_DESTINATION_PORT, &port.host_port.to_be_bytes());
    // These two are in the byte order of the host, unlike all else here.
    let filter = Attributes::new()
        .bytes(FILTER_ORIGINAL, &(BY_PROTOCOL | BY_DESTINATION_PORT).to_ne_bytes())
        .bytes(FILTER_REPLY, &0_u32.to_ne_bytes());
    Attributes::new()
        .nest(TUPLE_ORIGINAL, Attributes::new().nest(TUPLE_PROTOCOL, protocol))
        .nest(FILTER, filter)
}
