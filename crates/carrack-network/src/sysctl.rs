//! Settings of the calling thread's network namespace. Written only when they differ, so that a read-only
//! `/proc/sys` that is already right is no error.

use std::fs;
use std::path::Path;

use carrack_sys::{Error, IoContext};

use crate::{InterfaceName, Result};

/// Makes the host forward packets between its interfaces.
pub(crate) fn forward_ipv4() -> Result<()> {
    ensure("ipv4/ip_forward", "1")
}

/// Lets packets of the host from 127.0.0.1 leave through the bridge, and their answers come back.
///
/// The ruleset's `guard` chain keeps containers and other hosts from using it.
pub(crate) fn route_loopback(bridge: &InterfaceName) -> Result<()> {
    ensure(&format!("ipv4/conf/{bridge}/route_localnet"), "1")
}

/// Keeps an interface of an IPv4-only network free of IPv6: no address, and no router advertisement that another
/// container could send to become the router of its neighbours or of the host (CVE-2020-10749, CVE-2020-13401).
pub(crate) fn refuse_ipv6(interface: &InterfaceName) -> Result<()> {
    for (setting, value) in [("accept_ra", "0"), ("disable_ipv6", "1")] {
        match ensure(&format!("ipv6/conf/{interface}/{setting}"), value) {
            // The kernel runs without IPv6.
            Err(crate::Error::Io(error)) if error.is_not_found() => {}
            result => result?,
        }
    }
    Ok(())
}

fn ensure(setting: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys/net").join(setting);
    let current = fs::read_to_string(&path).during("read", &path)?;
    if current.trim_end() == value {
        return Ok(());
    }
    Ok(fs::write(&path, value).during("write", &path).map_err(|error| Error { verb: "set", ..error })?)
}
