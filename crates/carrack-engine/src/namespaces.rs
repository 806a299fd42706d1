//! What a container's namespaces are shared with: the files of those that it joins, and the range of ids of its own
//! user namespace.
//!
//! ```text
//! RUNROOT/user-ranges/lock         whoever leases or looks for a range
//! RUNROOT/user-ranges/<id>         "FIRST SIZE": the range of the host's ids that this container alone has
//! ```
//!
//! Invariant: two containers that exist never have a range in common; a lease of a container that is gone is none.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use carrack_container::{
    Container, ContainerId, ContainerRecord, HostSettings, IdRange, IpcMode, NamespaceMode, NetworkMode,
    ProcessId, Program, UserMode,
};
use carrack_runtime::owners::{Mappings, mapping};
use carrack_sys::atomic::{self, Durability};
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, tree};
use oci_spec::runtime::LinuxNamespaceType as Kind;

use crate::{Engine, Error, Result, sandbox};

/// Whose line of /etc/subuid and /etc/subgid has the ids for containers, as for podman.
const OWNER: &str = "containers";
/// The ids where there is no such line: above those of users and services, and of other engines by default.
const DEFAULT_RANGE: (u32, u32) = (0x4000_0000, 0x4000_0000);

/// Resolved for one start.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Namespaces that are joined.
    pub joined: Vec<(Kind, PathBuf)>,
    /// Of a user namespace of the container's own.
    pub mappings: Option<Mappings>,
    /// A user namespace with the owners that the container's files have.
    owners: Option<OwnedFd>,
    /// The mount at /dev/shm of the container whose IPC namespace it joins.
    memory: Option<OwnedFd>,
    /// The namespaces of other containers, open: their processes may end, and others get their numbers.
    held: Vec<OwnedFd>,
}

impl Shared {
    /// By what the owners of the container's files are mapped.
    pub fn owners(&self) -> Option<BorrowedFd<'_>> {
        self.owners.as_ref().map(AsFd::as_fd)
    }

    /// How this process names the memory that is shared.
    pub fn memory_path(&self) -> Option<PathBuf> {
        self.memory.as_ref().map(|memory| format!("/proc/self/fd/{}", memory.as_raw_fd()).into())
    }
}

impl Engine {
    /// The same with the ids of the containers that are named, so that a new name changes nothing.
    pub(crate) fn with_container_ids(&self, mut host: HostSettings) -> Result<HostSettings> {
        let network = match &mut host.network.mode {
            NetworkMode::Container(name) => Some(name),
            _ => None,
        };
        for name in host.namespaces.containers().into_iter().chain(network) {
            *name = self.containers.find(name)?.record.id.to_string();
        }
        Ok(host)
    }

    /// The host name in a container: where that is shared, the other's.
    pub(crate) fn hostname(&self, id: &str, program: &Program, host: &HostSettings) -> Result<String> {
        match &host.namespaces.uts {
            NamespaceMode::Container(other) => {
                let other = self.containers.find(other)?.record;
                Ok(sandbox::hostname(other.id.as_str(), &other.program, &other.host))
            }
            _ => Ok(sandbox::hostname(id, program, host)),
        }
    }

    /// Looks up all that the container shares. The caller has one thread.
    pub(crate) fn shared_namespaces(&self, record: &ContainerRecord) -> Result<Shared> {
        let mut shared = Shared::default();
        let modes = &record.host.namespaces;
        for (mode, kind, file) in [
            (&modes.pid, Kind::Pid, "pid"),
            (&modes.uts, Kind::Uts, "uts"),
            (&modes.cgroup, Kind::Cgroup, "cgroup"),
        ] {
            self.join_namespace(mode, kind, file, &mut shared)?;
        }
        if let IpcMode::Of(mode) = &modes.ipc {
            self.join_namespace(mode, Kind::Ipc, "ipc", &mut shared)?;
            if let NamespaceMode::Container(name) = mode {
                shared.memory = self.memory_of(name)?;
            }
        }
        match &record.host.network.mode {
            NetworkMode::Container(name) => {
                self.join_namespace(
                    &NamespaceMode::Container(name.clone()),
                    Kind::Network,
                    "net",
                    &mut shared,
                )?;
            }
            NetworkMode::Path(path) => shared.joined.push((Kind::Network, path.clone())),
            NetworkMode::Bridge | NetworkMode::None | NetworkMode::Host => {}
        }
        self.share_users(record, &mut shared)?;
        Ok(shared)
    }

    fn share_users(&self, record: &ContainerRecord, shared: &mut Shared) -> Result<()> {
        let mappings = match &record.host.namespaces.user {
            UserMode::Host => return Ok(()),
            UserMode::Container(name) => {
                self.join_namespace(&NamespaceMode::Container(name.clone()), Kind::User, "user", shared)?;
                None
            }
            UserMode::Path(path) => {
                shared.joined.push((Kind::User, path.clone()));
                None
            }
            UserMode::KeepId => Some(same_ids()),
            UserMode::Mapped { uids, gids } => {
                let convert = |ranges: &[IdRange]| {
                    ranges.iter().map(|one| mapping(one.inside, one.outside, one.size)).collect()
                };
                Some(Mappings { uids: convert(uids), gids: convert(gids) })
            }
            UserMode::Auto(size) => {
                let first = self.lease_users(&record.id, *size)?;
                let mappings = vec![mapping(0, first, *size)];
                Some(Mappings { uids: mappings.clone(), gids: mappings })
            }
        };
        shared.owners = match &mappings {
            // The same owners need no mapping, and the kernel has none for all ids.
            Some(mappings) if *mappings == same_ids() => None,
            Some(mappings) => Some(mappings.namespace()?),
            None => match shared.joined.last() {
                Some((Kind::User, path)) if !is_own_user_namespace(path) => {
                    Some(fs::File::open(path).during("open the namespace", path)?.into())
                }
                _ => None,
            },
        };
        shared.mappings = mappings;
        Ok(())
    }

    fn join_namespace(
        &self,
        mode: &NamespaceMode,
        kind: Kind,
        file: &str,
        shared: &mut Shared,
    ) -> Result<()> {
        match mode {
            NamespaceMode::Private | NamespaceMode::Host => {}
            NamespaceMode::Path(path) => shared.joined.push((kind, path.clone())),
            NamespaceMode::Container(name) => {
                let (_, init) = self.running_process(name)?;
                let path = PathBuf::from(format!("/proc/{}/ns/{file}", init.pid));
                let namespace = fs::File::open(&path).during("open the namespace", &path)?;
                // Asked again: what was opened may be another's.
                self.running_process(name)?;
                let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
                shared.joined.push((kind, path.into()));
                shared.held.push(namespace.into());
            }
        }
        Ok(())
    }

    fn running_process(&self, name: &str) -> Result<(Container, ProcessId)> {
        let other = self.containers.find(name)?;
        let init = other.state.init.clone().filter(ProcessId::is_alive);
        let init = init.ok_or_else(|| {
            let name = &other.record.name;
            let hint = format!("start it first: carrack start {name}");
            Error::refused(format!("cannot join the namespaces of container {name}: it is not running"), hint)
        })?;
        Ok((other, init))
    }

    fn memory_of(&self, name: &str) -> Result<Option<OwnedFd>> {
        let (other, init) = self.running_process(name)?;
        let name = &other.record.name;
        match other.record.host.namespaces.ipc {
            IpcMode::Private | IpcMode::None => {
                let hint = format!("run {name} with --ipc shareable");
                Err(Error::refused(format!("container {name} does not share its IPC namespace"), hint))
            }
            IpcMode::Of(NamespaceMode::Host) => Ok(None),
            _ => match init.open()? {
                Some(target) => Ok(Some(carrack_runtime::shared_memory_of(target.as_fd())?)),
                None => Err(Error::refused(format!("container {name} has just ended"), "start it again")),
            },
        }
    }

    fn ranges_folder(&self) -> PathBuf {
        self.environment.paths.runroot.join("user-ranges")
    }

    /// The files of all leases of ranges, by their container.
    fn ranges(&self) -> Result<Vec<(ContainerId, PathBuf)>> {
        let folder = self.ranges_folder();
        let mut ranges = Vec::new();
        for entry in fs::read_dir(&folder).during("list", &folder)? {
            let path = entry.during("list", &folder)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ranges.extend(name.parse().ok().map(|holder| (holder, path.clone())));
        }
        Ok(ranges)
    }

    /// The leases of containers that are gone, and those that cannot be read, which are as good as none.
    pub(crate) fn abandoned_ranges(&self) -> Result<Vec<(ContainerId, PathBuf)>> {
        if !self.ranges_folder().exists() {
            return Ok(Vec::new());
        }
        let mut ranges = self.ranges()?;
        ranges.retain(|(holder, path)| {
            let text = fs::read_to_string(path).unwrap_or_default();
            parse_lease(&text).is_none() || !self.is_container_there(holder)
        });
        Ok(ranges)
    }

    /// Gives back the range of a container that is gone, if it had one.
    pub(crate) fn release_users(&self, id: &ContainerId) -> Result<()> {
        let path = self.ranges_folder().join(id.as_str());
        if !path.exists() {
            return Ok(());
        }
        let _lock = Lock::exclusive(&self.ranges_folder().join("lock"))?;
        Ok(tree::remove_tree(&path)?)
    }

    /// The first id of a range that is the container's as long as it exists.
    fn lease_users(&self, id: &ContainerId, size: u32) -> Result<u32> {
        let folder = self.ranges_folder();
        atomic::create_private_dir(&folder)?;
        let _lock = Lock::exclusive(&folder.join("lock"))?;
        let mut taken = Vec::new();
        for (holder, path) in self.ranges()? {
            let text = atomic::read(&path)?.unwrap_or_default();
            let range = parse_lease(&String::from_utf8_lossy(&text));
            match range {
                Some((first, own)) if holder == *id && own == size => return Ok(first),
                Some(range) if holder != *id && self.containers.exists(&holder)? => taken.push(range),
                _ => atomic::remove_file(&path)?,
            }
        }
        let first = free_range(range_of_host()?, taken, size)?;
        let lease = format!("{first} {size}\n");
        atomic::write(&folder.join(id.as_str()), lease.as_bytes(), 0o600, Durability::Volatile)?;
        Ok(first)
    }
}

fn same_ids() -> Mappings {
    let all = vec![mapping(0, 0, u32::MAX)];
    Mappings { uids: all.clone(), gids: all }
}

fn is_own_user_namespace(path: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &std::path::Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    inode(path) == inode("/proc/self/ns/user".as_ref())
}

fn parse_lease(text: &str) -> Option<(u32, u32)> {
    let (first, size) = text.trim().split_once(' ')?;
    Some((first.parse().ok()?, size.parse().ok()?))
}

/// First id and how many: what both files give to the owner, else the default.
fn range_of_host() -> Result<(u32, u32)> {
    let read = |path: &str| -> Result<Option<(u32, u32)>> {
        let text = atomic::read(path.as_ref())?.unwrap_or_default();
        Ok(subordinate(&String::from_utf8_lossy(&text)))
    };
    match (read("/etc/subuid")?, read("/etc/subgid")?) {
        (None, None) => Ok(DEFAULT_RANGE),
        (Some(users), Some(groups)) if users == groups => Ok(users),
        _ => Err(Error::refused(
            format!("the ids of {OWNER} in /etc/subuid and /etc/subgid differ"),
            "give both files the same line, as in containers:1073741824:1073741824",
        )),
    }
}

/// "name:first:count"
fn subordinate(text: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let is_ours = fields.next() == Some(OWNER);
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let fits = first > 0 && count > 0 && first.checked_add(count).is_some();
        (is_ours && fits).then_some((first, count))
    })
}

/// The lowest place with room for `size`.
fn free_range((first, count): (u32, u32), mut taken: Vec<(u32, u32)>, size: u32) -> Result<u32> {
    taken.sort_unstable();
    let end = u64::from(first) + u64::from(count);
    let mut place = u64::from(first);
    for (other, length) in taken {
        if place + u64::from(size) <= u64::from(other) {
            break;
        }
        place = place.max(u64::from(other) + u64::from(length));
    }
    match u32::try_from(place) {
        Ok(found) if place + u64::from(size) <= end => Ok(found),
        _ => Err(Error::refused(
            format!("there are no {size} ids left for a user namespace"),
            format!("give {OWNER} more in /etc/subuid and /etc/subgid, or use --userns auto:size=N"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap() {
        let range = (1000, 100);
        assert_eq!(free_range(range, vec![], 40).unwrap(), 1000);
        assert_eq!(free_range(range, vec![(1000, 40)], 40).unwrap(), 1040);
        assert_eq!(free_range(range, vec![(1040, 20), (1000, 10)], 30).unwrap(), 1010);
        assert_eq!(free_range(range, vec![(1040, 20), (1000, 10)], 40).unwrap(), 1060);
        assert!(free_range(range, vec![(1000, 61)], 40).is_err());
        assert!(free_range(range, vec![], 101).is_err());
        assert_eq!(free_range(range, vec![(10, 5), (5000, 9)], 100).unwrap(), 1000, "others count not");
    }

    #[test]
    fn the_line_of_the_owner_counts() {
        assert_eq!(subordinate("root:1:2\ncontainers:500:7\n"), Some((500, 7)));
        for text in ["", "containers:0:9", "containers:4294967295:9", "containers:x:1", "other:1:1"] {
            assert_eq!(subordinate(text), None, "{text}");
        }
    }
}
