//! The files that a `COPY` takes, listed from the build context, a stage or an image.
//!
//! Invariant: a listing is in the order of names, folder before content, and never leaves its root: folders are
//! entered one name at a time without following links.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use carrack_sys::IoContext;
use carrack_sys::rooted::{FileType, Root};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, openat, readlinkat, statat};

use crate::ignore::{IgnoreList, Walked};
use crate::pattern::{Pattern, Positions, Scratch};
use crate::stat_cache::Identity;
use crate::{Error, Result};

pub(crate) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// No path is longer, and so no tree that can be named is deeper.
const MAX_DEPTH: usize = 2048;

/// A file system that files are taken from.
#[derive(Clone, Copy)]
pub(crate) struct Tree<'a> {
    pub(crate) root: &'a Root,
    /// What messages call it.
    pub(crate) place: &'a str,
    /// `.dockerignore`; only the build context has one.
    pub(crate) ignore: Option<&'a IgnoreList>,
    /// The build context: its files belong to root, whoever has them on the host, and it has no devices,
    /// and times that mean nothing.
    pub(crate) is_context: bool,
}

/// One file, folder or link.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Relative to the folder that was listed; empty for a single file.
    pub(crate) path: PathBuf,
    pub(crate) kind: EntryKind,
    /// The low 12 bits.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u64,
    pub(crate) identity: Identity,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Folder,
    Link(PathBuf),
    Node(FileType, u64),
}

impl Entry {
    /// What is at a name in an open folder; `None` for a socket, which no image can hold.
    pub(crate) fn at(folder: BorrowedFd<'_>, name: &OsStr, path: PathBuf) -> Result<Option<Self>> {
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).during("examine", &path)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).during("read the link", &path)?;
                EntryKind::Link(PathBuf::from(OsString::from_vec(target.into_bytes())))
            }
            FileType::Socket => return Ok(None),
            other => EntryKind::Node(other, stat.st_rdev),
        };
        let owner = (stat.st_uid, stat.st_gid);
        Ok(Some(Self {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            owner,
            links: stat.st_nlink,
            identity: identity(&stat),
        }))
    }
}

pub(crate) fn identity(stat: &Stat) -> Identity {
    let part = |nanoseconds| u32::try_from(nanoseconds).unwrap_or_default();
    Identity {
        device: stat.st_dev,
        inode: stat.st_ino,
        size_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
        mtime: (stat.st_mtime, part(stat.st_mtime_nsec)),
        ctime: (stat.st_ctime, part(stat.st_ctime_nsec)),
    }
}

/// What of a folder is listed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filter<'a> {
    /// `--exclude`, relative to the folder.
    pub(crate) excludes: Option<&'a IgnoreList>,
    /// `--parents`: only what matches, with the folders on the way.
    pub(crate) include: Option<&'a Pattern>,
}

/// How far the filters have come along the path of a folder.
struct Within {
    ignore: Option<Walked>,
    excludes: Option<Walked>,
    /// `None`: everything is included.
    include: Option<Positions>,
}

impl Tree<'_> {
    /// Whether `.dockerignore` excludes a canonical path.
    pub(crate) fn excludes(&self, path: &Path) -> bool {
        self.ignore.is_some_and(|ignore| ignore.excludes(&path.to_string_lossy()))
    }

    /// All that is below the folder at `base` (canonical), as far as the filters let it through.
    pub(crate) fn list(&self, base: &Path, filter: Filter<'_>) -> Result<Vec<Entry>> {
        let ignore = self
            .ignore
            .map(|ignore| base.iter().fold(ignore.begin(), |walked, name| ignore.enter(&walked, name).1));
        let within = Within {
            ignore,
            excludes: filter.excludes.map(IgnoreList::begin),
            include: filter.include.map(Pattern::begin),
        };
        let folder = self.root.open_dir(base)?;
        let mut listing = Listing { tree: self, filter, entries: Vec::new(), scratch: Scratch::default() };
        listing.folder(folder.as_fd(), Path::new(""), &within, 0)?;
        Ok(listing.entries)
    }
}

struct Listing<'a> {
    tree: &'a Tree<'a>,
    filter: Filter<'a>,
    entries: Vec<Entry>,
    scratch: Scratch,
}

impl Listing<'_> {
    /// Adds what is in an open folder.
    fn folder(&mut self, folder: BorrowedFd<'_>, path: &Path, within: &Within, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "folders nest deeper than {MAX_DEPTH} in {}",
                self.tree.place
            )));
        }
        for name in sorted_names(folder, path)? {
            let Some(entry) = Entry::at(folder, &name, path.join(&name))? else { continue };
            if entry.kind == EntryKind::Folder {
                self.subfolder(folder, entry, within, depth)?;
            } else if self.takes(&name, within) {
                self.entries.push(entry);
            }
        }
        Ok(())
    }

    /// Adds a folder and its content. A folder that is not itself taken is added when something in it is.
    fn subfolder(
        &mut self,
        folder: BorrowedFd<'_>,
        entry: Entry,
        within: &Within,
        depth: usize,
    ) -> Result<()> {
        let name = entry.path.file_name().unwrap_or_default();
        let (below, decision) = self.enter(name, within);
        if decision == Decision::Skip {
            return Ok(());
        }
        let fd = openat(folder, name, FOLDER, Mode::empty()).during("open the folder", &entry.path)?;
        let path = entry.path.clone();
        let at = self.entries.len();
        self.entries.push(entry);
        self.folder(fd.as_fd(), &path, &below, depth + 1)?;
        if decision == Decision::Search && self.entries.len() == at + 1 {
            self.entries.truncate(at);
        }
        Ok(())
    }

    fn takes(&mut self, name: &OsStr, within: &Within) -> bool {
        let scratch = &mut self.scratch;
        if let (Some(pattern), Some(positions)) = (self.filter.include, &within.include)
            && !pattern.matches_from(positions, &name.to_string_lossy(), scratch)
        {
            return false;
        }
        let mut excluded = |list: Option<&IgnoreList>, walked: &Option<Walked>| match (list, walked) {
            (Some(list), Some(walked)) => list.excludes_in(walked, name, scratch),
            _ => false,
        };
        !excluded(self.tree.ignore, &within.ignore) && !excluded(self.filter.excludes, &within.excludes)
    }

    fn enter(&self, name: &OsStr, within: &Within) -> (Within, Decision) {
        let mut decision = Decision::Take;
        let mut exclude = |list: Option<&IgnoreList>, walked: &Option<Walked>| {
            let (list, walked) = (list?, walked.as_ref()?);
            let (excluded, below) = list.enter(walked, name);
            if excluded {
                decision =
                    decision.min(if list.has_exceptions() { Decision::Search } else { Decision::Skip });
            }
            Some(below)
        };
        let ignore = exclude(self.tree.ignore, &within.ignore);
        let excludes = exclude(self.filter.excludes, &within.excludes);
        let mut include = within.include.clone();
        if let (Some(pattern), Some(positions)) = (self.filter.include, &mut include) {
            pattern.advance(positions, &name.to_string_lossy());
            if pattern.is_match(positions) {
                include = None; // and so is all that is in it
            } else {
                pattern.advance(positions, "/");
                let empty = positions.is_empty();
                decision = decision.min(if empty { Decision::Skip } else { Decision::Search });
            }
        }
        (Within { ignore, excludes, include }, decision)
    }
}

/// What is done with a folder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Decision {
    /// Nothing in it can be taken.
    Skip,
    /// It is taken if something in it is.
    Search,
    Take,
}

/// The names in an open folder, without `.` and `..`.
pub(crate) fn sorted_names(folder: BorrowedFd<'_>, path: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).during("read the folder", path)? {
        let entry = entry.during("read the folder", path)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The canonical path of what `path` leads to, links followed within the root; `None` when nothing is there.
pub(crate) fn resolve(root: &Root, path: &Path) -> Result<Option<PathBuf>> {
    // As many links as the kernel follows in one path.
    let mut path = path.to_owned();
    for _ in 0..40 {
        let found = match path.file_name() {
            None => return absent(root.canonical_dir(&path)),
            Some(name) => match absent(root.canonical_dir(path.parent().unwrap_or(Path::new(""))))? {
                Some(folder) => folder.join(name),
                None => return Ok(None),
            },
        };
        let place = root.at(&found)?;
        match place.metadata()? {
            None => return Ok(None),
            Some(metadata) if metadata.kind == FileType::Symlink => {
                let target = place.read_link()?;
                path = found.parent().unwrap_or(Path::new("")).join(target);
            }
            Some(_) => return Ok(Some(found)),
        }
    }
    Err(rustix::io::Errno::LOOP).during("resolve", &path).map_err(Error::from)
}

fn absent<T>(result: carrack_sys::Result<T>) -> Result<Option<T>> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.source.kind(), NotFound | NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Folders held open on the way to the one in use: entries come in the order of a walk, so that each folder is
/// opened once.
pub(crate) struct OpenFolders {
    base: OwnedFd,
    open: Vec<(OsString, OwnedFd)>,
}

impl OpenFolders {
    pub(crate) fn new(base: OwnedFd) -> Self {
        Self { base, open: Vec::new() }
    }

    /// The folder at `path` below the base; no link is followed.
    pub(crate) fn enter(&mut self, path: &Path) -> Result<BorrowedFd<'_>> {
        let shared = self.open.iter().zip(path.iter()).take_while(|((open, _), name)| open == name).count();
        self.open.truncate(shared);
        for name in path.iter().skip(shared) {
            let here = self.open.last().map_or(&self.base, |(_, fd)| fd);
            let fd = openat(here, name, FOLDER, Mode::empty()).during("open the folder", path)?;
            self.open.push((name.to_owned(), fd));
        }
        Ok(self.open.last().map_or(&self.base, |(_, fd)| fd).as_fd())
    }
}
