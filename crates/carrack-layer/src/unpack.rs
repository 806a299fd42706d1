//! Entries of an archive become files below a root; `apply` and `extract` share it.
//!
//! Invariant: an entry is made with `O_EXCL` semantics in a folder that is held open, so that nothing which an earlier
//! entry left there (a link above all) is ever written through; a later entry replaces an earlier one of its name.
//! For a small file this takes open, write, utimensat and close, and a chown when it does not belong to root.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::rooted::{FileType, Place, Root};
use carrack_sys::tree::Usage;
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::path::{checked_path, refused};
use crate::tar::{Entry, EntryKind, Reader, Segment};
use crate::{Error, OPAQUE_XATTR, Result, xattr};

mod folders;
mod links;

pub(crate) use folders::Folder;
use folders::Folders;
pub use links::LinksBelow;

const SPECIAL_BITS: u32 = 0o7000;
const GROUP_BIT: u32 = 0o2000;

/// What differs between a layer and a plain archive.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// The target is a layer of its own: a folder in place of anything else hides the folders of lower layers.
    pub is_layer: bool,
    /// Owner of everything, in place of what the archive says.
    pub chown: Option<(u32, u32)>,
}

/// Makes files below a root; the folder of the last entry stays open.
pub(crate) struct Unpacker<'root> {
    root: &'root Root,
    folders: Folders<'root>,
    maker: Maker,
    links_below: LinksBelow,
    usage: Usage,
}

/// What an unpacker has made.
pub(crate) struct Made {
    /// The folders that no entry described, outermost first.
    pub implicit_dirs: Vec<PathBuf>,
    pub links_below: LinksBelow,
    /// What all entries took.
    pub usage: Usage,
}

impl<'root> Unpacker<'root> {
    pub fn new(root: &'root Root, rules: Rules) -> Self {
        let creator = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let maker = Maker { rules, creator, umask: umask() };
        Self {
            root,
            folders: Folders::new(root, rules.is_layer),
            maker,
            links_below: LinksBelow::default(),
            usage: Usage::default(),
        }
    }

    /// Makes what the entry describes at `path`, which is a [`checked_path`]; its data come from `reader`.
    pub fn unpack(&mut self, path: &Path, entry: &Entry, reader: &mut Reader<impl BufRead>) -> Result<()> {
        let Some(name) = path.file_name() else { return self.unpack_root(entry) };
        if entry.kind == EntryKind::Directory {
            self.folders.forget_implicit(path);
        }
        let Self { root, folders, maker, links_below, usage } = self;
        usage.size_bytes = usage.size_bytes.saturating_add(entry.size_bytes); // sparse files can say anything
        usage.inodes += u64::from(!matches!(entry.kind, EntryKind::Hardlink { .. }));
        let folder = folders.enter_parent(path).map_err(unpacking(path))?;
        folder.is_changed = true;
        if entry.kind == EntryKind::File {
            let file = maker.create_file(folder, name, path, entry).map_err(unpacking(path))?;
            return maker.fill_file(folder, file, (path, entry), reader);
        }
        let place = folder.place(name, path);
        let made = match &entry.kind {
            EntryKind::Hardlink { target } => {
                let target = checked_path(target)?;
                return maker.make_hardlink(root, &place, &target, links_below);
            }
            EntryKind::Directory => maker.make_dir(folder, &place, entry),
            _ => maker.make_node(folder, &place, entry),
        };
        made.map_err(unpacking(path))
    }

    /// Enters the folder that `path` is in, as [`Unpacker::unpack`] does.
    pub fn enter_parent(&mut self, path: &Path) -> Result<&mut Folder> {
        self.folders.enter_parent(path).map_err(unpacking(path))
    }

    /// Puts back what is still to be put back.
    pub fn finish(self) -> Result<Made> {
        let Self { links_below, usage, folders, .. } = self;
        Ok(Made { implicit_dirs: folders.finish()?, links_below, usage })
    }

    fn unpack_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(refused(&entry.path, "the root of an archive can only be a folder"));
        }
        self.folders.leave()?;
        self.folders.forget_implicit(Path::new(""));
        let place = self.root.at("")?;
        Ok(self.maker.set_metadata(&place, entry, true)?)
    }
}

/// Makes single entries.
struct Maker {
    rules: Rules,
    /// Who new files belong to without a chown.
    creator: (u32, u32),
    umask: u32,
}

impl Maker {
    fn create_file(
        &self,
        folder: &Folder,
        name: &OsStr,
        path: &Path,
        entry: &Entry,
    ) -> carrack_sys::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&folder.fd, name, flags, Mode::from_raw_mode(entry.mode & 0o777));
        match open() {
            Err(Errno::EXIST) => {
                folder.place(name, path).remove_all()?;
                open().during("create", path)
            }
            file => file.during("create", path),
        }
    }

    fn fill_file(
        &self,
        folder: &Folder,
        fd: OwnedFd,
        (path, entry): (&Path, &Entry),
        reader: &mut Reader<impl BufRead>,
    ) -> Result<()> {
        let mut file = File::from(fd);
        match reader.data().segments.map(<[Segment]>::to_vec) {
            Some(segments) => fill_sparse(&mut file, (path, entry), &segments, reader)?,
            None => loop {
                let chunk = reader.next_chunk()?;
                if chunk.is_empty() {
                    break;
                }
                file.write_all(chunk).during("write", path).map_err(unpacking(path))?;
            },
        }
        self.finish_file(folder, &file, entry).during("set the metadata of", path).map_err(unpacking(path))
    }

    fn finish_file(&self, folder: &Folder, file: &File, entry: &Entry) -> rustix::io::Result<()> {
        let (uid, gid) = self.owner(entry);
        if (uid, gid) != self.creator || folder.gives_group {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        // Only now: a change of owner or content takes these bits away.
        if entry.mode & (SPECIAL_BITS | self.umask) != 0 {
            rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
        }
        for (name, value) in passing_xattrs(entry) {
            ignore_unsupported(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()))?;
        }
        rustix::fs::futimens(file, &timestamps(entry.mtime))
    }

    fn make_dir(&self, folder: &Folder, place: &Place<'_>, entry: &Entry) -> carrack_sys::Result<()> {
        let mut is_fresh = true;
        if let Err(error) = place.create_dir(entry.mode & 0o777) {
            match place.metadata()? {
                Some(found) if error.is_already_exists() && found.is_dir() => is_fresh = false,
                Some(_) if error.is_already_exists() => self.replace_by_dir(place, entry)?,
                _ => return Err(error),
            }
        }
        let is_exact = is_fresh && !folder.gives_group && entry.mode & (SPECIAL_BITS | self.umask) == 0;
        self.set_metadata(place, entry, !is_exact)
    }

    /// In a layer, what was there (a file, a whiteout) hid the folders below, and so must the new folder.
    fn replace_by_dir(&self, place: &Place<'_>, entry: &Entry) -> carrack_sys::Result<()> {
        place.remove()?;
        place.create_dir(entry.mode & 0o777)?;
        if self.rules.is_layer { place.set_xattr(OsStr::new(OPAQUE_XATTR), b"y") } else { Ok(()) }
    }

    fn make_hardlink(
        &self,
        root: &Root,
        place: &Place<'_>,
        target: &Path,
        links: &mut LinksBelow,
    ) -> Result<()> {
        let existing = match root.at(target) {
            Err(error) if is_missing(&error) => return self.make_link_below(root, place, target, links),
            existing => existing?,
        };
        let Some(found) = existing.metadata()? else {
            return self.make_link_below(root, place, target, links);
        };
        if self.rules.is_layer && found.is_whiteout() {
            return Err(absent(place, target));
        }
        if found.is_dir() {
            let reason = format!("a hardlink to {}, which is a folder", target.display());
            return Err(refused(place.path(), reason));
        }
        if place.metadata()?.is_some_and(|own| own.inode == found.inode) {
            return Ok(());
        }
        make(place, || place.create_hardlink(&existing)).map_err(unpacking(place.path()))
    }

    /// Makes what stands for a hardlink to a file of a lower layer.
    fn make_link_below(
        &self,
        root: &Root,
        place: &Place<'_>,
        target: &Path,
        links: &mut LinksBelow,
    ) -> Result<()> {
        let below = if self.rules.is_layer { links::path_below(root, target)? } else { None };
        let below = below.ok_or_else(|| absent(place, target))?;
        let folder = place.path().parent().unwrap_or(Path::new(""));
        if below.parent() == Some(&root.canonical_dir(folder)?) && below.file_name() == Some(place.name()) {
            return Err(absent(place, target));
        }
        make(place, || place.create_node(FileType::Socket, 0o600, 0)).map_err(unpacking(place.path()))?;
        links.add(place, below)
    }

    fn make_node(&self, folder: &Folder, place: &Place<'_>, entry: &Entry) -> carrack_sys::Result<()> {
        let device = |major, minor| rustix::fs::makedev(major, minor);
        let (kind, number) = match &entry.kind {
            EntryKind::Symlink { target } => {
                make(place, || place.create_symlink(target))?;
                return self.set_metadata(place, entry, folder.gives_group);
            }
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                // To overlayfs this is a whiteout; only a `.wh.` entry may say that.
                return Err(Errno::INVAL).during("create the device node 0:0", place.path());
            }
            EntryKind::CharDevice { major, minor } => (FileType::CharacterDevice, device(*major, *minor)),
            EntryKind::BlockDevice { major, minor } => (FileType::BlockDevice, device(*major, *minor)),
            _ => (FileType::Fifo, 0),
        };
        make(place, || place.create_node(kind, entry.mode & 0o777, number))?;
        let is_exact = !folder.gives_group && entry.mode & (SPECIAL_BITS | self.umask) == 0;
        self.set_metadata(place, entry, !is_exact)
    }

    /// Sets owner, mode, attributes and time, in the order in which none undoes another.
    fn set_metadata(&self, place: &Place<'_>, entry: &Entry, is_unknown: bool) -> carrack_sys::Result<()> {
        let (uid, gid) = self.owner(entry);
        if (uid, gid) != self.creator || is_unknown {
            place.set_owner(uid, gid)?;
        }
        let is_symlink = matches!(entry.kind, EntryKind::Symlink { .. });
        if is_unknown && !is_symlink {
            place.set_mode(entry.mode)?;
        }
        for (name, value) in passing_xattrs(entry).filter(|_| !is_symlink) {
            match place.set_xattr(name, value) {
                Err(error) if error.source.kind() == io::ErrorKind::Unsupported => {}
                result => result?,
            }
        }
        place.set_mtime(entry.mtime)
    }

    fn owner(&self, entry: &Entry) -> (u32, u32) {
        self.rules.chown.unwrap_or((entry.uid, entry.gid))
    }
}

/// Writes the parts of a file that have data; what is between them stays a hole.
fn fill_sparse(
    file: &mut File,
    (path, entry): (&Path, &Entry),
    segments: &[Segment],
    reader: &mut Reader<impl BufRead>,
) -> Result<()> {
    for segment in segments {
        file.seek(SeekFrom::Start(segment.offset)).during("seek in", path).map_err(unpacking(path))?;
        let copied = io::copy(&mut reader.take(segment.size_bytes), file);
        copied.during("write", path).map_err(unpacking(path))?;
    }
    file.set_len(entry.size_bytes).during("set the length of", path).map_err(unpacking(path))
}

fn absent(place: &Place<'_>, target: &Path) -> Error {
    refused(
        place.path(),
        format!("a hardlink to {}, which is not in this archive before it", target.display()),
    )
}

/// Makes a name; what is there goes away first.
fn make(place: &Place<'_>, create: impl Fn() -> carrack_sys::Result<()>) -> carrack_sys::Result<()> {
    match create() {
        Err(error) if error.is_already_exists() => {
            place.remove_all()?;
            create()
        }
        result => result,
    }
}

fn passing_xattrs(entry: &Entry) -> impl Iterator<Item = (&OsStr, &[u8])> {
    let xattrs = entry.xattrs.iter().filter(|(name, _)| xattr::is_layer_xattr(name));
    xattrs.map(|(name, value)| (name.as_os_str(), value.as_slice()))
}

/// Not every file system has attributes, and no file needs them to be what it is.
fn ignore_unsupported(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    if result == Err(Errno::OPNOTSUPP) { Ok(()) } else { result }
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

pub(crate) fn unpacking(path: &Path) -> impl FnOnce(carrack_sys::Error) -> Error {
    move |source| Error::Unpack { path: path.to_owned(), source }
}

/// Whether a name on the way does not exist, or is no folder.
fn is_missing(error: &carrack_sys::Error) -> bool {
    matches!(error.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The bits that the kernel takes from the mode of new files. Where it cannot be told, every mode is set explicitly.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777)
}
