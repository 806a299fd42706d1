//! The flags that `run` and `create` share, and their translation into one request of the engine.

use std::path::{Path, PathBuf};

use carrack_engine::{
    Bind, ContainerId, ContainerRequest, Engine, Event, HostSettings, NetworkMode, PortBinding, TmpfsMount,
    Ulimit,
};
use carrack_oci::{Platform, Reference};
use clap::Args;

use super::pull_policy::Policy;
use super::registry_flags::RegistryFlags;
use crate::context::{self, Context};
use crate::failure::{Failure, Result, invalid};
use crate::progress::Progress;
use crate::units;

#[derive(Args)]
pub struct ContainerFlags {
    /// Connect standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Run on a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Set a variable (NAME=value), or pass on the caller's (NAME)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Show a file or folder of the host in the container
    #[arg(short, long, value_name = "SOURCE:DESTINATION[:ro]")]
    volume: Vec<String>,
    /// Working folder
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Host name of the container
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Program to run in place of the image's; a JSON list gives it fixed arguments
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Make the root filesystem read-only
    #[arg(long)]
    read_only: bool,
    /// Mount an empty filesystem in memory
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Grant a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined or seccomp=FILE
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Limit a resource of each process, as in nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// Run a small init as the first process, which forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// none, host or bridge
    #[arg(long, visible_alias = "net", value_name = "NETWORK", default_value = "bridge")]
    network: String,
    /// Publish a port of the container on the host
    #[arg(short, long, value_name = "[ADDRESS:][HOST:]CONTAINER[/udp]")]
    publish: Vec<String>,
    /// Limit of memory, as in 512m
    #[arg(short, long, value_name = "BYTES", value_parser = units::parse_bytes)]
    memory: Option<u64>,
    /// Limit of memory and swap together, as in 1g; -1 is unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Limit of CPU time, as a number of CPUs
    #[arg(long, value_name = "NUMBER", value_parser = units::parse_cpus)]
    cpus: Option<u64>,
    /// Weight of CPU time under contention
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// CPUs to run on, as in 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Limit of processes and threads; -1 is unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Size of /dev/shm, as in 64m
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    shm_size: Option<u64>,
    /// Set a kernel parameter of the container
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// Add the user to a further group
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Name server of the container
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<std::net::IpAddr>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Label of the container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Signal that asks the container to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// Write the container's ID to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// When to pull the image: always, missing (not here), newer (the registry has another), never
    #[arg(long, value_name = "POLICY", default_value = "missing")]
    pull: Policy,
    /// Print nothing about pulling
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryFlags,
    /// Which image of an index, as in linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// The image: a name or ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The command and its arguments, in place of the image's
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl ContainerFlags {
    /// The stores, with what the flags say about registries.
    pub fn engine(&mut self, context: &Context) -> Result<Engine> {
        std::mem::take(&mut self.registry).apply(context).engine()
    }

    /// Pulls the image where the policy says so, and creates the container.
    pub fn create(mut self, engine: &Engine, foreground: bool) -> Result<ContainerId> {
        self.pull_image(engine)?;
        if let Some(file) = self.cidfile.as_ref().filter(|file| file.exists()) {
            return Err(Failure::message(format!("the file {} of --cidfile exists already", file.display())));
        }
        let cidfile = self.cidfile.clone();
        let id = engine.create(self.request(foreground)?)?;
        if let Some(file) = cidfile {
            std::fs::write(&file, id.to_string())
                .map_err(|error| Failure::message(format!("cannot write {}: {error}", file.display())))?;
        }
        Ok(id)
    }

    /// Makes sure that the image is here, and that its name means the one that was pulled.
    fn pull_image(&mut self, engine: &Engine) -> Result<()> {
        let progress = Progress::new(self.quiet);
        let observer = |event: Event<'_>| progress.observe(event);
        let pulled = engine.obtain(&self.image, self.platform.as_ref(), self.pull.into(), &observer)?;
        let record = pulled.record;
        if let Some(name) = record.reference.as_ref().filter(|_| pulled.is_new) {
            let status = format!("Status: Downloaded newer image for {}", name.familiar());
            observer(Event::Status(&status));
        }
        progress.finish();
        // A short name may mean another image here than where it was pulled from.
        let named = self.image.parse::<Reference>().map(Reference::or_latest).ok();
        if named != record.reference && engine.find_image(&self.image)?.record.id() != record.id() {
            self.image =
                record.reference.as_ref().map_or_else(|| record.id().to_string(), Reference::familiar);
        }
        Ok(())
    }

    fn request(self, foreground: bool) -> Result<ContainerRequest> {
        let host = self.host_settings()?;
        Ok(ContainerRequest {
            env: environment(&self.env_file, &self.env)?,
            labels: self.label.iter().map(|label| pair(label)).collect(),
            entrypoint: self.entrypoint.as_deref().map(entrypoint),
            image: self.image,
            name: self.name,
            command: self.command,
            user: self.user,
            working_dir: self.workdir,
            hostname: self.hostname,
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && foreground,
            stop_signal: self.stop_signal,
            stop_timeout_seconds: self.stop_timeout,
            host,
        })
    }

    fn host_settings(&self) -> Result<HostSettings> {
        let ports: Vec<Vec<PortBinding>> =
            self.publish.iter().map(|text| carrack_engine::parse_ports(text)).collect::<Result<_, _>>()?;
        Ok(HostSettings {
            memory_bytes: self.memory.filter(|bytes| *bytes > 0),
            memory_swap_bytes: self.memory_swap.as_deref().map(memory_swap).transpose()?,
            nano_cpus: self.cpus,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            pids_limit: self.pids_limit,
            network: network(&self.network)?,
            ports: ports.concat(),
            binds: self.volume.iter().map(|text| bind(text)).collect::<Result<_>>()?,
            tmpfs: self.tmpfs.iter().map(|text| tmpfs(text)).collect::<Result<_>>()?,
            read_only: self.read_only,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            security_options: self.security_opt.clone(),
            ulimits: self.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_>>()?,
            sysctls: self.sysctl.iter().map(|text| pair(text)).collect(),
            group_add: self.group_add.clone(),
            shm_size_bytes: self.shm_size,
            dns: self.dns.clone(),
            extra_hosts: self.add_host.clone(),
            init: self.init,
            auto_remove: self.rm,
        })
    }
}

/// Variables from files, then from flags: `NAME=value`, or `NAME` for the caller's own value, which may be none.
pub fn environment(files: &[PathBuf], entries: &[String]) -> Result<Vec<String>> {
    let mut environment = Vec::new();
    for file in files {
        environment.extend(env_file(file)?);
    }
    environment.extend(entries.iter().cloned());
    let with_value = |entry: String| match entry.contains('=') {
        true => Some(entry),
        false => context::variable(&entry).map(|value| format!("{entry}={value}")),
    };
    Ok(environment.into_iter().filter_map(with_value).collect())
}

/// Docker's format: a line each, `#` begins a comment line, no quoting.
fn env_file(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::message(format!("cannot read {}: {error}", file.display())))?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// Docker takes a text, podman also a JSON list; an empty text takes the image's away.
fn entrypoint(text: &str) -> Vec<String> {
    match serde_json::from_str(text) {
        Ok(list) => list,
        Err(_) if text.is_empty() => Vec::new(),
        Err(_) => vec![text.to_owned()],
    }
}

fn memory_swap(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes =
        units::parse_bytes(text).map_err(|_| invalid("--memory-swap", text, "a size, as in 1g, or -1"))?;
    Ok(i64::try_from(bytes).unwrap_or(-1))
}

pub fn network(text: &str) -> Result<NetworkMode> {
    match text {
        "bridge" | "default" => Ok(NetworkMode::Bridge),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => Err(invalid("--network", text, "none, host or bridge")),
    }
}

/// `SOURCE:DESTINATION[:ro]`
fn bind(text: &str) -> Result<Bind> {
    let wrong = |expected| invalid("--volume", text, expected);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options),
        _ => return Err(wrong("SOURCE:DESTINATION[:ro]")),
    };
    if !source.starts_with(['/', '.']) {
        return Err(wrong("a source that is a path (named volumes are not supported)"));
    }
    if !destination.starts_with('/') {
        return Err(wrong("a destination that is an absolute path"));
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "rprivate" | "rbind" => {}
            _ => return Err(wrong("the options ro and rw")),
        }
    }
    let source = std::path::absolute(source).map_err(|_| wrong("a source that is a path"))?;
    Ok(Bind { source, destination: destination.into(), read_only })
}

/// `DIR[:OPTIONS]`
fn tmpfs(text: &str) -> Result<TmpfsMount> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    if !destination.starts_with('/') {
        return Err(invalid("--tmpfs", text, "an absolute path"));
    }
    Ok(TmpfsMount { destination: destination.into(), options: options.to_owned() })
}

/// `NAME=SOFT[:HARD]`
fn ulimit(text: &str) -> Result<Ulimit> {
    let parse = || {
        let (name, limits) = text.split_once('=')?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let number = |text: &str| if text == "unlimited" { Some(-1) } else { text.parse().ok() };
        Some(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
    };
    parse().ok_or_else(|| invalid("--ulimit", text, "NAME=SOFT[:HARD], as in nofile=1024:2048"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_binds_as_docker() {
        let parsed = bind("/a:/b:ro").unwrap();
        assert_eq!((parsed.source, parsed.read_only), (PathBuf::from("/a"), true));
        for text in ["/a", "name:/b", "/a:b", "/a:/b:shared", "/a:/b:ro:x"] {
            assert!(bind(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn an_entrypoint_is_a_word_or_a_list() {
        assert_eq!(entrypoint("/bin/sh -c"), ["/bin/sh -c"]);
        assert_eq!(entrypoint(r#"["/bin/sh","-c"]"#), ["/bin/sh", "-c"]);
        assert!(entrypoint("").is_empty());
    }
}
