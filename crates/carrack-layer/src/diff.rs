//! Files become an archive: the upper folder of an overlay (diff), or a tree as it is (archive).
//!
//! Invariant: the bytes depend on names, contents and metadata only; entries come in the order of
//! [`tree::walk`](carrack_sys::tree::walk), and a name of an inode that came before is a hardlink to its first name.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use carrack_oci::{DiffId, Hasher};
use carrack_sys::rooted::{FileType, Metadata, Place, Root};
use carrack_sys::tree;

use crate::path::refused;
use crate::tar::{Entry, EntryKind, Writer};
use crate::{Error, Result, is_opaque, xattr};

/// How changes are written.
#[derive(Clone, Debug, Default)]
pub struct DiffOptions {
    /// Later times, in seconds since 1970, become this one.
    pub max_mtime: Option<i64>,
    /// Names that a sandbox has made to mount over them: an empty file of such a name is left out, and a folder unless
    /// something else is below it.
    pub mount_points: BTreeSet<PathBuf>,
}

/// What a tree is written as.
#[derive(Clone, Debug, Default)]
pub struct ArchiveOptions {
    /// What of the root is written: a folder with all below it, or a single file. Empty: the whole root. Links on the
    /// way to it are followed, itself it is not.
    pub path: PathBuf,
    /// The name it gets in the archive. Empty: its content is at the root of the archive.
    pub name: PathBuf,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffSummary {
    /// The digest of the archive.
    pub diff_id: DiffId,
    /// The length of the archive.
    pub size_bytes: u64,
    /// How many entries it has.
    pub entries: u64,
}

/// Writes the upper folder of an overlay as a layer (OCI image-spec, `layer.md`, "Representing Changes").
///
/// Times are whole seconds, as in the layers of others; sockets are left out. The folder itself is no entry. An upper
/// that needs more than itself to be understood (redirected folders, files without data) is refused.
pub fn diff(upper: &Root, options: &DiffOptions, out: impl Write) -> Result<DiffSummary> {
    let mut entries = Entries::new(out, PathBuf::new(), Some(options.clone()));
    tree::walk(upper, |place| entries.add(place))?;
    entries.finish()
}

/// Writes a tree, or one file of it, as a plain archive with exact times. Sockets are left out.
pub fn archive(root: &Root, options: &ArchiveOptions, out: impl Write) -> Result<DiffSummary> {
    archive_as(root, options, out, |root, entries| tree::walk(root, |place| entries.add(place)))
}

/// [`archive`] of a tree that is in use, with the mounts below it: what is gone when it is looked at is left out.
/// `enters` says whether a folder on another file system is gone into.
pub fn archive_live(
    root: &Root,
    options: &ArchiveOptions,
    out: impl Write,
    enters: &mut dyn FnMut(&Place<'_>) -> Result<bool>,
) -> Result<DiffSummary> {
    archive_as(root, options, out, |root, entries| {
        let device = root.metadata("")?.map(|top| top.inode.0);
        entries.is_live = true;
        tree::walk_live(root, |place| {
            let is_within = match place.metadata()? {
                Some(own) if own.is_dir() && Some(own.inode.0) != device => enters(place)?,
                _ => true,
            };
            Ok(entries.add(place)? && is_within)
        })
    })
}

fn archive_as<W: Write>(
    root: &Root,
    options: &ArchiveOptions,
    out: W,
    walk: impl FnOnce(&Root, &mut Entries<W>) -> Result<()>,
) -> Result<DiffSummary> {
    let mut entries = Entries::new(out, options.name.clone(), None);
    let top = root.at(&options.path)?;
    let Some(metadata) = top.metadata()? else {
        return Err(refused(top.path(), "it does not exist"));
    };
    if options.name != Path::new("") {
        entries.add_as(&top, &metadata, options.name.clone())?;
    }
    if metadata.is_dir() {
        walk(&root.open_dir(&options.path)?, &mut entries)?;
    }
    entries.finish()
}

struct Entries<W: Write> {
    writer: Writer<Counting<W>>,
    prefix: PathBuf,
    /// Set for the upper folder of an overlay.
    changes: Option<DiffOptions>,
    /// What is gone meanwhile is left out.
    is_live: bool,
    first_names: HashMap<(u64, u64), PathBuf>,
    /// Folders that are written only when something below them is, outermost first.
    held: Vec<Entry>,
    count: u64,
}

impl<W: Write> Entries<W> {
    fn new(out: W, prefix: PathBuf, changes: Option<DiffOptions>) -> Self {
        let writer = Writer::new(Counting { out, hasher: Hasher::sha256(), bytes: 0 });
        let (first_names, held) = (HashMap::new(), Vec::new());
        Self { writer, prefix, changes, is_live: false, first_names, held, count: 0 }
    }

    /// Adds a name that a walk found; whether to go into it.
    fn add(&mut self, place: &Place<'_>) -> Result<bool> {
        let Some(metadata) = place.metadata()? else { return Ok(false) }; // gone while we walked
        let path = self.prefix.join(place.path());
        if self.changes.is_some() && metadata.is_whiteout() {
            self.add_whiteout(place, &path)?;
            return Ok(false);
        }
        if self.is_mount_point(&metadata, &path) {
            if metadata.is_dir() {
                self.hold(place, &metadata, path)?;
            }
            return Ok(true);
        }
        self.add_as(place, &metadata, path.clone())?;
        if self.changes.is_some() && metadata.is_dir() && is_opaque(place)? {
            self.write(&whiteout(path.join(".wh..wh..opq")), io::empty())?;
        }
        Ok(true)
    }

    fn is_mount_point(&self, metadata: &Metadata, path: &Path) -> bool {
        let is_empty = metadata.kind == FileType::RegularFile && metadata.size_bytes == 0;
        let mount_points = self.changes.as_ref().map(|changes| &changes.mount_points);
        (is_empty || metadata.is_dir()) && mount_points.is_some_and(|names| names.contains(path))
    }

    fn hold(&mut self, place: &Place<'_>, metadata: &Metadata, path: PathBuf) -> Result<()> {
        self.held.retain(|folder| path.starts_with(&folder.path));
        let entry = self.entry(metadata, path, EntryKind::Directory);
        let xattrs = self.xattrs(place)?;
        self.held.push(Entry { xattrs, ..entry });
        Ok(())
    }

    fn add_whiteout(&mut self, place: &Place<'_>, path: &Path) -> Result<()> {
        let mut name = std::ffi::OsString::from(".wh.");
        name.push(place.name());
        self.write(&whiteout(path.with_file_name(name)), io::empty())
    }

    fn add_as(&mut self, place: &Place<'_>, metadata: &Metadata, path: PathBuf) -> Result<()> {
        let kind = match self.kind(place, metadata, &path) {
            Err(_) if self.is_live => None,
            kind => kind?,
        };
        let Some(kind) = kind else { return Ok(()) };
        let mut entry = self.entry(metadata, path, kind);
        match entry.kind {
            EntryKind::File => {
                let file = match place.open_file() {
                    Err(_) if self.is_live => return Ok(()),
                    file => file?,
                };
                // Few files have any, and the open file tells it much faster than the name.
                if rustix::fs::flistxattr_query(&file) != Ok(0) {
                    entry.xattrs = self.xattrs(place)?;
                }
                entry.size_bytes = file.metadata().map_err(|source| Error::Read { source })?.len();
                self.write(&entry, file)
            }
            EntryKind::Directory => {
                entry.xattrs = self.xattrs(place)?;
                self.write(&entry, io::empty())
            }
            _ => self.write(&entry, io::empty()),
        }
    }

    fn entry(&self, metadata: &Metadata, path: PathBuf, kind: EntryKind) -> Entry {
        Entry {
            path,
            kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: self.mtime(metadata),
            size_bytes: 0,
            xattrs: Vec::new(),
        }
    }

    /// What an inode is in an archive; nothing for a socket, which no archive can have.
    fn kind(&mut self, place: &Place<'_>, metadata: &Metadata, path: &Path) -> Result<Option<EntryKind>> {
        if !metadata.is_dir() && metadata.links > 1 {
            if let Some(first) = self.first_names.get(&metadata.inode) {
                return Ok(Some(EntryKind::Hardlink { target: first.clone() }));
            }
            if metadata.kind != FileType::Socket {
                self.first_names.insert(metadata.inode, path.to_owned());
            }
        }
        let (major, minor) = (rustix::fs::major(metadata.device), rustix::fs::minor(metadata.device));
        Ok(Some(match metadata.kind {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink { target: place.read_link()? },
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket | FileType::Unknown => return Ok(None),
        }))
    }

    fn mtime(&self, metadata: &Metadata) -> (i64, u32) {
        match &self.changes {
            None => metadata.mtime,
            Some(options) => (options.max_mtime.map_or(metadata.mtime.0, |max| metadata.mtime.0.min(max)), 0),
        }
    }

    fn xattrs(&self, place: &Place<'_>) -> Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
        let mut passing = Vec::new();
        for name in place.xattr_names()? {
            if self.changes.is_some() && xattr::is_unsupported(&name) {
                let reason =
                    format!("it has the attribute {}, so the upper folder is not all", name.display());
                return Err(refused(place.path(), reason));
            }
            if xattr::is_layer_xattr(&name)
                && let Some(value) = place.xattr(&name)?
            {
                passing.push((name, value));
            }
        }
        Ok(passing)
    }

    fn write(&mut self, entry: &Entry, data: impl io::Read) -> Result<()> {
        for folder in std::mem::take(&mut self.held) {
            if entry.path.starts_with(&folder.path) {
                self.count += 1;
                self.writer.append(&folder, io::empty())?;
            }
        }
        self.count += 1;
        self.writer.append(entry, data)
    }

    fn finish(self) -> Result<DiffSummary> {
        let mut out = self.writer.finish()?;
        out.flush().map_err(|source| Error::Write { source })?;
        let (diff_id, size_bytes) = (DiffId(out.hasher.finish()), out.bytes);
        Ok(DiffSummary { diff_id, size_bytes, entries: self.count })
    }
}

/// An empty file whose name means that something of a lower layer is gone.
fn whiteout(path: PathBuf) -> Entry {
    let (kind, mtime, xattrs) = (EntryKind::File, (0, 0), Vec::new());
    Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime, size_bytes: 0, xattrs }
}

/// Hashes and counts what passes to a sink.
struct Counting<W> {
    out: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
