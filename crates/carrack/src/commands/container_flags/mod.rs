//! The flags that `run` and `create` share, and their translation into one request of the engine.

use std::path::PathBuf;

use carrack_engine::{
    ContainerId, ContainerRequest, Engine, Event, HostSettings, RootFolder, Starting, SystemdMode,
};
use carrack_oci::{Platform, Reference};
use clap::Args;

use super::pair;
use super::pull_policy::Policy;
use super::registry_flags::RegistryFlags;
use crate::context::{self, Context};
use crate::failure::{Result, invalid};
use crate::progress::Progress;

mod descriptors;
mod devices;
pub mod id_file;
mod inapplicable;
mod lifecycle;
mod limits;
mod mount_spec;
mod mounts;
mod namespaces;
mod network;
mod process;
mod resources;
mod secrets;
mod security;

pub use descriptors::PreservedDescriptors;
pub use limits::LimitFlags;
pub use network::network;

use devices::DeviceFlags;
use id_file::IdFile;
use inapplicable::InapplicableFlags;
use lifecycle::LifecycleFlags;
use mounts::MountFlags;
use namespaces::NamespaceFlags;
use network::NetworkFlags;
use process::ProcessFlags;
use resources::ResourceFlags;
use security::SecurityFlags;

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
    pub rm: bool,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Remove the container that has the name
    #[arg(long, requires = "name")]
    replace: bool,
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
    /// Run a small init as the first process, which forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Show the program a secret, as a file or in a variable
    #[arg(long, value_name = "NAME[,KEY=VALUE...]")]
    secret: Vec<String>,
    /// IMAGE is a folder of this machine that becomes the root; FOLDER:O keeps changes with the container
    #[arg(long, conflicts_with_all = ["platform", "os", "arch", "variant"])]
    rootfs: bool,
    /// Set up for systemd as the program: true where it is one, always, or false; memory on /run, /run/lock, /tmp and
    /// /var/log/journal, a cgroup to write to, SIGRTMIN+3 to stop
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "automatic", hide_default_value = true, value_parser = systemd_mode)]
    systemd: SystemdMode,
    /// OCI runtime that starts the container: carrack, a path, a program as crun, or a name of the settings
    #[arg(long, value_name = "NAME|PATH")]
    runtime: Option<String>,
    /// Set a kernel parameter of the container
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
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
    pub quiet: bool,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    resources: ResourceFlags,
    #[command(flatten)]
    devices: DeviceFlags,
    #[command(flatten)]
    mounts: MountFlags,
    #[command(flatten)]
    namespaces: NamespaceFlags,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    security: SecurityFlags,
    #[command(flatten)]
    lifecycle: LifecycleFlags,
    #[command(flatten)]
    registry: RegistryFlags,
    /// Which image of an index, as in linux/arm64
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with_all = ["os", "arch", "variant"])]
    platform: Option<Platform>,
    /// Operating system of the image
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// Architecture of the image, as in arm64
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Variant of the architecture, as in v7
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
    #[command(flatten)]
    inapplicable: InapplicableFlags,
    /// The image, a name or ID; then the command and its arguments, in place of the image's
    // One list: what follows the image is the program's, whatever it looks like.
    #[arg(value_names = ["IMAGE", "COMMAND"], required = true, num_args = 1.., trailing_var_arg = true)]
    words: Vec<String>,
}

/// What a command is about, and what is run in it. There is one word at least.
pub fn first_and_rest(mut words: Vec<String>) -> (String, Vec<String>) {
    let first = words.remove(0);
    (first, words)
}

impl ContainerFlags {
    /// The stores, with what the flags say about registries.
    pub fn engine(&mut self, context: &Context) -> Result<Engine> {
        std::mem::take(&mut self.registry).apply(context).engine()
    }

    /// Pulls the image where the policy says so, and creates the container.
    pub fn create(self, engine: &Engine) -> Result<ContainerId> {
        // As if it were in the foreground: who starts it may attach.
        let (request, cidfile) = self.prepare(engine, true)?;
        let id = engine.create(request)?;
        cidfile.map(|file| file.write(id.as_str())).transpose()?;
        Ok(id)
    }

    /// Creates the container, and prepares its start; the program gets `descriptors` of this process.
    pub fn create_to_start<'a>(
        self,
        engine: &'a Engine,
        foreground: bool,
        descriptors: &[u32],
    ) -> Result<Starting<'a>> {
        let (request, cidfile) = self.prepare(engine, foreground)?;
        let starting = engine.create_to_start(request, descriptors)?;
        cidfile.map(|file| file.write(starting.record().id.as_str())).transpose()?;
        Ok(starting)
    }

    /// Does what comes before the container is made: the image is here then, and a name that is to be replaced free.
    fn prepare(mut self, engine: &Engine, foreground: bool) -> Result<(ContainerRequest, Option<IdFile>)> {
        self.inapplicable.check()?;
        let cidfile = self.cidfile.as_deref().map(IdFile::create_new).transpose()?;
        let root_folder = match self.rootfs {
            true => Some(root_folder(&self.words[0])?),
            false => {
                self.pull_image(engine)?;
                None
            }
        };
        let replaced = self.name.clone().filter(|_| self.replace);
        let request = ContainerRequest { root_folder, ..self.request(foreground)? };
        if let Some(name) = replaced {
            match engine.remove_container(&name, true) {
                Err(error) if error.is_no_such_container() => {}
                result => result?,
            }
        }
        Ok((request, cidfile))
    }

    /// The platform that flags name together.
    fn platform(&self) -> Option<Platform> {
        if self.os.is_none() && self.arch.is_none() && self.variant.is_none() {
            return self.platform.clone();
        }
        let host = Platform::host();
        let os = self.os.as_deref().unwrap_or(&host.os);
        let arch = self.arch.as_deref().unwrap_or(&host.architecture);
        Some(Platform::new(os, arch, self.variant.as_deref()))
    }

    /// Makes sure that the image is here, and that its name means the one that was pulled.
    fn pull_image(&mut self, engine: &Engine) -> Result<()> {
        let progress = Progress::new(self.quiet);
        let observer = |event: Event<'_>| progress.observe(event);
        let pulled = engine.obtain(&self.words[0], self.platform().as_ref(), self.pull.into(), &observer)?;
        let record = pulled.record;
        if let Some(name) = record.reference.as_ref().filter(|_| pulled.is_new) {
            let status = format!("Status: Downloaded newer image for {}", name.familiar());
            observer(Event::Status(&status));
        }
        progress.finish();
        // A short name may mean another image here than where it was pulled from.
        let named = self.words[0].parse::<Reference>().map(Reference::or_latest).ok();
        if named != record.reference && engine.find_image(&self.words[0])?.record.id() != record.id() {
            self.words[0] =
                record.reference.as_ref().map_or_else(|| record.id().to_string(), Reference::familiar);
        }
        Ok(())
    }

    fn request(self, foreground: bool) -> Result<ContainerRequest> {
        let host = self.host_settings()?;
        let (image, command) = first_and_rest(self.words);
        Ok(ContainerRequest {
            env: self.process.environment()?,
            labels: self.process.labels()?,
            env_merge: self.process.env_merge,
            unset_env: self.process.unsetenv,
            unset_all_env: self.process.unsetenv_all,
            domainname: self.process.domainname,
            umask: self.process.umask,
            timezone: self.process.tz,
            entrypoint: self.entrypoint.as_deref().map(entrypoint),
            image,
            root_folder: None,
            name: self.name,
            command,
            user: self.user,
            working_dir: self.workdir,
            hostname: self.hostname,
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && foreground,
            stop_signal: self.stop_signal,
            stop_timeout_seconds: self.stop_timeout,
            systemd: self.systemd,
            health: self.lifecycle.health(),
            log_driver: self.lifecycle.log_driver(),
            runtime: self.runtime,
            host,
        })
    }

    fn host_settings(&self) -> Result<HostSettings> {
        Ok(HostSettings {
            resources: self.resources.resources()?,
            devices: self.devices.settings()?,
            network: self.network.settings()?,
            mounts: self.mounts.settings()?,
            namespaces: self.namespaces.settings()?,
            oom_score_adj: self.namespaces.oom_score_adj,
            secrets: self.secret.iter().map(|text| secrets::secret(text)).collect::<Result<_>>()?,
            security: self.security.settings(),
            lifecycle: self.lifecycle.settings()?,
            sysctls: self.sysctl.iter().map(|text| pair(text)).collect(),
            annotations: self.process.annotations(),
            group_add: self.process.groups()?,
            init: self.init,
            auto_remove: self.rm,
            runtime: None,
        })
    }
}

/// Variables from files, then from flags: `NAME=value`; `NAME` for the caller's own value, which may be none; `NAME*`
/// for all of the caller's that begin so.
pub fn environment(files: &[PathBuf], entries: &[String]) -> Result<Vec<String>> {
    let mut environment = Vec::new();
    for file in files {
        environment.extend(process::lines(file)?);
    }
    environment.extend(entries.iter().cloned());
    let with_value = |entry: String| -> Result<Vec<String>> {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(invalid("--env", &entry, "NAME=VALUE or NAME"));
        }
        if entry.contains('=') {
            return Ok(vec![entry]);
        }
        if let Some(prefix) = entry.strip_suffix('*') {
            return Ok(context::variables().into_iter().filter(|known| known.starts_with(prefix)).collect());
        }
        Ok(context::variable(&entry).map(|value| format!("{entry}={value}")).into_iter().collect())
    };
    Ok(environment.into_iter().map(with_value).collect::<Result<Vec<_>>>()?.concat())
}

/// `automatic` is no word of podman: it is what holds without the flag.
fn systemd_mode(text: &str) -> Result<SystemdMode, String> {
    match text {
        "automatic" => Ok(SystemdMode::Automatic),
        "true" => Ok(SystemdMode::Init),
        "always" => Ok(SystemdMode::Always),
        "false" => Ok(SystemdMode::Never),
        _ => Err("expected true, false or always".to_owned()),
    }
}

/// `FOLDER[:O]`
fn root_folder(text: &str) -> Result<RootFolder> {
    let (path, overlay) = match text.rsplit_once(':') {
        Some((path, "O")) => (path, true),
        Some((_, option)) if !option.contains('/') => {
            return Err(invalid("--rootfs", text, "FOLDER or FOLDER:O"));
        }
        _ => (text, false),
    };
    let path = std::path::absolute(path).map_err(|_| invalid("--rootfs", text, "a folder"))?;
    Ok(RootFolder { path, overlay })
}

/// Docker takes a text, podman also a JSON list; an empty text takes the image's away.
fn entrypoint(text: &str) -> Vec<String> {
    match serde_json::from_str(text) {
        Ok(list) => list,
        Err(_) if text.is_empty() => Vec::new(),
        Err(_) => vec![text.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrypoint_is_a_word_or_a_list() {
        assert_eq!(entrypoint("/bin/sh -c"), ["/bin/sh -c"]);
        assert_eq!(entrypoint(r#"["/bin/sh","-c"]"#), ["/bin/sh", "-c"]);
        assert!(entrypoint("").is_empty());
    }
}
