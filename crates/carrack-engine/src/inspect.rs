//! Inspect: images and containers in the JSON that Docker prints, which scripts and the Docker API expect.

use carrack_container::{
    Container, ContainerRecord, ContainerState, HostSettings, NetworkMode, PortBinding, Program, Status,
};
use carrack_image::{Found, Image};
use carrack_network::Attachment;
use carrack_oci::{ContainerConfig, Reference};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Engine, Result};

/// Docker's "never".
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

impl Engine {
    /// `docker image inspect` of the image that `name` names.
    pub fn inspect_image(&self, name: &str) -> Result<Value> {
        let found = self.images.find(name)?;
        let image = Image::load(&self.content, &found.record.manifest)?;
        let config = self.content.read(image.id())?;
        let legacy = serde_json::from_slice(&config).unwrap_or_default();
        let mut value = image_json(&found, &image, &legacy);
        // As Docker's containerd store: how layers are put together is the store's own affair.
        value["GraphDriver"] = json!({"Name": self.driver.driver.name(), "Data": null});
        Ok(value)
    }

    /// `docker container inspect` of the container that `text` names.
    pub fn inspect_container(&self, text: &str) -> Result<Value> {
        self.recover()?;
        let container = self.containers.find(text)?;
        let attachment = self.attachment(&container.record.id)?;
        Ok(self.container_json(&container, attachment.as_ref()))
    }

    fn container_json(&self, container: &Container, attachment: Option<&Attachment>) -> Value {
        let Container { record, state } = container;
        let folder = self.containers.folder(&record.id);
        let in_folder = |name: &str| folder.join(name).display().to_string();
        let mut argv = record.program.entrypoint.iter().chain(&record.program.command);
        json!({
            "Id": record.id.as_str(),
            "Created": record.created.to_string(),
            "Path": argv.next(),
            "Args": argv.collect::<Vec<_>>(),
            "State": state_json(state),
            "Image": record.image_id.to_string(),
            "ResolvConfPath": in_folder("resolv.conf"),
            "HostnamePath": in_folder("hostname"),
            "HostsPath": in_folder("hosts"),
            "LogPath": self.containers.log_path(&record.id).display().to_string(),
            "Name": format!("/{}", record.name),
            "RestartCount": 0,
            "Driver": self.driver.driver.name(),
            "Platform": "linux",
            "HostConfig": self.host_json(&record.host),
            "Mounts": mounts_json(&record.host),
            "Config": container_config_json(record),
            "NetworkSettings": network_json(&record.host, attachment),
        })
    }

    fn host_json(&self, host: &HostSettings) -> Value {
        let binds = host.binds.iter().map(|bind| {
            let mode = if bind.read_only { ":ro" } else { "" };
            format!("{}:{}{mode}", bind.source.display(), bind.destination.display())
        });
        let tmpfs =
            host.tmpfs.iter().map(|mount| (mount.destination.display().to_string(), json!(mount.options)));
        json!({
            "Binds": binds.collect::<Vec<_>>(),
            "NetworkMode": network_text(&host.network),
            "PortBindings": bindings_json(&host.ports),
            "AutoRemove": host.auto_remove,
            "CapAdd": host.cap_add,
            "CapDrop": host.cap_drop,
            "Dns": host.dns,
            "ExtraHosts": host.extra_hosts,
            "GroupAdd": host.group_add,
            "Privileged": false,
            "ReadonlyRootfs": host.read_only,
            "SecurityOpt": host.security_options,
            "Tmpfs": tmpfs.collect::<Map<_, _>>(),
            "ShmSize": host.shm_size_bytes.unwrap_or(64 << 20),
            "Sysctls": host.sysctls,
            "Memory": host.memory_bytes.unwrap_or(0),
            "MemorySwap": host.memory_swap_bytes.unwrap_or(0),
            "NanoCpus": host.nano_cpus.unwrap_or(0),
            "CpuShares": host.cpu_shares.unwrap_or(0),
            "CpusetCpus": host.cpuset_cpus.clone().unwrap_or_default(),
            "PidsLimit": host.pids_limit.unwrap_or(self.environment.settings.containers.pids_limit),
            "Ulimits": host.ulimits.iter().map(|limit| json!({"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard})).collect::<Vec<_>>(),
            "Init": host.init,
        })
    }
}

/// What Docker wrote into configs before the OCI specification and still shows.
#[derive(Default, Deserialize)]
struct LegacyConfig {
    #[serde(default)]
    container: String,
    #[serde(default)]
    docker_version: String,
}

fn image_json(found: &Found, image: &Image, legacy: &LegacyConfig) -> Value {
    let names: Vec<&Reference> = found.names.iter().filter_map(|record| record.reference.as_ref()).collect();
    let tagged = names.iter().filter(|name| name.tag().is_some());
    let digests = found.names.iter().filter_map(|record| record.repo_digest());
    let (config, record) = (&image.config, &found.record);
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    // Without a remark of its own an image has that of its last step.
    let last_remark = || config.history.last().and_then(|step| step.comment.clone());
    let comment = config.comment.clone().filter(|comment| !comment.is_empty()).or_else(last_remark);
    let last_tag = found.names.iter().filter_map(|record| record.tagged).max();
    let mut value = json!({
        "Id": record.id().to_string(),
        "RepoTags": tagged.map(|name| name.familiar()).collect::<Vec<_>>(),
        "RepoDigests": digests.map(|name| name.familiar()).collect::<std::collections::BTreeSet<_>>(),
        "Parent": "",
        "Comment": text(&comment),
        "Created": config.created.as_deref().unwrap_or(ZERO_TIME),
        "Container": legacy.container,
        "DockerVersion": legacy.docker_version,
        "Author": text(&config.author),
        "Config": image_config_json(&config.config),
        "Architecture": config.architecture,
        "Variant": text(&config.variant),
        "Os": config.os,
        "Size": record.size_bytes,
        "VirtualSize": record.size_bytes,
        "GraphDriver": null,
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": last_tag.map_or_else(|| ZERO_TIME.to_owned(), |time| time.to_string())},
        "Descriptor": record.target,
    });
    if let Some(version) = &config.os_version {
        value["OsVersion"] = json!(version);
    }
    value
}

/// Docker prints every field of an image's config, also the empty ones.
fn image_config_json(config: &ContainerConfig) -> Value {
    let mut fields: Map<String, Value> = [
        ("User", json!("")),
        ("Env", json!([])),
        ("Cmd", Value::Null),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Value::Null),
        ("OnBuild", Value::Null),
        ("Labels", Value::Null),
        ("ExposedPorts", Value::Null),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Ok(Value::Object(given)) = serde_json::to_value(config) {
        fields.extend(given);
    }
    Value::Object(fields)
}

fn state_json(state: &ContainerState) -> Value {
    let time =
        |time: Option<jiff::Timestamp>| time.map_or_else(|| ZERO_TIME.to_owned(), |time| time.to_string());
    json!({
        "Status": status_text(state.status),
        "Running": state.status == Status::Running,
        "Paused": false,
        "Restarting": false,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": state.init.as_ref().filter(|_| state.status == Status::Running).map_or(0, |init| init.pid),
        "ExitCode": state.exit_code.unwrap_or(0),
        "Error": state.error.clone().unwrap_or_default(),
        "StartedAt": time(state.started_at),
        "FinishedAt": time(state.finished_at),
    })
}

/// The status in Docker's words; a container that is being made has not run yet.
pub fn status_text(status: Status) -> &'static str {
    match status {
        Status::Created | Status::Creating => "created",
        Status::Running => "running",
        Status::Exited => "exited",
        Status::Removing => "removing",
    }
}

/// The network in Docker's words.
pub fn network_text(network: &NetworkMode) -> String {
    match network {
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
    }
}

fn mounts_json(host: &HostSettings) -> Value {
    let binds = host.binds.iter().map(|bind| {
        json!({
            "Type": "bind", "Source": bind.source, "Destination": bind.destination,
            "Mode": if bind.read_only { "ro" } else { "" }, "RW": !bind.read_only, "Propagation": "rprivate",
        })
    });
    let tmpfs = host.tmpfs.iter().map(|mount| {
        json!({
            "Type": "tmpfs", "Source": "", "Destination": mount.destination, "Mode": mount.options, "RW": true,
            "Propagation": "",
        })
    });
    Value::Array(binds.chain(tmpfs).collect())
}

fn container_config_json(record: &ContainerRecord) -> Value {
    let Program {
        entrypoint, command, env, user, working_dir, hostname, tty, open_stdin, stdin_once, ..
    } = &record.program;
    let list = |words: &Vec<String>| if words.is_empty() { Value::Null } else { json!(words) };
    json!({
        "Hostname": if hostname.is_empty() { record.id.short() } else { hostname },
        "User": user,
        "Tty": tty,
        "OpenStdin": open_stdin,
        "StdinOnce": stdin_once,
        "Env": env,
        "Cmd": list(command),
        "Image": record.image,
        "WorkingDir": working_dir,
        "Entrypoint": list(entrypoint),
        "Labels": record.labels,
        "StopSignal": record.program.stop_signal.as_deref().unwrap_or("SIGTERM"),
        "StopTimeout": record.program.stop_timeout_seconds,
    })
}

fn network_json(host: &HostSettings, attachment: Option<&Attachment>) -> Value {
    let address = |text: Option<String>| text.unwrap_or_default();
    let endpoint = json!({
        "IPAddress": address(attachment.map(|attachment| attachment.address.to_string())),
        "IPPrefixLen": attachment.map_or(0, |attachment| attachment.prefix),
        "Gateway": address(attachment.map(|attachment| attachment.gateway.to_string())),
        "MacAddress": address(attachment.map(|attachment| attachment.mac.to_string())),
    });
    let ports: Vec<PortBinding> = attachment.map_or_else(Vec::new, crate::ports::published);
    let mut settings =
        json!({"Ports": bindings_json(&ports), "Networks": {network_text(&host.network): endpoint}});
    // Docker repeats the default bridge's endpoint at the top.
    if let (Value::Object(settings), Value::Object(endpoint)) = (&mut settings, endpoint) {
        settings.extend(endpoint);
    }
    settings
}

/// `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`
fn bindings_json(ports: &[PortBinding]) -> Value {
    let mut bindings = Map::new();
    for port in ports {
        let key = crate::ports::container_side(port);
        let host_address =
            port.host_address.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
        let entry = json!({"HostIp": host_address, "HostPort": port.host_port.to_string()});
        let list = bindings.entry(key).or_insert_with(|| json!([]));
        list.as_array_mut().expect("it was made as a list").push(entry);
    }
    Value::Object(bindings)
}
