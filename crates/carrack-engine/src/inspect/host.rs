//! `HostConfig` of `docker container inspect`: what was asked of the host.

use carrack_container::{
    Bind, ContainerNetwork, HostSettings, MountSettings, NamespaceMode, NamespaceSettings, Resources,
    SecuritySettings, Ulimit, UserMode,
};
use serde_json::{Map, Value, json};

use super::network::{bindings_json, network_text};
use crate::settings::ContainerSettings;

/// The settings as Docker shows them, one section after the other.
pub fn host_json(host: &HostSettings, settings: &ContainerSettings) -> Value {
    let sections = [
        resources(&host.resources, settings),
        mounts(&host.mounts),
        network(&host.network),
        security(&host.security),
        namespaces(&host.namespaces),
        json!({
            "AutoRemove": host.auto_remove,
            "GroupAdd": host.group_add,
            "Init": host.init,
            "OomScoreAdj": host.oom_score_adj.unwrap_or(0),
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

fn mounts(mounts: &MountSettings) -> Value {
    let bind = |bind: &Bind| {
        let mode = if bind.read_only { ":ro" } else { "" };
        format!("{}:{}{mode}", bind.source.display(), bind.destination.display())
    };
    let tmpfs =
        mounts.tmpfs.iter().map(|mount| (mount.destination.display().to_string(), json!(mount.options)));
    json!({
        "Binds": mounts.binds.iter().map(bind).collect::<Vec<_>>(),
        "ReadonlyRootfs": mounts.read_only,
        "Tmpfs": tmpfs.collect::<Map<_, _>>(),
        "ShmSize": mounts.shm_size_bytes.unwrap_or(64 << 20),
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
