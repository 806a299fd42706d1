//! Labels of Linux security modules: SELinux contexts and AppArmor profiles.
//!
//! Invariant: a label that is asked for and cannot be given is refused, never left out: whoever wants a container
//! without one where the module is off does not ask for it ([`selinux_is_enabled`], [`apparmor_is_enabled`]).

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use carrack_sys::IoContext;
use oci_spec::runtime::Process;

use crate::{Error, Result};

/// Whether this host labels processes and files.
pub fn selinux_is_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Whether this host has AppArmor profiles.
pub fn apparmor_is_enabled() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// The option by which all files of a new filesystem of this kind get `label`, if the kind takes one.
pub(crate) fn mount_option(kind: &str, label: &str) -> Result<Option<String>> {
    if label.is_empty() {
        return Ok(None);
    }
    require_selinux("mount")?;
    // These have labels of the kernel's own.
    let takes_one = !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2");
    Ok(takes_one.then(|| format!("context={label}")))
}

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
        assert_eq!(mount_option("tmpfs", label).is_ok(), selinux_is_enabled());
        assert_eq!(mount_option("proc", "").unwrap(), None);
    }
}
