//! Create: the user's request and the image's config become a container record with a snapshot of its own.

use std::collections::BTreeMap;

use carrack_container::{ContainerId, ContainerName, ContainerRecord, HostSettings, LogDriver, Program};
use carrack_image::Image;
use carrack_oci::ContainerConfig;
use carrack_snapshot::SnapshotKey;

use crate::error::OperationContext;
use crate::health::{HealthRequest, merged_check};
use crate::ports::{container_side, parse_exposed, parse_ports};
use crate::restart::refuse_with_removal;
use crate::{Engine, Error, Result, limits, other_runtime};

/// What a user asks for with `create` or `run`; `None` means "as the image says".
#[derive(Clone, Debug, Default)]
pub struct ContainerRequest {
    /// The image: a name or ID of this machine.
    pub image: String,
    /// The container's name; without one it gets a random one.
    pub name: Option<String>,
    /// Replaces the image's entrypoint, and with it the image's command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// `NAME=value` entries on top of the image's; a `NAME` alone removes the image's.
    pub env: Vec<String>,
    /// Variables of the image and of every container to go without.
    pub unset_env: Vec<String>,
    /// Whether to go without all of them.
    pub unset_all_env: bool,
    /// Labels on top of the image's.
    pub labels: BTreeMap<String, String>,
    /// `user[:group]`
    pub user: Option<String>,
    /// The working folder.
    pub working_dir: Option<String>,
    /// The host name.
    pub hostname: Option<String>,
    /// The NIS domain name.
    pub domainname: Option<String>,
    /// The mode bits that new files lack.
    pub umask: Option<u32>,
    /// The time zone.
    pub timezone: Option<String>,
    /// Whether the program runs on a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub open_stdin: bool,
    /// Whether the first client's end of input is the end of its standard input.
    pub stdin_once: bool,
    /// The signal of `stop`.
    pub stop_signal: Option<String>,
    /// Seconds before `stop` kills.
    pub stop_timeout_seconds: Option<u32>,
    /// What the user says about health checks.
    pub health: HealthRequest,
    /// Where its output goes; `None` is as the settings say.
    pub log_driver: Option<LogDriver>,
    /// The OCI runtime that starts it, by a name or a path; `None` is as the settings say.
    pub runtime: Option<String>,
    /// What the host grants, limits and shares.
    pub host: HostSettings,
}

impl Engine {
    /// Creates a container; it does not run yet.
    pub fn create(&self, request: ContainerRequest) -> Result<ContainerId> {
        let image = request.image.clone();
        self.create_container(request).operation("create a container of", image)
    }

    fn create_container(&self, request: ContainerRequest) -> Result<ContainerId> {
        let _operation = self.operation()?;
        let found = self.images.find(&request.image)?;
        let image = Image::load(&self.content, &found.record.manifest)?;
        let name: Option<ContainerName> = request.name.as_deref().map(str::parse).transpose()?;
        let id = ContainerId::random()?;
        let key = SnapshotKey::new(&format!("container-{id}"))?;
        let mut record = ContainerRecord {
            name: name.clone().map_or_else(|| id.short().parse(), Ok)?,
            created: jiff::Timestamp::now(),
            image: request.image.clone(),
            image_id: found.record.id().clone(),
            snapshot: key.to_string(),
            program: merged_program(&request, &image.config.config)?,
            labels: merged_labels(&request, &image.config.config),
            host: with_exposed(self.with_container_ids(request.host)?, &image.config.config),
            id: id.clone(),
        };
        let lifecycle = &mut record.host.lifecycle;
        lifecycle.health = merged_check(&request.health, image.config.config.healthcheck.as_ref())?;
        lifecycle.log.driver = request.log_driver.unwrap_or(self.environment.settings.containers.log_driver);
        record.host.runtime = self.choose_runtime(request.runtime.as_deref())?;
        self.check_request(&record)?;
        // The snapshot comes first: one without a container is garbage, a container without a snapshot is broken.
        self.prepare_on(&key, &image)?;
        let volumes = image.config.config.volumes.as_ref();
        let settled = self.settle_mounts(&mut record.host.mounts, volumes, &key);
        let settled = match settled {
            Err(error) => {
                self.snapshots.discard(&key)?;
                return Err(error);
            }
            Ok(settled) => settled,
        };
        let created = match name {
            Some(_) => self.containers.create(&record),
            None => self.containers.create_with_random_name(&mut record),
        };
        if created.is_err() {
            self.forget_mounts(&settled)?;
            self.snapshots.discard(&key)?;
        }
        created?;
        self.images.touch(&found.record);
        self.container_event(&record, "create", &[]);
        Ok(id)
    }

    fn check_request(&self, record: &ContainerRecord) -> Result<()> {
        let host = &record.host;
        refuse_with_removal(host.lifecycle.restart, host.auto_remove)?;
        self.check_log(record)?;
        limits::check(&host.resources)?;
        other_runtime::check(record)?;
        self.check_network(&host.network)?;
        let program = &record.program;
        [&program.hostname, &program.domainname].into_iter().try_for_each(|name| check_host_name(name))?;
        match program.timezone.as_str() {
            "" => Ok(()),
            zone => crate::timezone::read(zone).map(drop),
        }
    }
}

/// Docker's rules: an entrypoint of the user's takes the image's command away; arguments replace the command.
fn merged_program(request: &ContainerRequest, image: &ContainerConfig) -> Result<Program> {
    let from_image = |field: &Option<Vec<String>>| field.clone().unwrap_or_default();
    let (entrypoint, default_command) = match &request.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), Vec::new()),
        None => (from_image(&image.entrypoint), from_image(&image.cmd)),
    };
    let command = if request.command.is_empty() { default_command } else { request.command.clone() };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(Error::refused("the image has no command", "give one behind the image's name"));
    }
    let working_dir = request.working_dir.clone().unwrap_or_else(|| image.working_dir.clone());
    if !working_dir.is_empty() && !working_dir.starts_with('/') {
        let message = format!("the working folder {working_dir:?} is not absolute");
        return Err(Error::refused(message, "give a path that begins with /"));
    }
    Ok(Program {
        entrypoint,
        command,
        env: merged_env(&kept_env(request, &image.env), &request.env),
        unset_env: request.unset_env.clone(),
        unset_all_env: request.unset_all_env,
        domainname: request.domainname.clone().unwrap_or_default(),
        umask: request.umask,
        timezone: request.timezone.clone().unwrap_or_default(),
        user: request.user.clone().unwrap_or_else(|| image.user.clone()),
        working_dir,
        hostname: request.hostname.clone().unwrap_or_default(),
        tty: request.tty,
        open_stdin: request.open_stdin,
        stdin_once: request.stdin_once,
        stop_signal: request.stop_signal.clone().or_else(|| image.stop_signal.clone()),
        stop_timeout_seconds: request.stop_timeout_seconds,
    })
}

/// What the user leaves of the image's variables.
fn kept_env(request: &ContainerRequest, image: &[String]) -> Vec<String> {
    let is_unset = |entry: &&String| {
        let name = entry.split('=').next().unwrap_or_default();
        request.unset_all_env || request.unset_env.iter().any(|unset| unset == name)
    };
    image.iter().filter(|entry| !is_unset(entry)).cloned().collect()
}

/// The kernel takes 64 bytes; the name goes into `/etc/hosts` too, where a line break would be a further line.
fn check_host_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.len() <= 64 && name.bytes().all(is_plain) && !name.starts_with(['-', '.']) {
        return Ok(());
    }
    let hint = "expected at most 64 letters, digits, dots, dashes and underscores";
    Err(Error::refused(format!("{name:?} is no host name"), hint))
}

/// The image's ports beside the user's; with `--publish-all` each that is not published is to be, on any port.
fn with_exposed(mut host: HostSettings, image: &ContainerConfig) -> HostSettings {
    let network = &mut host.network;
    let of_image = image.exposed_ports.iter().flat_map(BTreeMap::keys);
    // An image may say anything here; what is no port is of no use to anybody.
    network.exposed.extend(of_image.flat_map(|text| parse_exposed(text).unwrap_or_default()));
    if network.publish_all {
        let published: Vec<String> = network.ports.iter().map(container_side).collect();
        let missing = network.exposed.iter().filter(|port| !published.contains(port));
        let bindings = missing.filter_map(|port| parse_ports(port).ok());
        network.ports.extend(bindings.flatten().collect::<Vec<_>>());
    }
    host
}

/// Later entries of the same name win, in the place of the earlier ones.
pub(crate) fn merged_env(image: &[String], user: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut merged: Vec<String> = Vec::new();
    for entry in image.iter().chain(user) {
        let known = merged.iter().position(|known| name(known) == name(entry));
        match (known, entry.contains('=')) {
            (Some(at), true) => merged[at] = entry.clone(),
            (Some(at), false) => drop(merged.remove(at)),
            (None, true) => merged.push(entry.clone()),
            (None, false) => {}
        }
    }
    merged
}

fn merged_labels(request: &ContainerRequest, image: &ContainerConfig) -> BTreeMap<String, String> {
    let mut labels = image.labels.clone().unwrap_or_default();
    labels.extend(request.labels.clone());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_user_wins_over_the_image() {
        let image = ContainerConfig {
            entrypoint: Some(strings(&["/entry"])),
            cmd: Some(strings(&["default"])),
            env: strings(&["A=1", "B=2", "C=3"]),
            user: "1001".to_owned(),
            ..ContainerConfig::default()
        };
        let mut request =
            ContainerRequest { env: strings(&["B=20", "C", "D=4"]), ..ContainerRequest::default() };
        let program = merged_program(&request, &image).unwrap();
        assert_eq!((program.entrypoint, program.command), (strings(&["/entry"]), strings(&["default"])));
        assert_eq!(program.env, strings(&["A=1", "B=20", "D=4"]));
        assert_eq!(program.user, "1001");
        request.entrypoint = Some(strings(&["/other"]));
        let program = merged_program(&request, &image).unwrap();
        assert_eq!((program.entrypoint, program.command), (strings(&["/other"]), strings(&[])));
        request.entrypoint = Some(Vec::new());
        assert!(merged_program(&request, &image).is_err(), "nothing to run");
        request.command = strings(&["sh"]);
        assert_eq!(merged_program(&request, &image).unwrap().command, strings(&["sh"]));
    }
}
