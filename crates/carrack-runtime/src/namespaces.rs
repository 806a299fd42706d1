//! Which namespaces a container gets new, and which it joins.
//!
//! Invariant: where the container has a user namespace, every other new one is born inside it and thus belongs to it;
//! namespaces of others are joined before, with the rights of the runtime.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use carrack_sys::IoContext;
use carrack_sys::process::{
    Cloned, clone_process, clone_process_from, join_namespaces, namespace, namespace_kind, unshare,
};
use oci_spec::runtime::{LinuxNamespaceType, LinuxTimeOffset, Spec};
use rustix::fs::{Mode, OFlags};

use crate::{Error, Result};

/// The namespaces of a container that is to be made.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Flags of those that are made.
    pub new: u64,
    /// Those that exist already, opened on the host.
    joined: Vec<(u64, OwnedFd)>,
    /// What is written to `timens_offsets` of a new time namespace.
    time_offsets: String,
}

impl Namespaces {
    pub fn plan(spec: &Spec) -> Result<Self> {
        let mut namespaces = Self::default();
        let mut seen = 0;
        for entry in spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()) {
            let flag = flag(entry.typ());
            if seen & flag != 0 {
                return Err(Error::spec(format!("expected each namespace once, got {} twice", entry.typ())));
            }
            seen |= flag;
            match entry.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
                None => namespaces.new |= flag,
                Some(_) if flag == namespace::MOUNT => {
                    return Err(Error::spec("a mount namespace cannot be joined, only made"));
                }
                Some(path) if is_own(entry.typ(), path) => {}
                Some(path) => namespaces.joined.push((flag, open(entry.typ(), path)?)),
            }
        }
        if namespaces.new & namespace::MOUNT == 0 {
            return Err(Error::spec("expected a mount namespace of the container's own, got none"));
        }
        let offsets = spec.linux().as_ref().and_then(|linux| linux.time_offsets().as_ref());
        namespaces.time_offsets = offsets.map(time_offsets).transpose()?.unwrap_or_default();
        if !namespaces.time_offsets.is_empty() && !namespaces.has_new(namespace::TIME) {
            return Err(Error::spec("offsets of clocks need a new time namespace"));
        }
        Ok(namespaces)
    }

    pub fn has_new(&self, flag: u64) -> bool {
        self.new & flag != 0
    }

    /// Whether the container is not in the runtime's namespace of this kind.
    pub fn has(&self, flag: u64) -> bool {
        self.has_new(flag) || self.joined(flag).is_some()
    }

    /// The namespace of this kind that is joined.
    pub fn joined(&self, flag: u64) -> Option<BorrowedFd<'_>> {
        self.joined.iter().find(|(joined, _)| *joined == flag).map(|(_, file)| file.as_fd())
    }

    /// Flags for clone3. The cgroup namespace is not among them: its root is the cgroup at the time it is made, so it
    /// is made after the process was placed. Nor is the time namespace: its offsets are fixed once it has a process.
    fn at_clone(&self) -> u64 {
        self.new & !(namespace::CGROUP | namespace::TIME)
    }

    /// Parent: makes the container's first process. A pid namespace is joined by children, so by this process's own; it
    /// returns from there, for hooks are its children too.
    pub fn clone_first(&self, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
        const OWN_PIDS: &str = "/proc/self/ns/pid";
        let own_pids = match self.joined(namespace::PID) {
            Some(_) => Some(fs::File::open(OWN_PIDS).during("open the namespace", OWN_PIDS)?),
            None => None,
        };
        self.join(|flag| flag == namespace::PID)?;
        let others = |flag| flag != namespace::USER && flag != namespace::PID;
        let in_between = self.joined(namespace::USER).is_some()
            || (self.has_new(namespace::USER) && self.joined.iter().any(|(flag, _)| others(*flag)));
        let cloned = if in_between {
            let enter = || {
                let join = |wanted: &dyn Fn(u64) -> bool| self.try_join(wanted);
                // Whoever is not root of the host has rights over them only inside.
                match join(&others) {
                    Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                        join(&|flag| flag == namespace::USER)?;
                        join(&others)
                    }
                    result => result.and_then(|()| join(&|flag| flag == namespace::USER)),
                }
            };
            clone_process_from(None, |_| enter(), self.at_clone(), cgroup)
        } else {
            clone_process(self.at_clone(), cgroup)
        };
        let cloned = cloned.during("clone", "the container's first process")?;
        match (&cloned, own_pids) {
            (Cloned::Child, _) if !in_between => self.join(others)?,
            (Cloned::Parent { .. }, Some(own)) => {
                join_namespaces(own.as_fd(), namespace::PID).during("return to", OWN_PIDS)?;
            }
            _ => {}
        }
        Ok(cloned)
    }

    /// Child, while it still reads the host's /proc as itself.
    pub fn make_time(&self) -> Result<()> {
        if !self.has_new(namespace::TIME) {
            return Ok(());
        }
        // The process itself stays in the old one until its exec.
        unshare(namespace::TIME).during("make", "a time namespace")?;
        if !self.time_offsets.is_empty() {
            let path = "/proc/self/timens_offsets";
            fs::write(path, &self.time_offsets).during("set the clocks by", path)?;
        }
        Ok(())
    }

    fn join(&self, wanted: impl Fn(u64) -> bool) -> Result<()> {
        Ok(self.try_join(&wanted).during("join", "a namespace")?)
    }

    fn try_join(&self, wanted: &dyn Fn(u64) -> bool) -> std::io::Result<()> {
        let mut joined = self.joined.iter().filter(|(flag, _)| wanted(*flag));
        joined.try_for_each(|(flag, file)| join_namespaces(file.as_fd(), *flag))
    }
}

fn open(kind: LinuxNamespaceType, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).during("open the namespace", path)?;
    match namespace_kind(file.as_fd()) {
        Ok(found) if found == flag(kind) => Ok(file),
        _ => Err(Error::spec(format!("expected a namespace of type {kind}, got {}", path.display()))),
    }
}

/// Whether `path` is the namespace that the runtime itself is in: to join that is to have none.
fn is_own(kind: LinuxNamespaceType, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let own = Path::new("/proc/self/ns").join(file_name(kind));
    inode(path).is_ok_and(|found| inode(&own).is_ok_and(|own| own == found))
}

/// Lines of `/proc/PID/timens_offsets` (time_namespaces(7)).
fn time_offsets(offsets: &HashMap<String, LinuxTimeOffset>) -> Result<String> {
    let mut lines = String::new();
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::spec(format!("expected the clock monotonic or boottime, got {clock:?}")));
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            return Err(Error::spec(format!(
                "expected less than a second of nanoseconds, got {nanoseconds}"
            )));
        }
        lines.push_str(&format!("{clock} {} {nanoseconds}\n", offset.secs().unwrap_or(0)));
    }
    Ok(lines)
}

/// Flags of all namespaces that a container does not share with the host.
pub(crate) fn of_container(spec: &Spec) -> u64 {
    let entries = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    let other = entries.filter(|entry| !entry.path().as_ref().is_some_and(|path| is_own(entry.typ(), path)));
    other.fold(0, |flags, entry| flags | flag(entry.typ()))
}

fn flag(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => namespace::MOUNT,
        LinuxNamespaceType::Cgroup => namespace::CGROUP,
        LinuxNamespaceType::Uts => namespace::UTS,
        LinuxNamespaceType::Ipc => namespace::IPC,
        LinuxNamespaceType::User => namespace::USER,
        LinuxNamespaceType::Pid => namespace::PID,
        LinuxNamespaceType::Network => namespace::NETWORK,
        LinuxNamespaceType::Time => namespace::TIME,
    }
}

fn file_name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Time => "time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxNamespace;

    fn plan(entries: &[(LinuxNamespaceType, Option<&str>)]) -> Result<Namespaces> {
        let namespaces = entries.iter().map(|(kind, path)| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(*kind).set_path(path.map(Into::into));
            namespace
        });
        let mut spec = Spec::default();
        spec.linux_mut().as_mut().unwrap().set_namespaces(Some(namespaces.collect()));
        Namespaces::plan(&spec)
    }

    #[test]
    fn each_namespace_is_named_once_and_by_a_file_of_its_kind() {
        use LinuxNamespaceType::{Ipc, Mount, Network};
        assert!(plan(&[(Mount, None), (Ipc, None), (Ipc, None)]).is_err());
        assert!(plan(&[(Mount, Some("/proc/self/ns/mnt"))]).is_err());
        assert!(plan(&[(Mount, None), (Network, Some("/proc/self/ns/uts"))]).is_err());
        assert!(plan(&[(Mount, None), (Network, Some("/dev/null"))]).is_err());
        assert!(plan(&[(Mount, None), (Network, Some("/no/such/file"))]).is_err());
        assert!(plan(&[(Ipc, None)]).is_err(), "a mount namespace is needed");
        let own = plan(&[(Mount, None), (Network, Some("/proc/self/ns/net"))]).unwrap();
        assert!(!own.has(namespace::NETWORK), "to join the own namespace is to share it");
    }

    #[test]
    fn offsets_are_of_known_clocks() {
        let offset = |secs: i64, nanosecs: u32| {
            let mut offset = LinuxTimeOffset::default();
            offset.set_secs(Some(secs)).set_nanosecs(Some(nanosecs));
            offset
        };
        let one = |clock: &str, offset| time_offsets(&HashMap::from([(clock.to_owned(), offset)]));
        assert_eq!(one("boottime", offset(-7, 5)).unwrap(), "boottime -7 5\n");
        assert!(one("realtime", offset(1, 0)).is_err());
        assert!(one("monotonic", offset(1, 1_000_000_000)).is_err());
    }
}
