//! Inspect: images and containers in the JSON that Docker prints, which scripts and the Docker API expect.

use carrack_container::{
    Container, ContainerRecord, ContainerState, Program, SecretPlace, SecretUse, Status,
};
use carrack_image::Image;
use carrack_network::Attachment;
use carrack_sys::atomic;
use serde_json::{Map, Value, json};

use crate::{Engine, Result};

mod enforced;
mod host;
mod image;
mod lifecycle;
mod mounts;
mod network;
mod resources;

pub use network::network_text;

/// Docker's "never".
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

impl Engine {
    /// `docker image inspect` of the image that `name` names.
    pub fn inspect_image(&self, name: &str) -> Result<Value> {
        let found = self.images.find(name)?;
        let image = Image::load(&self.content, &found.record.manifest)?;
        let config = self.content.read(image.id())?;
        let legacy = serde_json::from_slice(&config).unwrap_or_default();
        let mut value = image::image_json(&found, &image, &legacy);
        // As Docker's containerd store: how layers are put together is the store's own affair.
        value["GraphDriver"] = json!({"Name": self.driver.driver.name(), "Data": null});
        Ok(value)
    }

    /// `docker container inspect` of the container that `text` names.
    pub fn inspect_container(&self, text: &str) -> Result<Value> {
        self.recover()?;
        let container = self.containers.find(text)?;
        let attachment = self.attachment(&container.record.id)?;
        let mut value = self.container_json(&container, attachment.as_ref())?;
        let spec = atomic::read(&self.spec_path(&container.record.id))?;
        let spec = spec.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let landlock = crate::spec::landlock(&container.record.host.security)?;
        enforced::add(&mut value, spec.as_ref(), landlock.as_ref());
        Ok(value)
    }

    fn container_json(&self, container: &Container, attachment: Option<&Attachment>) -> Result<Value> {
        let Container { record, state } = container;
        let folder = self.containers.run_folder(&record.id);
        let in_folder = |name: &str| folder.join(name).display().to_string();
        let mut argv = record.program.entrypoint.iter().chain(&record.program.command);
        Ok(json!({
            "Id": record.id.as_str(),
            "Created": record.created.to_string(),
            "Path": argv.next(),
            "Args": argv.collect::<Vec<_>>(),
            "State": self.state_json(container)?,
            "Image": if record.root_folder.is_some() { String::new() } else { record.image_id.to_string() },
            "Rootfs": record.root_folder.as_ref().map(|folder| folder.path.display().to_string()).unwrap_or_default(),
            "ResolvConfPath": in_folder("resolv.conf"),
            "HostnamePath": in_folder("hostname"),
            "HostsPath": in_folder("hosts"),
            "LogPath": self.log_file(record).map_or_else(String::new, |path| path.display().to_string()),
            "Name": format!("/{}", record.name),
            "RestartCount": state.restart_count,
            "Driver": self.driver.driver.name(),
            "Platform": "linux",
            "HostConfig": host::host_json(&record.host, &self.environment.settings.containers),
            "Mounts": mounts::effective(&record.host.mounts, self.volumes.folder()),
            "Config": container_config_json(record),
            "NetworkSettings": network::network_json(&record.host.network.mode, attachment),
        }))
    }

    fn state_json(&self, container: &Container) -> Result<Value> {
        let mut value = state_json(&container.state);
        if let Some(health) = container.state.health {
            value["Health"] = lifecycle::health_json(health, &self.checks(&container.record.id)?);
        }
        Ok(value)
    }
}

fn state_json(state: &ContainerState) -> Value {
    let time =
        |time: Option<jiff::Timestamp>| time.map_or_else(|| ZERO_TIME.to_owned(), |time| time.to_string());
    json!({
        "Status": status_text(state.status),
        "Running": state.status.is_running() || state.status == Status::Restarting,
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": state.init.as_ref().filter(|_| state.status.has_process()).map_or(0, |init| init.pid),
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
        Status::Initialized => "initialized",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Restarting => "restarting",
        Status::Exited => "exited",
        Status::Removing => "removing",
    }
}

/// Which secret is where; never its data.
fn secret_json(secret: &SecretUse) -> Value {
    match &secret.place {
        SecretPlace::File { target, uid, gid, mode } => {
            json!({"Name": secret.name, "Target": target, "UID": uid, "GID": gid, "Mode": mode})
        }
        SecretPlace::Variable { name } => json!({"Name": secret.name, "Variable": name}),
    }
}

fn container_config_json(record: &ContainerRecord) -> Value {
    let Program {
        entrypoint,
        command,
        env,
        user,
        working_dir,
        hostname,
        domainname,
        tty,
        open_stdin,
        stdin_once,
        ..
    } = &record.program;
    let exposed: Map<String, Value> =
        record.host.network.exposed.iter().map(|port| (port.clone(), json!({}))).collect();
    let list = |words: &Vec<String>| if words.is_empty() { Value::Null } else { json!(words) };
    json!({
        "Hostname": if hostname.is_empty() { record.id.short() } else { hostname },
        "Domainname": domainname,
        "User": user,
        "ExposedPorts": exposed,
        "Umask": format!("{:04o}", record.program.umask.unwrap_or(0o022)),
        "Timezone": record.program.timezone,
        "Timeout": record.host.lifecycle.timeout_seconds.unwrap_or(0),
        "HealthcheckOnFailureAction": record.host.lifecycle.on_unhealthy.name(),
        "SystemdMode": record.host.mounts.systemd,
        "Secrets": record.host.secrets.iter().map(secret_json).collect::<Vec<_>>(),
        "Tty": tty,
        "OpenStdin": open_stdin,
        "StdinOnce": stdin_once,
        "Env": env,
        "Cmd": list(command),
        "Image": record.image,
        "WorkingDir": working_dir,
        "Entrypoint": list(entrypoint),
        "Volumes": mounts::own_volumes(&record.host.mounts),
        "Labels": record.labels,
        "StopSignal": record.program.stop_signal.as_deref().unwrap_or("SIGTERM"),
        "StopTimeout": record.program.stop_timeout_seconds,
        "Healthcheck": record.host.lifecycle.health.as_ref().map(lifecycle::check_json),
    })
}
