//! Mounts as descriptors: every mount is made detached, gets its attributes while nobody can reach it, and is then
//! attached to a place that is a descriptor too. A detached mount goes away when its descriptor is closed.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::{Error, IoContext, Result};

/// How mounts below a mount are passed on to and from copies of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the original to the copy.
    Slave,
    /// Both ways.
    Shared,
    /// Not at all, and cannot be bind-mounted.
    Unbindable,
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change of the attributes of a mount.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// Attributes to set.
    pub set: MountAttrFlags,
    /// Attributes to clear.
    pub clear: MountAttrFlags,
    /// New propagation; `None` keeps it.
    pub propagation: Option<Propagation>,
}

impl Attributes {
    /// Only sets `flags`.
    pub fn set(flags: MountAttrFlags) -> Self {
        Self { set: flags, clear: MountAttrFlags::empty(), propagation: None }
    }

    /// Only changes the propagation.
    pub fn propagation(propagation: Propagation) -> Self {
        Self { propagation: Some(propagation), ..Self::set(MountAttrFlags::empty()) }
    }
}

/// `struct mount_attr` of the kernel.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes the attributes of the mount whose root `mount` is, and with `recursive` of all mounts below it.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> Result<()> {
    let arguments = MountAttr {
        set: attributes.set.bits().into(),
        clear: attributes.clear.bits().into(),
        propagation: attributes.propagation.map_or(0, Propagation::flag),
        user_namespace: 0,
    };
    set_attributes_raw(mount, arguments, recursive).during("set the attributes of", "a mount")
}

/// Shifts the owners that a detached mount shows by the mappings of the user namespace `user_namespace`, and with
/// `recursive` those of all mounts below it. A mount can be mapped once only, and not by the first user namespace.
pub fn map_owners(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let arguments = MountAttr {
        set: MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into(),
        clear: 0,
        propagation: 0,
        user_namespace: user_namespace.as_raw_fd() as u64,
    };
    set_attributes_raw(mount, arguments, recursive).during("map the owners of", "a mount")
}

fn set_attributes_raw(mount: BorrowedFd<'_>, arguments: MountAttr, recursive: bool) -> std::io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let (arguments, size) = (&raw const arguments, size_of::<MountAttr>());
    // SAFETY: the path ends in zero, and `arguments` is as long as is said; the kernel writes to neither.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, arguments, size)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A new filesystem instance being configured.
#[derive(Debug)]
pub struct Filesystem {
    context: OwnedFd,
    kind: String,
}

impl Filesystem {
    /// Begins an instance of the filesystem type `kind`.
    pub fn new(kind: &str) -> Result<Self> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).during("open a filesystem of type", kind)?;
        Ok(Self { context, kind: kind.to_owned() })
    }

    /// Sets `key=value`.
    pub fn option(self, key: &str, value: &str) -> Result<Self> {
        match fsconfig_set_string(self.context.as_fd(), key, value) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.error("set an option of", &format!("{key}={value}"), error)),
        }
    }

    /// Sets the option `key`, which has no value.
    pub fn flag(self, key: &str) -> Result<Self> {
        match fsconfig_set_flag(self.context.as_fd(), key) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.error("set an option of", key, error)),
        }
    }

    /// Creates the filesystem and returns it as a detached mount.
    pub fn mount(self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        let mount = fsconfig_create(self.context.as_fd())
            .and_then(|()| fsmount(self.context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes));
        mount.map_err(|error| self.error("mount", "", error))
    }

    fn error(&self, verb: &'static str, detail: &str, error: Errno) -> Error {
        let object = if detail.is_empty() { self.kind.clone() } else { format!("{} ({detail})", self.kind) };
        Error { verb, path: object.into(), source: error.into() }
    }
}

/// A detached copy of the mount at `path` of the host: of the file or folder itself, and with `recursive` of all
/// mounts below it. Follows symbolic links.
pub fn clone_path(path: &Path, recursive: bool) -> Result<OwnedFd> {
    open_tree(CWD, path, clone_flags(recursive)).during("open as a mount", path)
}

/// A detached copy of the mount that `file` lies on, with `file` as its root.
pub fn clone_file(file: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let flags = clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(file, c"", flags).during("open as a mount", "a descriptor")
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches a detached mount on top of what `target` (an `O_PATH` descriptor) is.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let empty: &CStr = c"";
    move_mount(mount, empty, target, empty, flags).during("attach", "a mount")
}

/// Attaches a detached mount on top of everything at the root of the mount namespace.
pub fn attach_over_root(mount: BorrowedFd<'_>) -> Result<()> {
    move_mount(mount, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).during("attach", "the root")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, openat};

    fn create(folder: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
        openat(folder, name, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR)
    }

    #[test]
    fn a_detached_mount_is_usable_and_becomes_read_only() {
        let mount = Filesystem::new("tmpfs").unwrap().option("mode", "700").unwrap();
        let mount = mount.mount(MountAttrFlags::MOUNT_ATTR_NODEV).unwrap();
        drop(create(mount.as_fd(), "one").unwrap());
        set_attributes(mount.as_fd(), Attributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY), true).unwrap();
        assert_eq!(create(mount.as_fd(), "two").unwrap_err(), Errno::ROFS);
    }

    #[test]
    fn a_copy_of_a_folder_has_that_folder_as_its_root() {
        let folder = tempfile::tempdir().unwrap();
        let copy = clone_path(folder.path(), true).unwrap();
        drop(create(copy.as_fd(), "file").unwrap());
        assert!(folder.path().join("file").exists());
    }

    #[test]
    fn a_wrong_option_names_filesystem_and_option() {
        let error = Filesystem::new("tmpfs").unwrap().option("no-such", "1").unwrap_err();
        assert!(error.to_string().contains("tmpfs (no-such=1)"), "{error}");
    }
}
