//! One name in one open folder.
//!
//! Invariant: no operation follows a link that the name is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat,
    lgetxattr, linkat, llistxattr, lremovexattr, lsetxattr, mkdirat, mknodat, openat, readlinkat,
    renameat_with, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::{IoContext, Result, tree};

/// The largest value of an extended attribute that Linux stores (`XATTR_SIZE_MAX`), also of their list of names.
const MAX_XATTR_BYTES: usize = 64 * 1024;
/// The unit of `st_blocks`, whatever the file system's own blocks are (stat(3type)).
const STAT_BLOCK_BYTES: u64 = 512;

/// What a name is: kind, owner, mode, times and identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Regular file, folder, link ...
    pub kind: FileType,
    /// Permissions with set-user-id, set-group-id and sticky: the low 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of a regular file.
    pub size_bytes: u64,
    /// What it takes on disk.
    pub allocated_bytes: u64,
    /// Time of the last change of content: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Of a device node: its number.
    pub device: u64,
    /// How many names the inode has.
    pub links: u64,
    /// Which inode it is: file system and number.
    pub inode: (u64, u64),
}

impl Metadata {
    pub(super) fn new(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            allocated_bytes: u64::try_from(stat.st_blocks).unwrap_or_default() * STAT_BLOCK_BYTES,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default()),
            device: stat.st_rdev,
            links: stat.st_nlink,
            inode: (stat.st_dev, stat.st_ino),
        }
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Whether it is what overlayfs puts in place of a removed name: a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.device == 0
    }
}

#[derive(Debug)]
enum Folder<'fd> {
    Borrowed(BorrowedFd<'fd>),
    Owned(OwnedFd),
}

impl AsFd for Folder<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Borrowed(fd) => *fd,
            Self::Owned(fd) => fd.as_fd(),
        }
    }
}

/// One name in one open folder; it need not exist yet.
#[derive(Debug)]
pub struct Place<'fd> {
    folder: Folder<'fd>,
    name: OsString,
    path: PathBuf,
}

impl<'fd> Place<'fd> {
    /// `name` (one component) in `folder`; `path` is what messages call it.
    pub fn borrowed(folder: BorrowedFd<'fd>, name: &OsStr, path: &Path) -> Self {
        Self { folder: Folder::Borrowed(folder), name: name.to_owned(), path: path.to_owned() }
    }

    pub(super) fn owned(folder: OwnedFd, name: &OsStr, path: &Path) -> Self {
        Self { folder: Folder::Owned(folder), name: name.to_owned(), path: path.to_owned() }
    }

    /// The path it was found by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name in its folder; `.` for the root itself.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The open folder that the name is in.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// What is there; `None` when nothing is.
    pub fn metadata(&self) -> Result<Option<Metadata>> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Metadata::new(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).during("examine", &self.path),
        }
    }

    /// Opens a regular file to read it; anything else is refused.
    pub fn open_file(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            File::from(openat(&self.folder, &self.name, flags, Mode::empty()).during("open", &self.path)?);
        match file.metadata().during("examine", &self.path)?.is_file() {
            true => Ok(file),
            false => Err(Errno::INVAL).during("read as a regular file", &self.path),
        }
    }

    /// The target of a link.
    pub fn read_link(&self) -> Result<PathBuf> {
        let target = readlinkat(&self.folder, &self.name, Vec::new()).during("read the link", &self.path)?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Makes a new file, open to write, with exactly `mode` (the umask does not apply).
    pub fn create_file(&self, mode: u32) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            openat(&self.folder, &self.name, flags, Mode::RUSR | Mode::WUSR).during("create", &self.path)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).during("set the mode of", &self.path)?;
        Ok(File::from(fd))
    }

    /// Makes a folder with `mode` less the umask.
    pub fn create_dir(&self, mode: u32) -> Result<()> {
        mkdirat(&self.folder, &self.name, Mode::from_raw_mode(mode)).during("create the folder", &self.path)
    }

    /// Makes a link that says `target`.
    pub fn create_symlink(&self, target: impl AsRef<Path>) -> Result<()> {
        symlinkat(target.as_ref(), &self.folder, &self.name).during("create the link", &self.path)
    }

    /// Makes this another name of what is at `existing`; a link there is itself linked, not followed.
    pub fn create_hardlink(&self, existing: &Place<'_>) -> Result<()> {
        linkat(&existing.folder, &existing.name, &self.folder, &self.name, AtFlags::empty())
            .during("create the hardlink", &self.path)
    }

    /// Makes a FIFO or a device node with `mode` less the umask.
    pub fn create_node(&self, kind: FileType, mode: u32, device: u64) -> Result<()> {
        mknodat(&self.folder, &self.name, kind, Mode::from_raw_mode(mode), device)
            .during("create the device node", &self.path)
    }

    /// Renames to `new`, in place of what is there when `replace` is set.
    pub fn rename(&self, new: &Place<'_>, replace: bool) -> Result<()> {
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(&self.folder, &self.name, &new.folder, &new.name, flags).during("rename to", &new.path)
    }

    /// Removes a file, a link, a node, or an empty folder; what is absent is removed already.
    pub fn remove(&self) -> Result<()> {
        match unlinkat(&self.folder, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                unlinkat(&self.folder, &self.name, AtFlags::REMOVEDIR).during("remove", &self.path)
            }
            Err(error) => Err(error).during("remove", &self.path),
        }
    }

    /// Removes whatever is there with all that is below it; what is absent is removed already.
    pub fn remove_all(&self) -> Result<()> {
        tree::remove_at(self.folder.as_fd(), &self.name, &self.path)
    }

    /// Sets owner and group.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<()> {
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL).during("set the owner of", &self.path); // to the kernel: leave as it is
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(&self.folder, &self.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .during("set the owner of", &self.path)
    }

    /// Sets the low 12 bits of the mode; a link has none, and is an error.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        chmod_no_follow(self.folder.as_fd(), &self.name, mode).during("set the mode of", &self.path)
    }

    /// Sets the times of last access and change.
    pub fn set_mtime(&self, mtime: (i64, u32)) -> Result<()> {
        utimensat(&self.folder, &self.name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)
            .during("set the time of", &self.path)
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, name: &OsStr, value: &[u8]) -> Result<()> {
        lsetxattr(self.through_proc(), name, value, XattrFlags::empty())
            .during("set an extended attribute of", &self.path)
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, name: &OsStr) -> Result<()> {
        lremovexattr(self.through_proc(), name).during("remove an extended attribute of", &self.path)
    }

    /// The value of an extended attribute; `None` when it has none of that name.
    pub fn xattr(&self, name: &OsStr) -> Result<Option<Vec<u8>>> {
        let mut value = vec![0; MAX_XATTR_BYTES];
        match lgetxattr(self.through_proc(), name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error).during("read an extended attribute of", &self.path),
        }
    }

    /// The names of the extended attributes, sorted.
    pub fn xattr_names(&self) -> Result<Vec<OsString>> {
        let mut list = [0; MAX_XATTR_BYTES];
        let length = match llistxattr(self.through_proc(), &mut list[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            length => length.during("list the extended attributes of", &self.path)?,
        };
        let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut names: Vec<OsString> = names.map(|name| OsStr::from_bytes(name).to_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// The kernel has no `setxattrat` before 6.13; the entry of the open folder in procfs stands in for it.
    fn through_proc(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.folder.as_fd().as_raw_fd().to_string()).join(&self.name)
    }
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// `fchmodat2` (Linux 6.6): the older call follows links.
fn chmod_no_follow(folder: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<()> {
    let name = std::ffi::CString::new(name.as_bytes())?;
    // SAFETY: the name is a C string that outlives the call, and the folder is open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fchmodat2,
            folder.as_raw_fd(),
            name.as_ptr(),
            mode & 0o7777,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
