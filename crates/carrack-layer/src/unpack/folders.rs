//! The one folder that entries are being made in, and the folders on the way to it.
//!
//! Invariant: a folder that was there before keeps its time, however many entries are made in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use carrack_sys::rooted::{Place, Root};
use carrack_sys::{IoContext, Result};
use rustix::fs::{Timespec, Timestamps};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::{GROUP_BIT, is_missing};
use crate::OPAQUE_XATTR;

/// The most bytes of paths of implicit folders that are remembered.
const MAX_IMPLICIT_BYTES: usize = 4 * 1024 * 1024;
const IMPLICIT_MODE: u32 = 0o755;

/// A folder that entries are being made in.
pub(crate) struct Folder {
    path: PathBuf,
    pub fd: OwnedFd,
    /// What to put back when it is left, if entries were made.
    mtime: Timespec,
    pub is_changed: bool,
    /// Set-group-id: what is made here gets its group, not ours.
    pub gives_group: bool,
}

impl Folder {
    /// A name in this folder.
    pub fn place(&self, name: &OsStr, path: &Path) -> Place<'_> {
        Place::borrowed(self.fd.as_fd(), name, path)
    }

    fn leave(self) -> Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        let times = Timestamps { last_access: self.mtime, last_modification: self.mtime };
        rustix::fs::futimens(&self.fd, &times).during("set the time of", &self.path)
    }
}

/// The current folder below a root, and the folders that were made without an entry of their own.
pub(super) struct Folders<'root> {
    root: &'root Root,
    is_layer: bool,
    current: Option<Folder>,
    implicit: BTreeSet<PathBuf>,
    implicit_bytes: usize,
}

impl<'root> Folders<'root> {
    /// The root itself counts as implicit until an entry describes it.
    pub fn new(root: &'root Root, is_layer: bool) -> Self {
        Self { root, is_layer, current: None, implicit: BTreeSet::from([PathBuf::new()]), implicit_bytes: 0 }
    }

    /// Makes the folder that `path` is in the current one.
    pub fn enter_parent(&mut self, path: &Path) -> Result<&mut Folder> {
        let path = path.parent().unwrap_or(Path::new(""));
        let current = match self.current.take() {
            Some(folder) if folder.path == path => folder,
            other => {
                other.map_or(Ok(()), Folder::leave)?;
                self.open(path)?
            }
        };
        Ok(self.current.insert(current))
    }

    /// Puts the time of the current folder back.
    pub fn leave(&mut self) -> Result<()> {
        self.current.take().map_or(Ok(()), Folder::leave)
    }

    /// An entry describes this folder.
    pub fn forget_implicit(&mut self, path: &Path) {
        if self.implicit.remove(path) {
            self.implicit_bytes -= path.as_os_str().len();
        }
    }

    /// Leaves the current folder; returns the implicit ones, outermost first.
    pub fn finish(mut self) -> Result<Vec<PathBuf>> {
        self.leave()?;
        Ok(self.implicit.into_iter().collect())
    }

    fn open(&mut self, path: &Path) -> Result<Folder> {
        let fd = match self.root.open_dir(path) {
            Ok(folder) => folder.into(),
            Err(error) if is_missing(&error) => self.make(path)?,
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&fd).during("examine", path)?;
        Ok(Folder {
            path: path.to_owned(),
            fd,
            mtime: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            },
            is_changed: false,
            gives_group: stat.st_mode & GROUP_BIT != 0,
        })
    }

    /// Makes the missing folders on the way to `path`.
    fn make(&mut self, path: &Path) -> Result<OwnedFd> {
        let Self { root, is_layer, implicit, implicit_bytes, .. } = self;
        let (fd, _) = root.walk(path, &mut |place| {
            make_implicit(place, *is_layer)?;
            *implicit_bytes += place.path().as_os_str().len();
            implicit.insert(place.path().to_owned());
            match *implicit_bytes > MAX_IMPLICIT_BYTES {
                true => Err(Errno::NOMEM)
                    .during("remember yet another folder that no entry describes,", place.path()),
                false => Ok(()),
            }
        })?;
        Ok(fd)
    }
}

/// Makes a folder that no entry has described so far; its parent keeps its time.
fn make_implicit(place: &Place<'_>, is_layer: bool) -> Result<()> {
    let parent = Place::borrowed(place.folder(), OsStr::new("."), place.path());
    let above = parent.metadata()?;
    let is_whited_out = is_layer && place.metadata()?.is_some_and(|found| found.is_whiteout());
    if is_whited_out {
        place.remove()?;
    }
    place.create_dir(IMPLICIT_MODE)?;
    place.set_mode(IMPLICIT_MODE)?;
    if is_whited_out {
        place.set_xattr(OsStr::new(OPAQUE_XATTR), b"y")?;
    }
    let Some(above) = above else { return Ok(()) };
    if is_layer {
        if above.mode & GROUP_BIT != 0 {
            // The group of the folder above says nothing about one that nobody has described.
            place.set_owner(geteuid().as_raw(), getegid().as_raw())?;
        }
        place.set_mtime((0, 0))?; // the time of unpacking is not the layer's
    }
    parent.set_mtime(above.mtime)
}
