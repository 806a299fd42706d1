//! Whole trees of files: removing, walking, measuring.
//!
//! Invariant: only folders that were opened without following a link are entered, and no mount is crossed, so that a
//! tree which somebody else filled leads nowhere; depth costs neither stack nor open files.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom, openat, openat2,
    renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::rooted::{Place, Root};
use crate::{IoContext, Result};

/// Folders deeper than this below the removed one are first moved up to it.
const MAX_DEPTH: usize = 64;
/// A path of a walk is opened in pieces of at most about this length (`PATH_MAX` is 4096).
const MAX_PIECE_BYTES: usize = 2048;
const LIST_BUFFER_BYTES: usize = 32 * 1024;

/// Removes a file, or a folder with all below it; what is absent is removed already. The parent path is trusted.
pub fn remove_tree(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL).during("remove", path);
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, parent, flags, Mode::empty()) {
        Ok(folder) => remove_at(folder.as_fd(), name, path),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).during("open the folder", parent),
    }
}

/// Removes `name` of an open folder with all below it; what is absent is removed already.
pub fn remove_at(folder: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error).during("remove", path),
    }
    let top = open_below(folder, name).during("open the folder", path)?;
    let mut removal = Removal { top: &top, moved_up: 0, buffer: Vec::with_capacity(LIST_BUFFER_BYTES) };
    loop {
        let before = removal.moved_up;
        removal.empty(top.as_fd(), 0).during("remove what is in", path)?;
        if removal.moved_up == before {
            break;
        }
        rustix::fs::seek(&top, SeekFrom::Start(0)).during("list the folder", path)?;
    }
    unlinkat(folder, name, AtFlags::REMOVEDIR).during("remove the folder", path)
}

fn open_below(folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(folder, name, flags, Mode::empty(), resolve)
}

struct Removal<'top> {
    top: &'top OwnedFd,
    moved_up: u64,
    buffer: Vec<u8>,
}

impl Removal<'_> {
    fn empty(&mut self, folder: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
        let mut folders = Vec::new();
        let mut listing = RawDir::new(folder, self.buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() != FileType::Directory {
                match unlinkat(folder, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(Errno::ISDIR | Errno::PERM) => {}
                    Err(error) => return Err(error),
                }
            }
            folders.push(name.to_owned());
        }
        for name in folders {
            let name = OsStr::from_bytes(name.to_bytes());
            if depth == MAX_DEPTH {
                self.move_up(folder, name)?;
                continue;
            }
            let below = open_below(folder, name)?;
            self.empty(below.as_fd(), depth + 1)?;
            drop(below);
            unlinkat(folder, name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
        loop {
            let above = format!(".moved-up.{}", self.moved_up);
            self.moved_up += 1;
            match renameat_with(folder, name, self.top, above, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                result => return result,
            }
        }
    }
}

/// Calls `visit` for each name below `root`, a folder always before what is in it.
///
/// The order depends on names only: all names of a folder, sorted, then its subfolders one after the other.
/// `visit` says for a folder whether to go into it.
pub fn walk<E: From<crate::Error>>(
    root: &Root,
    mut visit: impl FnMut(&Place<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let top = Pending { base: Rc::new(root.try_clone()?), below: PathBuf::from("."), path: PathBuf::new() };
    let mut pending = vec![top];
    while let Some(folder) = pending.pop() {
        let fd = folder.open()?;
        let mut subfolders = Vec::new();
        for (name, kind) in sorted_names(&fd).during("list the folder", &folder.path)? {
            let path = folder.path.join(&name);
            let place = Place::borrowed(fd.as_fd(), &name, &path);
            let descend = visit(&place)?;
            let is_folder = match kind {
                FileType::Unknown => place.metadata()?.is_some_and(|metadata| metadata.is_dir()),
                kind => kind == FileType::Directory,
            };
            if descend && is_folder {
                subfolders.push(name);
            }
        }
        if !subfolders.is_empty() {
            folder.push_subfolders(fd, subfolders, &mut pending);
        }
    }
    Ok(())
}

/// A folder still to be visited: `below` an open one, so that no path gets too long for the kernel.
struct Pending {
    base: Rc<Root>,
    below: PathBuf,
    path: PathBuf,
}

impl Pending {
    fn open(&self) -> Result<OwnedFd> {
        open_below(self.base.as_fd(), self.below.as_os_str()).during("open the folder", &self.path)
    }

    fn push_subfolders(self, fd: OwnedFd, names: Vec<OsString>, pending: &mut Vec<Pending>) {
        let (base, below) = match self.below.as_os_str().len() > MAX_PIECE_BYTES {
            true => (Rc::new(Root::from_fd(fd, &self.path)), PathBuf::new()),
            false => (self.base, self.below),
        };
        for name in names.into_iter().rev() {
            pending.push(Pending {
                base: base.clone(),
                below: below.join(&name),
                path: self.path.join(&name),
            });
        }
    }
}

fn sorted_names(folder: &OwnedFd) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    let mut buffer = [MaybeUninit::uninit(); LIST_BUFFER_BYTES];
    let mut listing = RawDir::new(folder, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    Ok(names)
}

/// Content and number of inodes of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Length of all regular files, which does not depend on the file system.
    pub size_bytes: u64,
    /// Number of inodes; one with several names counts once.
    pub inodes: u64,
}

/// Measures all below `root` (without `root` itself).
pub fn usage(root: &Root) -> Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    walk(root, |place| {
        let Some(metadata) = place.metadata()? else { return Ok(false) };
        if metadata.is_dir() || metadata.links == 1 || seen.insert(metadata.inode) {
            usage.size_bytes += if metadata.kind == FileType::RegularFile { metadata.size_bytes } else { 0 };
            usage.inodes += 1;
        }
        Ok::<_, crate::Error>(true)
    })?;
    Ok(usage)
}

#[cfg(test)]
mod tests;
