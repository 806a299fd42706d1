//! Kernel parameters of the container's own namespaces, written through a procfs that nobody else can reach.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use carrack_sys::IoContext;
use carrack_sys::mount::Filesystem;
use carrack_sys::process::namespace;
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::MountAttrFlags;

use crate::namespaces::Namespaces;
use crate::{Error, Result};

/// Parameters that were checked to belong to a namespace of the container.
#[derive(Debug)]
pub(crate) struct Sysctls(Vec<(PathBuf, String)>);

/// A procfs of the child's own.
#[derive(Debug)]
pub(crate) struct Proc(OwnedFd);

impl Sysctls {
    pub fn plan(spec: &Spec, namespaces: &Namespaces) -> Result<Self> {
        let entries = spec.linux().iter().flat_map(|linux| linux.sysctl().iter().flatten());
        let checked = entries.map(|(key, value)| {
            let flag = namespace_of(key).filter(|flag| namespaces.has(*flag));
            flag.ok_or_else(|| {
                Error::spec(format!("the kernel parameter {key} is not one of the container's own"))
            })?;
            // "net/ipv4/conf/eth0.1/x" has the dot as part of a name.
            let path = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
            Ok((PathBuf::from("sys").join(path), value.clone()))
        });
        Ok(Self(checked.collect::<Result<_>>()?))
    }

    /// Child: `None` when there is nothing to write.
    pub fn open_proc(&self) -> Result<Option<Proc>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(Proc(Filesystem::new("proc")?.mount(MountAttrFlags::MOUNT_ATTR_NOEXEC)?)))
    }

    /// Child, when the network is complete.
    pub fn apply(&self, proc: Option<&Proc>) -> Result<()> {
        let Some(Proc(proc)) = proc else { return Ok(()) };
        for (path, value) in &self.0 {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let file = openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve);
            let file = file.during("open the kernel parameter", path)?;
            rustix::io::write(&file, value.as_bytes()).during("set the kernel parameter", path)?;
        }
        Ok(())
    }
}

/// The namespace that a parameter belongs to; `None` for those of the whole host.
fn namespace_of(key: &str) -> Option<u64> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) || key.contains("..") {
        return None;
    }
    let dotted = key.replace('/', ".");
    match dotted.as_str() {
        "kernel.domainname" | "kernel.hostname" => Some(namespace::UTS),
        name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(namespace::IPC),
        name if name.starts_with("net.") => Some(namespace::NETWORK),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_host_are_refused() {
        for key in
            ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "net/../kernel/core_pattern", "net", ""]
        {
            assert_eq!(namespace_of(key), None, "{key}");
        }
        assert_eq!(namespace_of("net.ipv4.ip_forward"), Some(namespace::NETWORK));
        assert_eq!(namespace_of("net/ipv4/conf/eth0.1/forwarding"), Some(namespace::NETWORK));
        assert_eq!(namespace_of("kernel.shmmax"), Some(namespace::IPC));
    }
}
