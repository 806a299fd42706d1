//! How a snapshot is seen: opened as a detached mount, which no mount namespace has.
//!
//! Invariant: no path is part of a mount option, so that none can be misread as one, be cut, or be too long.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::mount::{Attributes, Filesystem, clone_path, map_owners, set_attributes};
use carrack_sys::rooted::Root;
use carrack_sys::tree;
use rustix::fs::{Gid, Uid, fstat};
use rustix::mount::MountAttrFlags;
use rustix::thread::{capabilities, set_capabilities, set_thread_res_gid, set_thread_res_uid};

use crate::Result;
use crate::image_mount::{Holds, ImageMount};

/// What must be switched off for the upper folder to be all that changed: no renamed folder that points at a lower
/// one, no file whose data stay below, no index of inodes.
const PLAIN_UPPER: [(&str, &str); 3] = [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")];

/// What is mounted to see a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// An overlay; read-only without `upper`, and then of at least two.
    Overlay {
        /// What is read only, topmost first.
        lowers: Vec<Lower>,
        /// Where changes go.
        upper: Option<PathBuf>,
        /// A folder on the file system of `upper` for overlayfs itself.
        work: Option<PathBuf>,
        /// Changes need not survive a loss of power, so `fsync` in the mount does nothing: for build steps.
        volatile: bool,
    },
    /// A folder as it is.
    Bind {
        /// The folder.
        source: PathBuf,
        /// Whether it can be written to.
        read_only: bool,
    },
    /// An EROFS image that shows the whole, read only.
    Image(ImageMount),
}

/// One read-only part of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lower {
    /// A folder.
    Folder(PathBuf),
    /// An EROFS image.
    Image(ImageMount),
}

/// In which way a mount is opened.
#[derive(Debug, Default)]
pub struct Opening<'a> {
    /// For a process that stays with the mount: as long as this lives, other processes of carrack that mount the same
    /// images share them with it, and thus the kernel's cache of their files.
    pub holds: Option<&'a mut Holds>,
    /// A user namespace: files are shown with, and made by, the owners that it maps those of the snapshot to.
    pub owners: Option<BorrowedFd<'a>>,
    /// The SELinux context that all files are shown with.
    pub context: Option<&'a str>,
    /// What the kernel's table of mounts calls its source, if it is an overlay.
    pub source: Option<&'a str>,
}

impl Mount {
    /// The folder that takes the changes.
    pub fn upper(&self) -> Option<&Path> {
        match self {
            Self::Overlay { upper, .. } => upper.as_deref(),
            Self::Bind { source, read_only: false } => Some(source),
            Self::Bind { .. } | Self::Image(_) => None,
        }
    }

    /// The same with `fsync` switched off, where the kernel can: whoever needs the result syncs it as a whole.
    pub fn volatile(mut self) -> Self {
        if let Self::Overlay { upper: Some(_), volatile, .. } = &mut self {
            *volatile = true;
        }
        self
    }

    /// The same above `folder`, whose files show where no layer has one of the name. What is no overlay stays as it is.
    pub fn above(mut self, folder: PathBuf) -> Self {
        if let Self::Overlay { lowers, .. } = &mut self {
            lowers.push(Lower::Folder(folder));
        }
        self
    }

    /// The same to look at only. It may be opened beside a mount that writes: the changes so far are one more
    /// read-only folder to it, and what changes meanwhile may or may not be seen.
    pub fn read_only(self) -> Self {
        match self {
            Self::Overlay { mut lowers, upper: Some(upper), .. } => {
                lowers.insert(0, Lower::Folder(upper));
                Self::Overlay { lowers, upper: None, work: None, volatile: false }
            }
            Self::Bind { source, .. } => Self::Bind { source, read_only: true },
            view => view,
        }
    }

    /// Makes the detached mount and returns its root. The mount ends with the last descriptor of it.
    ///
    /// It is a folder to all calls that take one (`openat2`, `fstatat` ...), and can be moved into a mount namespace.
    pub fn open(&self) -> Result<OwnedFd> {
        self.open_with(Opening::default())
    }

    /// Whether [`Opening::context`] holds for it: a folder of the host keeps its labels.
    pub fn takes_context(&self) -> bool {
        !matches!(self, Self::Bind { .. })
    }

    /// [`Mount::open`] in another way.
    pub fn open_with(&self, opening: Opening<'_>) -> Result<OwnedFd> {
        let Opening { holds, owners, context, source } = opening;
        match self {
            Self::Overlay { lowers, upper, work, volatile } => {
                let upper = upper.as_deref().zip(work.as_deref());
                let upper = upper.map(|(upper, work)| Upper::open(upper, work, owners)).transpose()?;
                // overlayfs itself cannot be mapped; what it stands on can.
                let lowers = open_lowers(lowers, holds, owners)?;
                as_owner(upper.as_ref(), || overlay(&lowers, upper.as_ref(), *volatile, (context, source)))
            }
            Self::Bind { source, read_only } => {
                let mount = map(clone_path(source, false)?, owners)?;
                if *read_only {
                    let attributes = Attributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY);
                    set_attributes(mount.as_fd(), attributes, false)?;
                }
                Ok(mount)
            }
            // One context is that of all who share a mount.
            Self::Image(image) if context.is_some() => map(image.mount(context)?, owners),
            Self::Image(image) => map(image.open(holds)?, owners),
        }
    }

    /// [`Mount::open`], as a root to resolve paths below.
    pub fn open_root(&self) -> Result<Root> {
        Ok(Root::from_fd(self.open()?, "/"))
    }
}

fn map(mount: OwnedFd, owners: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    if let Some(owners) = owners {
        map_owners(mount.as_fd(), owners, false)?;
    }
    Ok(mount)
}

fn open_lowers(
    lowers: &[Lower],
    mut holds: Option<&mut Holds>,
    owners: Option<BorrowedFd<'_>>,
) -> Result<Vec<OwnedFd>> {
    let open = |lower: &Lower| match (lower, owners) {
        (Lower::Folder(path), None) => Ok(Root::open(path)?.into()),
        (Lower::Folder(path), _) => map(clone_path(path, false)?, owners),
        (Lower::Image(image), None) => image.open_shared(holds.as_deref_mut()),
        (Lower::Image(image), _) => map(image.open(holds.as_deref_mut())?, owners),
    };
    lowers.iter().map(open).collect()
}

/// The folders that overlayfs writes to, on one mount.
struct Upper {
    files: Root,
    work: Root,
    /// The mount that both are on where owners are mapped, which goes with its descriptor, and who is root on it.
    mapped: Option<(Root, Uid, Gid)>,
}

impl Upper {
    fn open(files: &Path, work: &Path, owners: Option<BorrowedFd<'_>>) -> Result<Self> {
        // What a volatile mount leaves there to be refused after a crash; the snapshot's owner decides that, not we.
        tree::remove_tree(&work.join("work/incompat"))?;
        let parent = files.parent().filter(|parent| work.parent() == Some(parent));
        let (Some(_), Some(parent)) = (owners, parent) else {
            return Ok(Self { files: Root::open(files)?, work: Root::open(work)?, mapped: None });
        };
        let parent = Root::from_fd(map(clone_path(parent, false)?, owners)?, parent);
        let below = |path: &Path| parent.open_dir(path.file_name().unwrap_or_default());
        let (files, work) = (below(files)?, below(work)?);
        let shown = fstat(&files).during("examine", "an upper folder")?;
        let (uid, gid) = (Uid::from_raw(shown.st_uid), Gid::from_raw(shown.st_gid));
        Ok(Self { files, work, mapped: Some((parent, uid, gid)) })
    }
}

fn overlay(
    lowers: &[OwnedFd],
    upper: Option<&Upper>,
    volatile: bool,
    (context, source): (Option<&str>, Option<&str>),
) -> Result<OwnedFd> {
    let mut filesystem = Filesystem::new("overlay")?.option("source", source.unwrap_or("overlay"))?;
    for lower in lowers {
        filesystem = folder_option(filesystem, "lowerdir+", lower)?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    if let Some(Upper { files, work, .. }) = upper {
        filesystem = folder_option(filesystem, "upperdir", files)?;
        filesystem = folder_option(filesystem, "workdir", work)?;
        attributes = MountAttrFlags::empty();
    }
    for (key, value) in PLAIN_UPPER {
        filesystem = filesystem.option(key, value)?;
    }
    if volatile {
        filesystem = filesystem.flag("volatile")?;
    }
    if let Some(context) = context {
        filesystem = filesystem.option("context", context)?;
    }
    Ok(filesystem.mount(attributes)?)
}

/// Overlayfs works in its upper folder as whoever mounts it, and on a mapped mount root is another than here.
fn as_owner<T>(upper: Option<&Upper>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some((_, uid, gid)) = upper.and_then(|upper| upper.mapped.as_ref()) else { return work() };
    let own = capabilities(None).during("read", "the own capabilities")?;
    become_effective(*uid, *gid)?;
    let result = set_capabilities(None, own).during("keep", "the capabilities").map_err(Into::into);
    let result = result.and_then(|()| work());
    become_effective(Uid::ROOT, Gid::ROOT)?;
    result
}

fn become_effective(uid: Uid, gid: Gid) -> Result<()> {
    // The group first: only root may change it.
    let (root, group) = (Uid::ROOT, Gid::ROOT);
    if uid.is_root() {
        set_thread_res_uid(root, uid, root).during("become", "root again")?;
        return Ok(set_thread_res_gid(group, gid, group).during("become", "root again")?);
    }
    set_thread_res_gid(group, gid, group).during("become", "the root of a user namespace")?;
    Ok(set_thread_res_uid(root, uid, root).during("become", "the root of a user namespace")?)
}

/// Gives overlayfs a folder by its descriptor: a string of fixed form, whatever the path is.
fn folder_option(filesystem: Filesystem, key: &str, folder: &impl AsFd) -> Result<Filesystem> {
    Ok(filesystem.option(key, &format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()))?)
}
