//! `HostConfig` of `docker container inspect`: what was asked of the host.

use carrack_container::{ContainerNetwork, HostSettings, SecuritySettings};
use serde_json::{Value, json};

use super::lifecycle;
use super::mounts;
use super::network::{bindings_json, network_text};
use super::resources;
use crate::settings::ContainerSettings;

/// The settings as Docker shows them, one section after the other.
pub fn host_json(host: &HostSettings, settings: &ContainerSettings) -> Value {
    let sections = [
        resources::resources(&host.resources, settings),
        resources::devices(&host.devices),
        mounts::asked(&host.mounts),
        network(&host.network),
        security(&host.security),
        lifecycle::lifecycle_json(&host.lifecycle),
        json!({
            "AutoRemove": host.auto_remove,
            "GroupAdd": host.group_add,
            "Init": host.init,
            "Annotations": host.annotations,
            "Sysctls": host.sysctls,
        }),
    ];
    let fields = sections.into_iter().filter_map(|section| match section {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}

fn network(network: &ContainerNetwork) -> Value {
    json!({
        "NetworkMode": network_text(&network.mode),
        "PortBindings": bindings_json(&network.ports),
        "PublishAllPorts": network.publish_all,
        "Dns": network.dns,
        "DnsSearch": network.dns_search,
        "DnsOptions": network.dns_options,
        "ExtraHosts": network.extra_hosts,
    })
}

fn security(security: &SecuritySettings) -> Value {
    json!({
        "Privileged": security.privileged,
        "CapAdd": security.cap_add,
        "CapDrop": security.cap_drop,
        "SecurityOpt": security.options,
    })
}
