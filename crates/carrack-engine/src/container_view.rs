//! The files of a container as its processes see them, volumes and files in memory too, running or not.
//!
//! Invariant: everything is resolved below one descriptor, the root that the container itself has; nothing that a
//! container does to its links and folders leads out of it. A container that does not run is not started meanwhile.

use std::os::fd::AsFd;
use std::path::Path;

use carrack_container::{Container, Locked, MountPoint, Status};
use carrack_sys::IoContext;
use carrack_sys::mount::{Attributes, attach, clone_file, set_attributes};
use carrack_sys::rooted::{FileType, Place, Root};
use rustix::fs::{Mode, OFlags, fstat, fstatfs, openat};
use rustix::mount::MountAttrFlags;

use crate::{Engine, Error, Result};

/// The opened root of a container.
pub(crate) struct ContainerView<'a> {
    pub root: Root,
    _locked: Option<Locked<'a>>,
}

/// File systems that the kernel makes up: proc, sysfs, cgroup and cgroup2, devpts, mqueue, debugfs, tracefs.
const OF_KERNEL: [i64; 8] =
    [0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x1cd1, 0x1980_0202, 0x6462_6720, 0x7472_6163];

impl ContainerView<'_> {
    /// The files of this machine, which resolve in the same way.
    pub(crate) fn of_host() -> Result<Self> {
        Ok(Self { root: Root::open(Path::new("/"))?, _locked: None })
    }
}

impl Engine {
    /// Opens the files of a container; with `writes` to change them.
    pub(crate) fn open_view(&self, container: &Container, writes: bool) -> Result<ContainerView<'_>> {
        let id = &container.record.id;
        let locked = self.containers.lock(id)?;
        let container = locked.get()?;
        match container.state.status {
            Status::Creating => Err(Error::refused("it is just being started", "try again")),
            status if status.is_active() => {
                Ok(ContainerView { root: root_of_process(&container)?, _locked: None })
            }
            _ => {
                let root = self.open_stopped(&container, writes)?;
                Ok(ContainerView { root, _locked: Some(locked) })
            }
        }
    }

    /// The snapshot with the container's binds and volumes on it, as a detached tree.
    fn open_stopped(&self, container: &Container, writes: bool) -> Result<Root> {
        let mount = self.root_mount(&container.record)?;
        let root = if writes { mount.open_root()? } else { mount.read_only().open_root()? };
        for point in &container.record.host.mounts.points {
            self.show(&root, point, writes)?;
        }
        Ok(root)
    }

    /// Puts what a mount point shows into a detached tree. What is missing at this moment is left out: the container
    /// cannot be started either.
    fn show(&self, root: &Root, point: &MountPoint, writes: bool) -> Result<()> {
        let Some(source) = self.open_source(point)? else { return Ok(()) };
        let kind = FileType::from_raw_mode(fstat(&source).during("examine", "a mount source")?.st_mode);
        let target = match root.open_path(&point.destination) {
            Err(error) if error.is_not_found() && writes && kind.is_dir() => {
                root.create_dir_all(&point.destination, 0o755)?;
                root.open_path(&point.destination)?
            }
            Err(error) if error.is_not_found() => return Ok(()),
            target => target?,
        };
        let tree = clone_file(source.as_fd(), true)?;
        if point.read_only || !writes {
            set_attributes(tree.as_fd(), Attributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY), true)?;
        }
        Ok(attach(tree.as_fd(), target.as_fd())?)
    }
}

/// The root of a running container's first process: also what is mounted there. The process is looked at again
/// afterwards, as its number may have become another's.
fn root_of_process(container: &Container) -> Result<Root> {
    let gone = || Error::refused("it has just ended", "try again");
    let init = container.state.init.as_ref().ok_or_else(gone)?;
    let root = Root::open(Path::new(&format!("/proc/{}/root", init.pid)))?;
    if init.is_alive() { Ok(root) } else { Err(gone()) }
}

/// Whether a copy goes into a folder on another file system than where it began: not into what the kernel makes up.
pub(crate) fn enters(place: &Place<'_>) -> carrack_layer::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(folder) = openat(place.folder(), place.name(), flags, Mode::empty()) else { return Ok(false) };
    let kind = fstatfs(folder).during("examine the file system of", place.path())?.f_type;
    // The nodes in /dev are the runtime's, not the container's.
    Ok(!OF_KERNEL.contains(&kind) && place.path() != Path::new("dev"))
}
