//! What a command finds around it: global flags and the environment. The only place that reads the environment.
#![allow(
    clippy::disallowed_methods,
    reason = "the binary reads the environment once, here, for all libraries"
)]

use std::io::IsTerminal;
use std::path::PathBuf;

use carrack_engine::{
    CgroupManager, Driver, Engine, Environment, Paths, ProxySettings, RegistryAccess, RegistryFiles, Settings,
};
use clap::Args;

use crate::failure::{Failure, Result, invalid};

/// Flags of every command.
#[derive(Args)]
pub struct Globals {
    /// Folder of images, layers and containers
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Folder of the state of what runs; lost at a reboot
    #[arg(long, global = true, value_name = "DIR")]
    runroot: Option<PathBuf>,
    /// How layers are kept: erofs, overlay or vfs; by default the best that works here
    #[arg(long, global = true, value_name = "DRIVER")]
    storage_driver: Option<Driver>,
    /// Who makes the cgroups of containers: cgroupfs or systemd
    #[arg(long, global = true, value_name = "MANAGER")]
    cgroup_manager: Option<CgroupManager>,
    /// Settings file, in place of the usual ones
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// What is logged to standard error: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    log_level: tracing::Level,
}

/// The surroundings of one invocation.
pub struct Context {
    environment: Environment,
}

impl Context {
    pub fn new(globals: Globals) -> Result<Self> {
        start_log(globals.log_level);
        let mut settings = match &globals.settings {
            Some(file) if !file.exists() => {
                return Err(invalid("--settings", &file.display().to_string(), "a file that exists"));
            }
            Some(file) => Settings::load(std::slice::from_ref(file))?,
            None => Settings::load(&settings_files())?,
        };
        settings.storage.driver = globals.storage_driver.or(settings.storage.driver);
        if let Some(manager) = globals.cgroup_manager {
            settings.containers.cgroup_manager = manager;
        }
        let (root, runroot) = default_paths();
        let paths = Paths {
            root: globals.root.or(settings.storage.root.clone()).unwrap_or(root),
            runroot: globals.runroot.or(settings.storage.runroot.clone()).unwrap_or(runroot),
        };
        let environment = Environment {
            paths,
            settings,
            auth_file: auth_file(),
            proxies: proxies(),
            registry_files: registry_files(),
            registry_access: RegistryAccess::default(),
        };
        Ok(Self { environment })
    }

    /// Opens the stores.
    pub fn engine(&self) -> Result<Engine> {
        Ok(Engine::open(self.environment.clone())?)
    }

    /// The same surroundings with another file of credentials.
    pub fn with_auth_file(&self, file: Option<PathBuf>) -> Self {
        let mut environment = self.environment.clone();
        if let Some(file) = file {
            environment.auth_file = file;
        }
        Self { environment }
    }

    /// The same surroundings with what flags say about registries.
    pub fn with_registry_access(&self, registry_access: RegistryAccess) -> Self {
        Self { environment: Environment { registry_access, ..self.environment.clone() } }
    }

    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// The value of a variable of the caller's environment, for `-e NAME` and build arguments.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Every variable of the caller's environment that is text, as `NAME=value`.
pub fn variables() -> Vec<String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some(format!("{}={}", name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Whether colours and moving bars are wanted on standard error.
pub fn is_interactive() -> bool {
    std::io::stderr().is_terminal()
        && variable("NO_COLOR").is_none_or(|value| value.is_empty())
        && variable("TERM").as_deref() != Some("dumb")
}

fn start_log(level: tracing::Level) {
    let builder = tracing_subscriber::fmt().with_max_level(level).with_target(false).without_time();
    builder.with_ansi(is_interactive()).with_writer(std::io::stderr).init();
}

fn home() -> PathBuf {
    variable("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// A folder of the XDG base directory specification, with its default below the home folder.
fn xdg(variable_name: &str, default: &str) -> PathBuf {
    match variable(variable_name) {
        Some(path) if path.starts_with('/') => PathBuf::from(path),
        _ => home().join(default),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn default_paths() -> (PathBuf, PathBuf) {
    if is_root() {
        return ("/var/lib/carrack".into(), "/run/carrack".into());
    }
    let uid = rustix::process::geteuid().as_raw();
    let run = variable("XDG_RUNTIME_DIR").map_or_else(|| format!("/tmp/carrack-{uid}").into(), PathBuf::from);
    (xdg("XDG_DATA_HOME", ".local/share").join("carrack"), run.join("carrack"))
}

fn settings_files() -> Vec<PathBuf> {
    let own = xdg("XDG_CONFIG_HOME", ".config").join("carrack/carrack.toml");
    vec![own, "/etc/carrack/carrack.toml".into()]
}

/// The variables that most programs honour, in lower case first, as curl has it.
fn proxies() -> ProxySettings {
    let either = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
    ProxySettings { http: variable("http_proxy"), https: either("https_proxy"), no_proxy: either("no_proxy") }
}

/// Where the containers tools have their configuration, and Docker its certificates. The aliases are those that podman
/// recorded when it asked its user.
fn registry_files() -> RegistryFiles {
    let user = home().join(".config/containers");
    let system = PathBuf::from("/etc/containers");
    let recorded = "containers/short-name-aliases.conf";
    let recorded = match is_root() {
        true => PathBuf::from("/var/cache").join(recorded),
        false => xdg("XDG_CACHE_HOME", ".cache").join(recorded),
    };
    RegistryFiles {
        only: variable("CONTAINERS_REGISTRIES_CONF").filter(|file| !file.is_empty()).map(PathBuf::from),
        certificates: vec![user.join("certs.d"), system.join("certs.d"), "/etc/docker/certs.d".into()],
        user: Some(user),
        system: Some(system),
        recorded_aliases: Some(recorded),
    }
}

/// Docker's place for credentials, so that a login of either serves both; podman's variable is honoured too.
fn auth_file() -> PathBuf {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return file.into();
    }
    variable("DOCKER_CONFIG").map_or_else(|| home().join(".docker"), PathBuf::from).join("config.json")
}

/// The date that a new image is to have, by the convention of reproducible-builds.org.
pub fn source_date_epoch() -> Result<Option<i64>> {
    let Some(text) = variable("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let seconds = text.parse().map_err(|_| {
        Failure::message(format!("invalid SOURCE_DATE_EPOCH {text:?}: expected seconds since 1970"))
    })?;
    Ok(Some(seconds))
}
