//! What there is: the host, the store, what of the kernel containers use; in the fields of `docker info`.

use std::path::Path;

use carrack_container::Status;
use carrack_sys::atomic;
use serde_json::{Value, json};

use crate::{Engine, Result, Settings};

impl Engine {
    /// `docker info` of this host, with podman's `host` and `store` beside it.
    pub fn info(&self) -> Result<Value> {
        let containers = self.list_containers()?;
        let count = |wanted: &dyn Fn(Status) -> bool| {
            containers.iter().filter(|container| wanted(container.state.status)).count()
        };
        let running = count(&|status| status == Status::Running);
        let paused = count(&|status| status == Status::Paused);
        let (images, paths) = (self.list_images()?, &self.environment.paths);
        let ids: std::collections::BTreeSet<_> = images.iter().map(carrack_image::ImageRecord::id).collect();
        let uname = rustix::system::uname();
        let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
        let (kernel, name, machine) = (text(uname.release()), text(uname.nodename()), text(uname.machine()));
        let settings = &self.environment.settings;
        let cgroup_version = cgroup_version();
        let security = security_options();
        let driver = self.driver.driver.name();
        let manager = self.environment.settings.containers.cgroup_manager.name();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let memory = rustix::system::sysinfo();
        let memory_bytes = memory.totalram as u64 * u64::from(memory.mem_unit);
        Ok(json!({
            "Containers": containers.len(),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": containers.len() - running,
            "Images": ids.len(),
            "Driver": driver,
            "LoggingDriver": "json-file",
            "CgroupDriver": manager,
            "CgroupVersion": cgroup_version,
            "KernelVersion": kernel,
            "OperatingSystem": operating_system(),
            "OSType": "linux",
            "Architecture": machine,
            "NCPU": cpus,
            "MemTotal": memory_bytes,
            "Name": name,
            "DockerRootDir": paths.root.display().to_string(),
            "RunRoot": paths.runroot.display().to_string(),
            "DefaultRuntime": settings.containers.runtime,
            "Runtimes": runtimes(settings),
            "SecurityOptions": security,
            "ServerVersion": env!("CARGO_PKG_VERSION"),
            "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "none"], "Log": ["json-file"]},
            "host": {
                "arch": carrack_oci::Platform::host().architecture,
                "cgroupManager": manager,
                "cgroupVersion": format!("v{cgroup_version}"),
                "cpus": cpus,
                "hostname": name,
                "kernel": kernel,
                "memTotal": memory_bytes,
                "os": "linux",
                "security": {"rootless": false, "seccompEnabled": true},
            },
            "store": {
                "graphDriverName": driver,
                "graphRoot": paths.root.display().to_string(),
                "runRoot": paths.runroot.display().to_string(),
                "containerStore": {
                    "number": containers.len(), "running": running, "paused": 0,
                    "stopped": containers.len() - running,
                },
                "imageStore": {"number": ids.len()},
            },
            "version": {"Version": env!("CARGO_PKG_VERSION")},
        }))
    }
}

/// carrack itself, and those that the settings name.
fn runtimes(settings: &Settings) -> Value {
    let own = ("carrack".to_owned(), json!({"path": "carrack"}));
    let named = settings
        .runtimes
        .iter()
        .map(|(name, runtime)| (name.clone(), json!({"path": runtime.path, "runtimeArgs": runtime.args})));
    Value::Object(named.chain([own]).collect())
}

/// 2 where there is the unified hierarchy only.
fn cgroup_version() -> &'static str {
    let is_unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if is_unified { "2" } else { "1" }
}

/// As Docker names them.
fn security_options() -> Vec<&'static str> {
    let mut options = vec!["name=seccomp,profile=builtin"];
    let enabled = atomic::read(Path::new("/sys/module/apparmor/parameters/enabled")).ok().flatten();
    if enabled.is_some_and(|text| text.starts_with(b"Y")) {
        options.push("name=apparmor");
    }
    if carrack_runtime::labels::selinux_is_enabled() {
        options.push("name=selinux");
    }
    if cgroup_version() == "2" {
        options.push("name=cgroupns");
    }
    options
}

/// The name that the host gives itself.
fn operating_system() -> String {
    let bytes = atomic::read(Path::new("/etc/os-release")).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}
