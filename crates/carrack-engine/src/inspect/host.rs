//! `HostConfig` of `docker container inspect`: what was asked of the host.

use carrack_container::{ContainerNetwork, HostSettings, Resources, SecuritySettings, Ulimit};
use serde_json::{Value, json};

use super::mounts;
use super::network::{bindings_json, network_text};
use crate::settings::ContainerSettings;

/// The settings as Docker shows them, one section after the other.
pub fn host_json(host: &HostSettings, settings: &ContainerSettings) -> Value {
    let sections = [
        resources(&host.resources, settings),
        mounts::asked(&host.mounts),
        network(&host.network),
        security(&host.security),
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

fn resources(asked: &Resources, settings: &ContainerSettings) -> Value {
    let ulimit = |limit: &Ulimit| json!({"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard});
    json!({
        "Memory": asked.memory_bytes.unwrap_or(0),
        "MemorySwap": asked.memory_swap_bytes.unwrap_or(0),
        "NanoCpus": asked.nano_cpus.unwrap_or(0),
        "CpuShares": asked.cpu_shares.unwrap_or(0),
        "CpusetCpus": asked.cpuset_cpus.clone().unwrap_or_default(),
        "PidsLimit": asked.pids_limit.unwrap_or(settings.pids_limit),
        "Ulimits": asked.ulimits.iter().map(ulimit).collect::<Vec<_>>(),
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
