//! Traffic of the interfaces that a process sees.

use carrack_sys::atomic;

use crate::Result;

/// An interface of a network namespace and its traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the namespace.
    pub name: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets that came in damaged.
    pub received_errors: u64,
    /// Packets that came in and were dropped.
    pub received_drops: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets that could not be sent.
    pub sent_errors: u64,
    /// Packets that were dropped before they were sent.
    pub sent_drops: u64,
}

/// The interfaces in the network namespace of the process `pid`, without loopback; none when it has ended.
pub fn network_interfaces(pid: i32) -> Result<Vec<Interface>> {
    let file = format!("/proc/{pid}/net/dev");
    let bytes = atomic::read(file.as_ref())?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let interfaces = text.lines().filter_map(interface).filter(|interface| interface.name != "lo");
    Ok(interfaces.collect())
}

/// `  eth0:  1 2 3 4 0 0 0 0  5 6 7 8 0 0 0 0`
fn interface(line: &str) -> Option<Interface> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> =
        counters.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let counter = |at: usize| counters.get(at).copied();
    Some(Interface {
        name: name.trim().to_owned(),
        received_bytes: counter(0)?,
        received_packets: counter(1)?,
        received_errors: counter(2)?,
        received_drops: counter(3)?,
        sent_bytes: counter(8)?,
        sent_packets: counter(9)?,
        sent_errors: counter(10)?,
        sent_drops: counter(11)?,
    })
}
