//! Paths that an image, an archive or a container chose, resolved below a folder that is held open.
//!
//! Invariant: nothing outside the folder is ever reached, whatever links and `..` the path or the tree holds, also
//! while another process changes the tree: a path is resolved by the kernel (`openat2`, `RESOLVE_IN_ROOT`) or one
//! name at a time, and what is then done to its last name (a [`Place`]) does not follow a link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::{IoContext, Result};

mod place;

pub use place::{Metadata, Place};
pub use rustix::fs::FileType;

/// As many links are followed in one path as the kernel would.
const MAX_LINKS: usize = 40;
/// `openat2` asks to try again when a rename elsewhere raced with a `..`.
const MAX_RACES: usize = 128;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A folder held open as the root of every path that is given to it.
///
/// `/` at the start of a path, or of the target of a link on the way, means this folder.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    name: PathBuf,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Root> for OwnedFd {
    fn from(root: Root) -> Self {
        root.fd
    }
}

impl Root {
    /// Opens a folder of the host. `path` is trusted.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = openat(CWD, path, FOLDER, Mode::empty()).during("open the folder", path)?;
        Ok(Self { fd, name: path.to_owned() })
    }

    /// Takes an open folder, such as the root of a detached mount; `name` is what messages call it.
    pub fn from_fd(fd: OwnedFd, name: impl Into<PathBuf>) -> Self {
        Self { fd, name: name.into() }
    }

    /// What messages call this folder.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Another handle of the same folder.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().during("duplicate the handle of", &self.name)?;
        Ok(Self { fd, name: self.name.clone() })
    }

    /// The place of `path`: its folder is resolved (links followed), its last name is not.
    ///
    /// An empty path and `/` are the root itself. A path that ends in `..` is refused.
    pub fn at(&self, path: impl AsRef<Path>) -> Result<Place<'_>> {
        let path = path.as_ref();
        let Some(name) = path.file_name() else {
            return match path.components().all(|part| matches!(part, Component::RootDir | Component::CurDir))
            {
                true => Ok(Place::borrowed(self.fd.as_fd(), OsStr::new("."), path)),
                false => Err(Errno::INVAL).during("resolve", path),
            };
        };
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                Ok(Place::owned(self.resolve(parent, FOLDER)?, name, path))
            }
            _ => Ok(Place::borrowed(self.fd.as_fd(), name, path)),
        }
    }

    /// Opens a folder below as a root of its own; links are followed.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<Root> {
        let path = path.as_ref();
        Ok(Root { fd: self.resolve(path, FOLDER)?, name: shown(path) })
    }

    /// Opens whatever `path` leads to, links followed, as a place only (`O_PATH`): nothing of it can be read or written
    /// through the descriptor, it can be mounted.
    pub fn open_path(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.resolve(path.as_ref(), OFlags::PATH | OFlags::CLOEXEC)
    }

    /// Opens a regular file to read it; links are followed, anything but a regular file is refused.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_regular(path.as_ref(), OFlags::empty())
    }

    /// Reads a file that has a fixed meaning, such as `/etc/passwd`: no link as the last name, regular files only.
    ///
    /// `None` when it does not exist; longer than `max_bytes` is an error.
    pub fn read_small(&self, path: impl AsRef<Path>, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let file = match self.open_regular(path, OFlags::NOFOLLOW) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).during("read", path)?;
        if bytes.len() as u64 > max_bytes {
            return Err(Errno::FBIG).during("read", path);
        }
        Ok(Some(bytes))
    }

    /// What `path` leads to, links followed; `None` when it does not exist.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Option<Metadata>> {
        let path = path.as_ref();
        match self.resolve(path, OFlags::PATH | OFlags::CLOEXEC) {
            Ok(fd) => Ok(Some(Metadata::new(&fstat(fd).during("examine", path)?))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder and its missing parents with `mode` (less the umask); links on the way are followed, also
    /// those whose target is missing. Returns the folders that were made, outermost first.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        self.walk(path.as_ref(), &mut |place| {
            place.create_dir(mode)?;
            made.push(place.path().to_owned());
            Ok(())
        })?;
        Ok(made)
    }

    /// The path of a folder without links and `..`, relative to this root; an error when it does not exist.
    pub fn canonical_dir(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        Ok(self
            .walk(path.as_ref(), &mut |place| Err(Errno::NOENT).during("find the folder", place.path()))?
            .1)
    }

    /// Goes to a folder one name at a time. Where a name is missing or no folder, `missing` makes one of it or says
    /// why not. Returns the folder, open to read, and its path without links.
    pub fn walk(
        &self,
        path: &Path,
        missing: &mut dyn FnMut(&Place<'_>) -> Result<()>,
    ) -> Result<(OwnedFd, PathBuf)> {
        let mut walk = Walk { root: self, here: self.reopen(Path::new(""))?, path: PathBuf::new(), links: 0 };
        let mut pending = Vec::new();
        push_reversed(&mut pending, path);
        while let Some(name) = pending.pop() {
            walk.enter(name, &mut pending, missing)?;
        }
        Ok((walk.here, walk.path))
    }

    fn reopen(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, FOLDER)
    }

    fn open_regular(&self, path: &Path, flags: OFlags) -> Result<File> {
        // Not blocking: a FIFO or a device must not hold us up before it is refused.
        let fd = self.resolve(path, flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC)?;
        let kind = FileType::from_raw_mode(fstat(&fd).during("examine", path)?.st_mode);
        match kind {
            FileType::RegularFile => Ok(File::from(fd)),
            FileType::Directory => Err(Errno::ISDIR).during("read", path),
            _ => Err(Errno::INVAL).during("read as a regular file", path),
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MAX_RACES {
            match openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result.during("open", path),
            }
        }
        Err(Errno::AGAIN).during("open", path)
    }
}

/// A walk to a folder: where it is, and the links it has followed.
struct Walk<'root> {
    root: &'root Root,
    here: OwnedFd,
    path: PathBuf,
    links: usize,
}

impl Walk<'_> {
    fn enter(
        &mut self,
        name: OsString,
        pending: &mut Vec<OsString>,
        missing: &mut dyn FnMut(&Place<'_>) -> Result<()>,
    ) -> Result<()> {
        if name == ".." {
            self.path.pop();
            self.here = self.root.reopen(&self.path)?;
            return Ok(());
        }
        let path = self.path.join(&name);
        let next = match openat(&self.here, &name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {
                if let Ok(target) = readlinkat(&self.here, &name, Vec::new()) {
                    return self.follow(Path::new(OsStr::from_bytes(target.as_bytes())), pending);
                }
                missing(&Place::borrowed(self.here.as_fd(), &name, &path))?;
                openat(&self.here, &name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
                    .during("open the folder", &path)?
            }
            Err(error) => return Err(error).during("open the folder", &path),
        };
        (self.here, self.path) = (next, path);
        Ok(())
    }

    fn follow(&mut self, target: &Path, pending: &mut Vec<OsString>) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP).during("resolve", &self.path);
        }
        if target.is_absolute() {
            self.path.clear();
            self.here = self.root.reopen(&self.path)?;
        }
        push_reversed(pending, target);
        Ok(())
    }
}

/// Puts the names of `path` on a stack, the first on top.
fn push_reversed(stack: &mut Vec<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => stack.push(name.to_owned()),
            Component::ParentDir => stack.push("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

/// A path within a root as messages show it.
fn shown(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

#[cfg(test)]
mod tests;
