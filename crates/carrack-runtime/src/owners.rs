//! Mappings of users and groups, and user namespaces that exist only to hold them.
//!
//! Invariant: mappings are written by a process outside, whole and once, before anything uses the namespace.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use carrack_sys::IoContext;
use carrack_sys::process::{Cloned, clone_process, namespace, send_signal, wait_forever, wait_pidfd};
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxIdMappingBuilder, Spec};
use rustix::process::Pid;

use crate::{Error, Result};

/// Who inside is who outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    /// Of users.
    pub uids: Vec<LinuxIdMapping>,
    /// Of groups.
    pub gids: Vec<LinuxIdMapping>,
}

/// `size` ids from `inside` on are those from `outside` on.
pub fn mapping(inside: u32, outside: u32, size: u32) -> LinuxIdMapping {
    let builder = LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(size);
    builder.build().expect("all fields are set")
}

/// The kernel takes as many lines (user_namespaces(7)).
const MAX_MAPPINGS: usize = 340;

impl Mappings {
    /// Those of a container.
    pub(crate) fn of(spec: &Spec) -> Self {
        let linux = spec.linux().as_ref();
        let list =
            |mappings: Option<&Option<Vec<LinuxIdMapping>>>| mappings.cloned().flatten().unwrap_or_default();
        Self { uids: list(linux.map(Linux::uid_mappings)), gids: list(linux.map(Linux::gid_mappings)) }
    }

    /// A user namespace with these mappings that no process is in, for mounts that show other owners.
    /// The caller has one thread.
    pub fn namespace(&self) -> Result<OwnedFd> {
        self.check()?;
        match clone_process(namespace::USER, None).during("make", "a user namespace")? {
            Cloned::Child => wait_forever(),
            Cloned::Parent { pid, pidfd } => {
                let path = format!("/proc/{}/ns/user", pid.as_raw_pid());
                let file = self.write(pid).and_then(|()| Ok(File::open(&path).during("open", &path)?));
                send_signal(pidfd.as_fd(), rustix::process::Signal::KILL.as_raw())
                    .and_then(|()| wait_pidfd(pidfd.as_fd()))
                    .during("end", "the process of a user namespace")?;
                Ok(file?.into())
            }
        }
    }

    /// Writes them for the user namespace that process `pid` is in, each file by one write (user_namespaces(7)).
    pub(crate) fn write(&self, pid: Pid) -> Result<()> {
        for (name, mappings) in [("uid_map", &self.uids), ("gid_map", &self.gids)] {
            let path = format!("/proc/{}/{name}", pid.as_raw_pid());
            let opened = File::options().write(true).open(&path);
            opened
                .and_then(|mut file| file.write_all(text(mappings).as_bytes()))
                .during("write to", &path)?;
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (kind, mappings) in [("users", &self.uids), ("groups", &self.gids)] {
            if mappings.is_empty() || mappings.len() > MAX_MAPPINGS {
                let count = mappings.len();
                return Err(Error::spec(format!(
                    "a user namespace needs 1 to {MAX_MAPPINGS} mappings of {kind}, got {count}"
                )));
            }
            let end = |first: u32, size: u32| first.checked_add(size).filter(|_| size > 0);
            let fits = |one: &LinuxIdMapping| {
                end(one.container_id(), one.size()).is_some() && end(one.host_id(), one.size()).is_some()
            };
            if let Some(wrong) = mappings.iter().find(|one| !fits(one)) {
                let shown = text(std::slice::from_ref(wrong));
                return Err(Error::spec(format!(
                    "a mapping of {kind} is empty or too long: {}",
                    shown.trim()
                )));
            }
        }
        Ok(())
    }
}

fn text(mappings: &[LinuxIdMapping]) -> String {
    let line = |one: &LinuxIdMapping| format!("{} {} {}\n", one.container_id(), one.host_id(), one.size());
    mappings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_overflowing_mappings_are_refused() {
        let check = |uids: &[LinuxIdMapping]| {
            Mappings { uids: uids.to_vec(), gids: vec![mapping(0, 0, u32::MAX)] }.check().is_ok()
        };
        assert!(check(&[mapping(0, 100_000, 65_536)]));
        assert!(!check(&[]));
        assert!(!check(&[mapping(0, 1, 0)]));
        assert!(!check(&[mapping(0, 2, u32::MAX)]));
        assert!(!check(&vec![mapping(0, 0, 1); 341]));
    }
}
