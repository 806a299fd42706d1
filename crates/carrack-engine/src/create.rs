//! Create: the user's request and the image's config become a container record with a snapshot of its own.

use std::collections::BTreeMap;
use std::path::Path;

use carrack_container::{
    ContainerId, ContainerName, ContainerRecord, HostSettings, LogDriver, Program, RootFolder,
    UnhealthyAction,
};
use carrack_image::{Image, ImageRecord};
use carrack_oci::{ContainerConfig, Digest};
use carrack_runtime::cgroup::Layout;
use carrack_snapshot::SnapshotKey;

use crate::error::OperationContext;
use crate::health::{HealthRequest, merged_check};
use crate::ports::{container_side, parse_exposed, parse_ports};
use crate::restart::refuse_with_removal;
use crate::{Engine, Error, Result, limits, other_runtime, selinux, signal, spec};

/// What a user asks for with `create` or `run`; `None` means "as the image says".
#[derive(Clone, Debug, Default)]
pub struct ContainerRequest {
    /// The image: a name or ID of this machine; or what the root folder is called.
    pub image: String,
    /// The folder that is the root in place of an image.
    pub root_folder: Option<RootFolder>,
    /// The container's name; without one it gets a random one.
    pub name: Option<String>,
    /// Replaces the image's entrypoint, and with it the image's command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// `NAME=value` entries on top of the image's; a `NAME` alone removes the image's.
    pub env: Vec<String>,
    /// `NAME=value` entries with `${NAME}` for the image's values, on top of the image's.
    pub env_merge: Vec<String>,
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
    /// Whether the program is systemd.
    pub systemd: SystemdMode,
    /// What the user says about health checks.
    pub health: HealthRequest,
    /// Where its output goes; `None` is as the settings say.
    pub log_driver: Option<LogDriver>,
    /// The OCI runtime that starts it, by a name or a path; `None` is as the settings say.
    pub runtime: Option<String>,
    /// What the host grants, limits and shares.
    pub host: HostSettings,
}

/// When a container is set up for systemd as its program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemdMode {
    /// Where its program has the name of systemd or of an init, and the host can do it.
    #[default]
    Automatic,
    /// Where its program has such a name.
    Init,
    /// Whatever its program is.
    Always,
    /// Never.
    Never,
}

impl Engine {
    /// Creates a container; it does not run yet.
    pub fn create(&self, request: ContainerRequest) -> Result<ContainerId> {
        Ok(self.create_as(ContainerId::random()?, request)?.id)
    }

    pub(crate) fn create_as(&self, id: ContainerId, request: ContainerRequest) -> Result<ContainerRecord> {
        let image = request.image.clone();
        self.create_container(id, request).operation("create a container of", image)
    }

    fn create_container(&self, id: ContainerId, request: ContainerRequest) -> Result<ContainerRecord> {
        let _operation = self.operation()?;
        let base = self.base(&request)?;
        let config = base.as_ref().map(|(_, image)| image.config.config.clone()).unwrap_or_default();
        let name: Option<ContainerName> = request.name.as_deref().map(str::parse).transpose()?;
        let key = SnapshotKey::new(&format!("container-{id}"))?;
        let mut record = ContainerRecord {
            name: name.clone().map_or_else(|| id.short().parse(), Ok)?,
            created: jiff::Timestamp::now(),
            image: request.image.clone(),
            image_id: base.as_ref().map_or_else(|| Digest::of(b""), |(record, _)| record.id().clone()),
            root_folder: request.root_folder.clone(),
            snapshot: key.to_string(),
            program: merged_program(&request, &config)?,
            labels: merged_labels(&request, &config),
            host: with_exposed(self.with_container_ids(request.host)?, &config),
            id,
        };
        record.host.resources.cgroup_manager = self.environment.settings.containers.cgroup_manager;
        settle_systemd(&mut record, request.systemd)?;
        let lifecycle = &mut record.host.lifecycle;
        lifecycle.health = merged_check(&request.health, config.healthcheck.as_ref())?;
        lifecycle.log.driver = request.log_driver.unwrap_or(self.environment.settings.containers.log_driver);
        self.settle_secrets(&mut record.host.secrets)?;
        record.host.runtime = self.choose_runtime(request.runtime.as_deref())?;
        self.check_request(&record)?;
        // The snapshot comes first: one without a container is garbage, a container without a snapshot is broken.
        match &base {
            Some((_, image)) => drop(self.prepare_on(&key, image)?),
            None => drop(self.snapshots.prepare(&key, None)?),
        }
        let volumes = config.volumes.as_ref();
        let settled = self.settle_mounts(&mut record.host.mounts, volumes, &key);
        let settled = match settled {
            Err(error) => {
                self.snapshots.discard(&key)?;
                return Err(error);
            }
            Ok(settled) => settled,
        };
        let created = self.add_record(&mut record, name.is_some());
        if created.is_err() {
            self.forget_mounts(&settled)?;
            self.snapshots.discard(&key)?;
        }
        created?;
        base.iter().for_each(|(record, _)| self.images.touch(record));
        self.container_event(&record, "create", &[]);
        Ok(record)
    }

    fn add_record(&self, record: &mut ContainerRecord, is_named: bool) -> Result<()> {
        let _held = self.assign_contexts(record)?;
        match is_named {
            true => self.containers.create(record)?,
            false => self.containers.create_with_random_name(record)?,
        }
        Ok(())
    }

    /// The image that the container is made of; none where its root is a folder.
    fn base(&self, request: &ContainerRequest) -> Result<Option<(ImageRecord, Image)>> {
        if let Some(folder) = &request.root_folder {
            return match folder.path.is_dir() {
                true => Ok(None),
                false => Err(Error::refused(format!("{} is no folder", folder.path.display()), "")),
            };
        }
        let record = self.images.find(&request.image)?.record;
        let image = Image::load(&self.content, &record.manifest)?;
        Ok(Some((record, image)))
    }

    fn check_request(&self, record: &ContainerRecord) -> Result<()> {
        let host = &record.host;
        if host.lifecycle.on_unhealthy != UnhealthyAction::None && host.lifecycle.health.is_none() {
            let hint = "give one with --health-cmd";
            return Err(Error::refused("--health-on-failure needs a health check", hint));
        }
        if let Some(signal) = &record.program.stop_signal {
            signal::parse(signal)?;
        }
        spec::check(host)?;
        refuse_with_removal(host.lifecycle.restart, host.auto_remove)?;
        self.check_log(record)?;
        limits::check(&host.resources)?;
        selinux::check(&host.security)?;
        spec::landlock(&host.security)?;
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
        return Err(match &request.root_folder {
            Some(_) => Error::refused("there is no command", "give one behind the folder"),
            None => Error::refused("the image has no command", "give one behind the image's name"),
        });
    }
    let working_dir = request.working_dir.clone().unwrap_or_else(|| image.working_dir.clone());
    if !working_dir.is_empty() && !working_dir.starts_with('/') {
        let message = format!("the working folder {working_dir:?} is not absolute");
        return Err(Error::refused(message, "give a path that begins with /"));
    }
    Ok(Program {
        entrypoint,
        command,
        env: merged_env(&expanded_env(request, &image.env), &request.env),
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

/// What the user leaves of the image's variables, and makes of them.
fn expanded_env(request: &ContainerRequest, image: &[String]) -> Vec<String> {
    let kept = kept_env(request, image);
    let value = |name: &str| {
        let values = kept.iter().filter_map(|entry| entry.split_once('='));
        values.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
    };
    let expanded: Vec<_> =
        request.env_merge.iter().map(|entry| expand(entry, |name| value(name).unwrap_or_default())).collect();
    merged_env(&kept, &expanded)
}

/// Puts values in the place of `$NAME` and `${NAME}`; any other `$` is one.
fn expand(text: &str, value: impl Fn(&str) -> String) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, tail) = braced
            .unwrap_or_else(|| after.split_at(after.find(|letter| !is_part(letter)).unwrap_or(after.len())));
        match name.is_empty() {
            true => expanded.push('$'),
            false => expanded.push_str(&value(name)),
        }
        rest = if name.is_empty() { after } else { tail };
    }
    expanded + rest
}

/// Whether a program is systemd or an init, by podman's list.
fn is_init(program: &Program) -> bool {
    let first = program.entrypoint.iter().chain(&program.command).next().map_or("", String::as_str);
    let is_systemd = Path::new(first).file_name().is_some_and(|name| name == "systemd");
    is_systemd || ["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"].contains(&first)
}

/// Decides whether the container is set up for systemd. It needs a cgroup to write to, which a container gets in a tree
/// of version 2 only: in those of version 1 it could give itself devices.
fn settle_systemd(record: &mut ContainerRecord, mode: SystemdMode) -> Result<()> {
    let can = || Layout::host().is_ok_and(|layout| layout.is_unified());
    let wanted = match mode {
        SystemdMode::Never => false,
        SystemdMode::Automatic => is_init(&record.program) && can(),
        SystemdMode::Init => is_init(&record.program),
        SystemdMode::Always => true,
    };
    if wanted && !can() {
        let message = "systemd in a container needs a host with cgroup version 2 alone";
        return Err(Error::refused(
            message,
            "leave --systemd out, or boot with systemd.unified_cgroup_hierarchy=1",
        ));
    }
    record.host.mounts.systemd = wanted;
    if wanted {
        // What systemd takes as the wish to halt.
        record.program.stop_signal.get_or_insert_with(|| "SIGRTMIN+3".to_owned());
    }
    Ok(())
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
    fn values_of_the_image_can_be_used() {
        let request = ContainerRequest {
            env_merge: strings(&["PATH=/opt:${PATH}:$B", "NEW=$NONE-$$", "B=${A}2", "C=${A"]),
            env: strings(&["B=3"]),
            ..ContainerRequest::default()
        };
        let image = strings(&["PATH=/bin", "A=1", "B=2"]);
        let env = merged_env(&expanded_env(&request, &image), &request.env);
        assert_eq!(env, strings(&["PATH=/opt:/bin:2", "A=1", "B=3", "NEW=-$$", "C=${A"]));
    }

    #[test]
    fn programs_that_are_an_init() {
        let is = |words: &[&str]| is_init(&Program { command: strings(words), ..Program::default() });
        assert!(is(&["/sbin/init"]) && is(&["/usr/lib/systemd/systemd", "--unit=x"]) && is(&["systemd"]));
        assert!(!is(&["init"]) && !is(&["/bin/sh", "/sbin/init"]) && !is(&[]));
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
