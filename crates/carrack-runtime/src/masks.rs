//! Paths that a container sees empty or read-only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use carrack_sys::IoContext;
use carrack_sys::mount::{
    Attributes, Filesystem, Propagation, attach, clone_file, clone_path, set_attributes,
};
use rustix::fs::{FileType, fstat};
use rustix::mount::MountAttrFlags;

use crate::rootfs::{Links, Rootfs};
use crate::{Error, Result};

/// A mount that is put on top of several places. The kernel copies only attached mounts, so the first use attaches
/// the original and later ones copy it.
#[derive(Debug)]
struct Cover {
    mount: OwnedFd,
    used: bool,
}

impl Cover {
    fn put_on(&mut self, target: &OwnedFd) -> Result<()> {
        if self.used {
            return Ok(attach(clone_file(self.mount.as_fd(), false)?.as_fd(), target.as_fd())?);
        }
        self.used = true;
        Ok(attach(self.mount.as_fd(), target.as_fd())?)
    }
}

/// What masked paths are covered with.
#[derive(Debug)]
pub(crate) struct Masks {
    /// The host's /dev/null: the one in the container's /dev could be something else (CVE-2025-31133).
    file: Cover,
}

impl Masks {
    /// Parent: opens the host's /dev/null.
    pub fn plan() -> Result<Self> {
        const NULL: &str = "/dev/null";
        let mount = clone_path(Path::new(NULL), false)?;
        let stat = fstat(&mount).during("examine", NULL)?;
        let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3);
        if !is_null {
            return Err(Error::spec("expected /dev/null of the host to be the null device"));
        }
        set_attributes(mount.as_fd(), Attributes::propagation(Propagation::Private), false)?;
        Ok(Self { file: Cover { mount, used: false } })
    }

    /// Child: covers each of `paths` that exists with an empty read-only folder or the null device.
    pub fn apply(&mut self, rootfs: &Rootfs, paths: &[String]) -> Result<()> {
        let mut folder: Option<Cover> = None;
        for path in paths {
            let path = Path::new(path);
            let Some(target) = rootfs.find(path, Links::at(path))? else { continue };
            let mode = fstat(&target).during("examine", path)?.st_mode;
            let cover = match FileType::from_raw_mode(mode) {
                FileType::Directory => match &mut folder {
                    Some(cover) => cover,
                    None => folder.insert(empty_folder()?),
                },
                _ => &mut self.file,
            };
            cover.put_on(&target)?;
        }
        Ok(())
    }
}

fn empty_folder() -> Result<Cover> {
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let filesystem = Filesystem::new("tmpfs")?.option("nr_inodes", "2")?.option("mode", "755")?;
    Ok(Cover { mount: filesystem.mount(attributes)?, used: false })
}

/// Child: makes each of `paths` that exists read-only, with all mounts below it.
pub(crate) fn make_read_only(rootfs: &Rootfs, paths: &[String]) -> Result<()> {
    for path in paths {
        let path = Path::new(path);
        let Some(target) = rootfs.find(path, Links::at(path))? else { continue };
        let copy = clone_file(target.as_fd(), true)?;
        set_attributes(copy.as_fd(), Attributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY), true)?;
        attach(copy.as_fd(), target.as_fd())?;
    }
    Ok(())
}
