//! Which namespaces a container gets new, and which it joins.

use std::fs::File;
use std::os::fd::OwnedFd;

use carrack_sys::IoContext;
use carrack_sys::process::{join_namespaces, namespace};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::os::fd::AsFd;

use crate::{Error, Result};

/// The namespaces of a container that is to be made.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Flags of those that are made.
    pub new: u64,
    /// Those that exist already, opened on the host.
    joined: Vec<(u64, OwnedFd)>,
}

impl Namespaces {
    pub fn plan(spec: &Spec) -> Result<Self> {
        let mut namespaces = Self::default();
        for entry in spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()) {
            let flag = flag(entry.typ());
            match entry.path() {
                None => namespaces.new |= flag,
                Some(_) if flag == namespace::MOUNT => {
                    return Err(Error::spec("a mount namespace cannot be joined, only made"));
                }
                Some(path) => {
                    let file = File::open(path).during("open the namespace", path)?;
                    namespaces.joined.push((flag, file.into()));
                }
            }
        }
        if namespaces.new & namespace::MOUNT == 0 {
            return Err(Error::spec("expected a mount namespace of the container's own, got none"));
        }
        Ok(namespaces)
    }

    pub fn has_new(&self, flag: u64) -> bool {
        self.new & flag != 0
    }

    /// Flags for clone3. The cgroup namespace is not among them: its root is the cgroup at the time it is made, so it
    /// is made after the process was placed.
    pub fn at_clone(&self) -> u64 {
        self.new & !namespace::CGROUP
    }

    /// Parent, before the clone: a pid namespace is joined by children. Returns the way back, for hooks are children too.
    pub fn join_for_children(&self) -> Result<Option<File>> {
        const OWN: &str = "/proc/self/ns/pid";
        if !self.joined.iter().any(|(flag, _)| *flag == namespace::PID) {
            return Ok(None);
        }
        let own = File::open(OWN).during("open the namespace", OWN)?;
        self.join(|flag| flag == namespace::PID)?;
        Ok(Some(own))
    }

    /// Child, after the clone.
    pub fn join_in_child(&self) -> Result<()> {
        self.join(|flag| flag == namespace::USER)?;
        self.join(|flag| flag != namespace::USER && flag != namespace::PID)
    }

    fn join(&self, wanted: impl Fn(u64) -> bool) -> Result<()> {
        for (flag, file) in self.joined.iter().filter(|(flag, _)| wanted(*flag)) {
            join_namespaces(file.as_fd(), *flag).during("join", "a namespace")?;
        }
        Ok(())
    }
}

/// Flags of all namespaces that a container does not share with the host.
pub(crate) fn of_container(spec: &Spec) -> u64 {
    let entries = spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
    entries.fold(0, |flags, entry| flags | flag(entry.typ()))
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
