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

/// As many folders are held open on the way down. In a removal, deeper ones are first moved up to the top.
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
    open_below_with(folder, name, ResolveFlags::NO_XDEV)
}

fn open_below_with(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    further: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | further;
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

/// Calls `visit` for each name below `root`, a folder right before what is in it, the names of a folder sorted.
///
/// `visit` says for a folder whether to go into it.
pub fn walk<E: From<crate::Error>>(
    root: &Root,
    visit: impl FnMut(&Place<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    walk_as(root, Mounts::Stay, visit)
}

/// [`walk`] of a tree that somebody else changes meanwhile, with the mounts below: what is gone when it is looked at is
/// left out, as if it had never been.
pub fn walk_live<E: From<crate::Error>>(
    root: &Root,
    visit: impl FnMut(&Place<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    walk_as(root, Mounts::Cross, visit)
}

/// What a walk does with mounts below where it began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounts {
    Stay,
    Cross,
}

fn walk_as<E: From<crate::Error>>(
    root: &Root,
    mounts: Mounts,
    mut visit: impl FnMut(&Place<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let base = Rc::new(root.try_clone()?);
    let top = Location { base, below: PathBuf::from("."), path: PathBuf::new(), mounts };
    let mut levels = vec![Level::open(top)?];
    while let Some(level) = levels.last_mut() {
        let Some((name, kind)) = level.names.next() else {
            levels.pop();
            continue;
        };
        let folder = match level.folder() {
            Err(error) if mounts == Mounts::Cross && is_replaced(&error) => {
                levels.pop();
                continue;
            }
            folder => folder?,
        };
        let path = level.location.path.join(&name);
        let place = Place::borrowed(folder.as_fd(), &name, &path);
        let descend = visit(&place)?;
        let is_folder = match kind {
            FileType::Unknown => place.metadata()?.is_some_and(|metadata| metadata.is_dir()),
            kind => kind == FileType::Directory,
        };
        if descend && is_folder {
            let below = level.location.child(&folder, &name, path)?;
            if let Some(far_above) = levels.len().checked_sub(MAX_DEPTH) {
                levels[far_above].folder = None;
            }
            match Level::open(below) {
                Err(error) if mounts == Mounts::Cross && is_replaced(&error) => {}
                level => levels.push(level?),
            }
        }
    }
    Ok(())
}

/// Whether a folder is no longer where it was.
fn is_replaced(error: &crate::Error) -> bool {
    let code = error.source.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// How to open a folder of a walk: `below` an open one, so that no path gets too long for the kernel.
struct Location {
    base: Rc<Root>,
    below: PathBuf,
    path: PathBuf,
    mounts: Mounts,
}

impl Location {
    fn open(&self) -> Result<Rc<OwnedFd>> {
        let further = match self.mounts {
            Mounts::Stay => ResolveFlags::NO_XDEV,
            Mounts::Cross => ResolveFlags::empty(),
        };
        open_below_with(self.base.as_fd(), self.below.as_os_str(), further)
            .map(Rc::new)
            .during("open the folder", &self.path)
    }

    fn child(&self, folder: &OwnedFd, name: &OsStr, path: PathBuf) -> Result<Self> {
        let mounts = self.mounts;
        if self.below.as_os_str().len() <= MAX_PIECE_BYTES {
            return Ok(Self { base: self.base.clone(), below: self.below.join(name), path, mounts });
        }
        let folder = folder.try_clone().during("duplicate the handle of", &self.path)?;
        Ok(Self { base: Rc::new(Root::from_fd(folder, &self.path)), below: name.into(), path, mounts })
    }
}

/// A folder on the way to where a walk is. Those far above are closed, and opened again on the way back.
struct Level {
    location: Location,
    folder: Option<Rc<OwnedFd>>,
    names: std::vec::IntoIter<(OsString, FileType)>,
}

impl Level {
    fn open(location: Location) -> Result<Self> {
        let folder = location.open()?;
        let names = sorted_names(&folder).during("list the folder", &location.path)?.into_iter();
        Ok(Self { location, folder: Some(folder), names })
    }

    fn folder(&mut self) -> Result<Rc<OwnedFd>> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => self.location.open()?,
        };
        Ok(self.folder.insert(folder).clone())
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

/// What a file, or a folder with all below it, takes on disk: what `du` says. What is absent takes nothing.
pub fn allocated_bytes(path: &Path) -> Result<u64> {
    let top = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        metadata => metadata.during("examine", path)?,
    };
    let mut bytes = std::os::unix::fs::MetadataExt::blocks(&top) * 512;
    if !top.is_dir() {
        return Ok(bytes);
    }
    let mut seen = HashSet::new();
    walk(&Root::open(path)?, |place| {
        let Some(metadata) = place.metadata()? else { return Ok(false) };
        if metadata.is_dir() || metadata.links == 1 || seen.insert(metadata.inode) {
            bytes += metadata.allocated_bytes;
        }
        Ok::<_, crate::Error>(true)
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
