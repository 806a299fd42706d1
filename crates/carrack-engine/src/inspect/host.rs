//! `HostConfig` of `docker container inspect`: what was asked of the host.

use carrack_container::{
    ContainerNetwork, HostSettings, NamespaceMode, NamespaceSettings, SecuritySettings, UserMode,
};
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
        namespaces(&host.namespaces),
        json!({
            "AutoRemove": host.auto_remove,
            "GroupAdd": host.group_add,
            "Init": host.init,
            "OomScoreAdj": host.oom_score_adj.unwrap_or(0),
            "Annotations": host.annotations,
            "Sysctls": host.sysctls,
            "Runtime": host.runtime.as_ref().map_or("carrack", |runtime| &runtime.name),
        }),
    ];
    let fields = sections.into_iter().filter_map(|section| match section {
        Value::Object(fields) => Some(fields),
        _ => None,
    });
    Value::Object(fields.flatten().collect())
}

fn namespaces(modes: &NamespaceSettings) -> Value {
    // Docker's word for a user namespace that is not asked for is none.
    let user = if modes.user == UserMode::Host { String::new() } else { modes.user.to_string() };
    let text = |mode: &NamespaceMode| match mode {
        NamespaceMode::Private => String::new(),
        mode => mode.to_string(),
    };
    json!({
        "UsernsMode": user,
        "PidMode": text(&modes.pid),
        "IpcMode": modes.ipc.to_string(),
        "UTSMode": text(&modes.uts),
        "CgroupnsMode": modes.cgroup.to_string(),
    })
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
