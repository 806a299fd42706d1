//! What the processes of a container may do: capabilities, system calls, new privileges.

use carrack_container::{Contexts, SecuritySettings};
use carrack_runtime::{capabilities, seccomp};
use carrack_sys::atomic;
use oci_spec::runtime::{Capability, Linux, LinuxSeccomp, Mount};

use super::system_paths::SystemPaths;
use crate::{Error, Result, selinux};

fn granted_capabilities(settings: &SecuritySettings) -> Result<Vec<Capability>> {
    let mut granted = match settings.privileged {
        true => capabilities::ALL.to_vec(),
        false => capabilities::DEFAULT.to_vec(),
    };
    let has_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("all"));
    if has_all(&settings.cap_add) {
        granted = capabilities::ALL.to_vec();
    }
    if has_all(&settings.cap_drop) {
        granted.clear();
    }
    for name in settings.cap_drop.iter().filter(|name| !name.eq_ignore_ascii_case("all")) {
        let dropped = capability(name)?;
        granted.retain(|known| *known != dropped);
    }
    for name in settings.cap_add.iter().filter(|name| !name.eq_ignore_ascii_case("all")) {
        let added = capability(name)?;
        if !granted.contains(&added) {
            granted.push(added);
        }
    }
    Ok(granted)
}

fn capability(name: &str) -> Result<Capability> {
    capabilities::parse(name)
        .ok_or_else(|| Error::refused(format!("unknown capability {name:?}"), "see capabilities(7)"))
}

/// What the user's flags mean.
pub struct Security {
    pub granted: Vec<Capability>,
    pub no_new_privileges: bool,
    pub seccomp: Option<LinuxSeccomp>,
    /// SELinux contexts; none where SELinux is off.
    pub contexts: Option<Contexts>,
    /// Whether it may use SELinux itself.
    is_nested: bool,
    /// The AppArmor profile; none means the host's rule for programs without one.
    pub apparmor: Option<String>,
    paths: SystemPaths,
}

impl Security {
    pub fn of(settings: &SecuritySettings) -> Result<Self> {
        let granted = granted_capabilities(settings)?;
        let seccomp = (!settings.privileged).then(|| seccomp::default_profile(&granted));
        let contexts = selinux::in_force(settings);
        let mut security = Self {
            granted,
            no_new_privileges: false,
            seccomp,
            contexts: contexts.cloned(),
            is_nested: contexts.is_some() && selinux::is_nested(settings),
            apparmor: None,
            paths: SystemPaths::of(settings)?,
        };
        for option in &settings.options {
            // Docker once separated the two by a colon.
            let (key, value) = option.split_once(['=', ':']).unwrap_or((option, "true"));
            match (key, value) {
                ("no-new-privileges", "true" | "false") => security.no_new_privileges = value == "true",
                ("seccomp", "unconfined") => security.seccomp = None,
                ("seccomp", file) => security.seccomp = Some(read_profile(file)?),
                ("apparmor", "unconfined") => security.apparmor = None,
                ("apparmor", profile) => security.apparmor = Some(profile.to_owned()),
                ("label" | "landlock" | "mask" | "unmask" | "systempaths" | "proc-opts", _) => {}
                _ => {
                    let hint = "carrack knows no-new-privileges, seccomp, label, landlock, apparmor, mask, \
                                unmask, systempaths and proc-opts";
                    return Err(Error::refused(format!("unknown security option {option:?}"), hint));
                }
            }
        }
        Ok(security)
    }

    /// Masked and read-only paths, and the label of new filesystems.
    pub fn configure(&self, linux: &mut Linux) {
        self.paths.configure(linux);
        linux.set_mount_label(self.contexts.as_ref().map(|contexts| contexts.files.clone()));
        if self.is_nested {
            let masked = linux.masked_paths().iter().flatten().filter(|path| *path != SELINUX_FILES);
            let masked = masked.cloned().collect();
            linux.set_masked_paths(Some(masked));
        }
    }

    pub fn adapt_mounts(&self, mounts: &mut Vec<Mount>) {
        self.paths.adapt_mounts(mounts);
        if let Some(contexts) = self.contexts.as_ref().filter(|_| self.is_nested) {
            selinux_for_nested(mounts, &contexts.files);
        }
    }
}

/// Where SELinux is spoken to.
const SELINUX_FILES: &str = "/sys/fs/selinux";

/// Files in memory may be labelled one by one, and the module's own files are there.
fn selinux_for_nested(mounts: &mut Vec<Mount>, label: &str) {
    for mount in mounts.iter_mut().filter(|mount| mount.typ().as_deref() == Some("tmpfs")) {
        let mut options = mount.options().clone().unwrap_or_default();
        options.push(format!("rootcontext={label}"));
        mount.set_options(Some(options));
    }
    let mut files = Mount::default();
    files
        .set_destination(SELINUX_FILES.into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(SELINUX_FILES.into()))
        .set_options(Some(["bind", "nosuid", "noexec"].map(str::to_owned).to_vec()));
    mounts.push(files);
}

fn read_profile(file: &str) -> Result<LinuxSeccomp> {
    let bytes = atomic::read(file.as_ref())?.ok_or_else(|| {
        Error::refused(format!("there is no seccomp profile {file}"), "expected a JSON file")
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::refused(format!("invalid seccomp profile {file}: {error}"), "expected the OCI form")
    })
}
