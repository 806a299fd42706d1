//! Labels of Linux security modules: SELinux contexts and AppArmor profiles.
//!
//! Invariant: a label that is asked for and cannot be given is refused, never left out: whoever wants a container
//! without one where the module is off does not ask for it ([`selinux_is_enabled`], [`apparmor_is_enabled`]).

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use carrack_sys::IoContext;
use oci_spec::runtime::Process;
use rustix::fs::StatVfsMountFlags;

use crate::{Error, Result};

/// The extended attribute that has the context of a file.
pub const SELINUX_ATTRIBUTE: &str = "security.selinux";

/// Whether this host labels processes and files.
pub fn selinux_is_enabled() -> bool {
    selinux_is_enabled_below(Path::new("/"))
}

/// [`selinux_is_enabled`] of the host whose files are below `root`. As libselinux has it: a filesystem of the module
/// that cannot be written to is that of a host which hides SELinux from a container, and without a policy every
/// process is `kernel`.
pub fn selinux_is_enabled_below(root: &Path) -> bool {
    let folder = root.join("sys/fs/selinux");
    let writable =
        || rustix::fs::statvfs(&folder).is_ok_and(|of| !of.f_flag.contains(StatVfsMountFlags::RDONLY));
    let current = || fs::read(root.join("proc/self/attr/current")).unwrap_or_default();
    folder.join("enforce").exists() && writable() && !matches!(&current()[..], b"kernel" | b"kernel\0")
}

/// Whether this host has AppArmor profiles.
pub fn apparmor_is_enabled() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// How a new filesystem is labelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountLabel {
    /// By an option, for all its files.
    pub option: Option<String>,
    /// By an attribute of its root, as it takes no option.
    pub of_root: Option<String>,
}

impl MountLabel {
    /// For a filesystem of this kind, which has `options` already.
    pub fn of(kind: &str, label: &str, options: &[String]) -> Result<Self> {
        if label.is_empty() {
            return Ok(Self::default());
        }
        require_selinux("mount")?;
        let has_own = |option: &String| CONTEXT_OPTIONS.iter().any(|key| option.starts_with(key));
        Ok(match kind {
            // These have labels of the kernel's own.
            "proc" | "sysfs" | "cgroup" | "cgroup2" => Self::default(),
            "mqueue" => Self { option: None, of_root: Some(label.to_owned()) },
            _ if options.iter().any(has_own) => Self::default(),
            _ => Self { option: Some(format!("context={label}")), of_root: None },
        })
    }
}

/// Options of mounts that say how files are labelled; mount(8).
const CONTEXT_OPTIONS: [&str; 4] = ["context=", "fscontext=", "defcontext=", "rootcontext="];

fn require_selinux(what: &str) -> Result<()> {
    if selinux_is_enabled() {
        return Ok(());
    }
    Err(Error::spec(format!(
        "the {what} label cannot be set: SELinux is off on this host, leave the label out"
    )))
}

/// Labels that a process gets at its exec.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    selinux: Option<String>,
    apparmor: Option<String>,
}

/// The files that labels are written to, opened in a procfs that no container can have changed.
#[derive(Debug, Default)]
pub(crate) struct LabelFiles {
    exec: Option<File>,
    keyring: Option<File>,
    apparmor: Option<File>,
}

impl LabelFiles {
    /// Those that are open.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [&self.exec, &self.keyring, &self.apparmor].into_iter().flatten().map(AsRawFd::as_raw_fd)
    }
}

impl Labels {
    /// Parent: refuses what the host has not.
    pub fn plan(process: &Process) -> Result<Self> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (selinux, apparmor) = (given(process.selinux_label()), given(process.apparmor_profile()));
        if selinux.is_some() {
            require_selinux("process")?;
        }
        if let Some(profile) = apparmor.as_ref().filter(|_| !apparmor_is_enabled()) {
            return Err(Error::spec(format!(
                "the AppArmor profile {profile:?} cannot be used: AppArmor is off on this host, leave it out"
            )));
        }
        Ok(Self { selinux, apparmor })
    }

    /// Child: while /proc is the host's.
    pub fn open(&self) -> Result<LabelFiles> {
        let open = |paths: &[&str]| -> Result<File> {
            let mut result = Err(std::io::ErrorKind::NotFound.into());
            for path in paths {
                result = File::options().write(true).open(path);
                if result.is_ok() {
                    break;
                }
            }
            Ok(result.during("open", paths[0])?)
        };
        let mut files = LabelFiles::default();
        if self.selinux.is_some() {
            files.exec = Some(open(&["/proc/thread-self/attr/exec"])?);
            files.keyring = Some(open(&["/proc/thread-self/attr/keycreate"])?);
        }
        if self.apparmor.is_some() {
            // Kernels before 5.8 have one file for all modules.
            let paths = ["/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"];
            files.apparmor = Some(open(&paths)?);
        }
        Ok(files)
    }

    /// Child: keys that are made from here on have the label of the process.
    pub fn label_keyring(&self, files: &LabelFiles) -> Result<()> {
        write(files.keyring.as_ref(), self.selinux.as_deref(), "the label of keyrings")
    }

    /// Child: what the next exec gives.
    pub fn label_exec(&self, files: &LabelFiles) -> Result<()> {
        write(files.exec.as_ref(), self.selinux.as_deref(), "the label of the process")?;
        let command = self.apparmor.as_ref().map(|profile| format!("exec {profile}"));
        write(files.apparmor.as_ref(), command.as_deref(), "the AppArmor profile of the process")
    }
}

fn write(file: Option<&File>, text: Option<&str>, what: &str) -> Result<()> {
    let (Some(mut file), Some(text)) = (file, text) else { return Ok(()) };
    Ok(file.write_all(text.as_bytes()).during("set", format!("{what} to {text}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_refused_where_the_module_is_off() {
        let mut process = Process::default();
        process.set_selinux_label(Some(String::new())).set_apparmor_profile(Some(String::new()));
        assert!(Labels::plan(&process).is_ok(), "empty is none");
        process.set_apparmor_profile(Some("carrack-default".into()));
        assert_eq!(Labels::plan(&process).is_ok(), apparmor_is_enabled());
        process.set_apparmor_profile(None).set_selinux_label(Some("system_u:system_r:container_t:s0".into()));
        assert_eq!(Labels::plan(&process).is_ok(), selinux_is_enabled());
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        assert_eq!(MountLabel::of("tmpfs", label, &[]).is_ok(), selinux_is_enabled());
        assert_eq!(MountLabel::of("proc", "", &[]).unwrap(), MountLabel::default());
    }
}
