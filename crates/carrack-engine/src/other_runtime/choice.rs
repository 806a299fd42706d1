//! Which runtime is meant, and what it cannot do for a container.

use std::path::{Path, PathBuf};

use carrack_container::{CgroupManager, CgroupMode, ContainerRecord, OtherRuntime, UserMode};
use rustix::fs::{Access, access};

use crate::{Engine, Error, Result};

/// The name of carrack as a runtime.
const OWN: &str = "carrack";
/// Where a runtime is looked for that no setting names.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

impl Engine {
    /// The runtime that `name` stands for, or that of the settings; `None` is carrack itself.
    pub(crate) fn choose_runtime(&self, name: Option<&str>) -> Result<Option<OtherRuntime>> {
        let settings = &self.environment.settings;
        let name = name.unwrap_or(&settings.containers.runtime);
        if name == OWN {
            return Ok(None);
        }
        let (program, arguments) = match settings.runtimes.get(name) {
            Some(named) => (named.path.clone(), named.args.clone()),
            None => (find(name)?, Vec::new()),
        };
        if !program.is_absolute() || !is_program(&program) {
            return Err(Error::refused(
                format!("cannot use the OCI runtime {name}: {} is no program", program.display()),
                "give the absolute path of a file that can be executed",
            ));
        }
        Ok(Some(OtherRuntime { name: name.to_owned(), program, arguments }))
    }
}

fn find(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let mut places = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    places.find(|path| !name.is_empty() && is_program(path)).ok_or_else(|| {
        Error::refused(
            format!("there is no OCI runtime {name:?} on this machine"),
            "expected carrack, a path, a program of /usr/bin or a like folder, or a name of [runtimes] in the settings",
        )
    })
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// A runtime that is called by its command line has no numbers of descriptors of ours.
pub(crate) fn refuse_descriptors(runtime: &OtherRuntime, descriptors: &[u32]) -> Result<()> {
    match descriptors.is_empty() {
        true => Ok(()),
        false => Err(Error::refused(
            format!(
                "--preserve-fds needs carrack's own runtime, the container is to run in {}",
                runtime.name
            ),
            format!("leave one of the two out, or give --runtime {OWN}"),
        )),
    }
}

/// Refuses what carrack's runtime alone can do for a container.
pub(crate) fn check(record: &ContainerRecord) -> Result<()> {
    let host = &record.host;
    let Some(runtime) = &host.runtime else { return Ok(()) };
    let asked = [
        ("--init", host.init),
        ("--userns", host.namespaces.user != UserMode::Host),
        (
            "--security-opt landlock",
            host.security.options.iter().any(|option| option.starts_with("landlock")),
        ),
        ("--cgroup-manager systemd", host.resources.cgroup_manager == CgroupManager::Systemd),
        ("--cgroups=disabled", host.resources.cgroups == CgroupMode::Disabled),
        ("a mount with the option idmap", host.mounts.points.iter().any(|point| point.idmap.is_some())),
    ];
    match asked.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((what, _)) => Err(Error::refused(
            format!("{what} needs carrack's own runtime, the container is to run in {}", runtime.name),
            format!("leave one of the two out, or give --runtime {OWN}"),
        )),
    }
}
