//! Places in the container's root filesystem, each as a descriptor that was resolved below the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use carrack_sys::IoContext;
use carrack_sys::rooted::Root;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::Result;

/// What a mount needs at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
}

/// Whether symbolic links in a path are followed (below the root) or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    Follow,
    Refuse,
}

impl Links {
    /// An image must not make `/proc`, `/sys` or `/dev` mean another folder (CVE-2019-19921 and its like).
    pub fn at(destination: &Path) -> Self {
        let of_kernel = ["/proc", "/sys", "/dev"].iter().any(|folder| destination.starts_with(folder));
        if of_kernel { Self::Refuse } else { Self::Follow }
    }
}

/// The root filesystem while it is being set up.
#[derive(Debug)]
pub(crate) struct Rootfs(Root);

impl Rootfs {
    pub fn new(mount: OwnedFd) -> Self {
        Self(Root::from_fd(mount, "/"))
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub fn root(&self) -> &Root {
        &self.0
    }

    /// An `O_PATH` descriptor of what is at `path`; `None` when there is nothing.
    pub fn find(&self, path: &Path, links: Links) -> Result<Option<OwnedFd>> {
        let resolve = match links {
            Links::Follow => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Refuse => ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
        };
        loop {
            match openat2(self.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Ok(place) => return Ok(Some(place)),
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                // The kernel saw a rename elsewhere and cannot say whether the path left the root.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error).during("open in the container", path)?,
            }
        }
    }

    /// [`Self::find`] that makes what is missing: folders with mode 0755, an empty file with mode 0644.
    pub fn find_or_make(&self, path: &Path, kind: Kind) -> Result<OwnedFd> {
        let links = Links::at(path);
        if let Some(place) = self.find(path, links)? {
            return Ok(place);
        }
        match kind {
            Kind::Folder => drop(self.0.create_dir_all(path, 0o755)?),
            Kind::File => {
                self.0.create_dir_all(path.parent().unwrap_or(Path::new("/")), 0o755)?;
                self.0.at(path)?.create_file(0o644)?;
            }
        }
        Ok(self.find(path, links)?.ok_or(Errno::NOENT).during("make in the container", path)?)
    }
}
