//! Which namespaces a container has of its own.

use carrack_container::NetworkMode;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use super::SpecInput;

/// Those of `own` that the container does not share with the host.
pub fn namespaces(input: &SpecInput<'_>, mut own: Vec<LinuxNamespace>) -> Vec<LinuxNamespace> {
    let mut shared = Vec::new();
    if input.host.network.mode == NetworkMode::Host {
        shared.push(LinuxNamespaceType::Network);
    }
    if !has_own_name(input) {
        shared.push(LinuxNamespaceType::Uts);
    }
    own.retain(|namespace| !shared.contains(&namespace.typ()));
    own
}

/// The host's name goes with its network, unless the user gives another.
pub fn has_own_name(input: &SpecInput<'_>) -> bool {
    input.host.network.mode != NetworkMode::Host
        || !input.program.hostname.is_empty()
        || !input.program.domainname.is_empty()
}
