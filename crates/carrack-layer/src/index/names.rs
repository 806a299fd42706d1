//! The tree of a layer while its entries arrive: what `unpack` does in a file system, done to names.
//!
//! Invariant: an entry replaces what has its name, with all below it, except that a folder stays a folder and gets new
//! metadata; a folder in place of anything else hides the folders of lower layers.

use std::ffi::OsStr;
use std::io::{Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use carrack_erofs::{
    Content, Device, Image, InodeId, Kind, Limits, Marks, Metadata, NodeId, Record, Records, Scratch, Tree,
    encode, place, write,
};
use carrack_sys::tree::Usage;

use super::Indexed;
use crate::path::{checked_path, refused, reversed};
use crate::tar::{Data, Entry, EntryKind};
use crate::{Error, OPAQUE_XATTR, Result, xattr};

/// As many links are followed in one path as the kernel would.
const MAX_LINKS: usize = 40;
const IMPLICIT: Metadata = Metadata {
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: (0, 0),
    marks: Marks { is_implicit: true, is_link_below: false, has_links_below: false },
};

type Xattr = (Vec<u8>, Vec<u8>);

pub(super) struct Names<'f> {
    tree: Tree,
    records: Scratch<'f>,
    /// The folder of the last entry, by the path that the entry had.
    current: Option<(PathBuf, NodeId)>,
    whiteout: InodeId,
    /// Records that all implicit folders share.
    implicit: u32,
    implicit_opaque: u32,
    usage: Usage,
    is_opaque: bool,
    needs_below: bool,
    record: Vec<u8>,
    blocks: Vec<u32>,
}

/// A name to be made.
#[derive(Clone, Copy)]
struct Spot<'p> {
    folder: NodeId,
    name: &'p [u8],
    /// The path of the entry, for messages.
    path: &'p Path,
}

/// Where a path leads.
enum Found {
    Folder(NodeId),
    /// A name on the way is not in this layer; the rest of the path, from the root, without links of this layer.
    Below(PathBuf),
    /// It is not in this layer, nor may it be below: hidden, or no folder on the way.
    Nothing,
}

impl<'f> Names<'f> {
    pub fn new(limits: Limits, mut records: Scratch<'f>) -> Result<Self> {
        let mut record = Vec::new();
        encode(&mut record, &IMPLICIT, Content::Folder, [])?;
        let implicit = records.append(&record)?;
        encode(&mut record, &IMPLICIT, Content::Folder, [opaque()])?;
        let implicit_opaque = records.append(&record)?;
        let nobody = Metadata { mode: 0, uid: 0, gid: 0, mtime: (0, 0), marks: Marks::default() };
        encode(&mut record, &nobody, Content::CharDevice(0, 0), [])?;
        let mut tree = Tree::new(limits, implicit);
        let whiteout = tree.add_inode(Kind::CharDevice, records.append(&record)?)?;
        Ok(Self {
            tree,
            records,
            current: None,
            whiteout,
            implicit,
            implicit_opaque,
            usage: Usage::default(),
            is_opaque: false,
            needs_below: false,
            record,
            blocks: Vec::new(),
        })
    }

    /// Takes an entry at `path`, which is a [`checked_path`].
    pub fn add(&mut self, path: &Path, entry: &Entry, data: Data<'_>) -> Result<()> {
        let Some(name) = path.file_name() else { return self.add_root(entry) };
        self.usage.size_bytes = self.usage.size_bytes.saturating_add(entry.size_bytes);
        self.usage.inodes += u64::from(!matches!(entry.kind, EntryKind::Hardlink { .. }));
        let spot = Spot { folder: self.enter_parent(path)?, name: name.as_bytes(), path };
        match &entry.kind {
            EntryKind::Directory => self.add_folder(spot, entry),
            EntryKind::Hardlink { target } => self.add_hardlink(spot, target, entry),
            _ => self.add_other(spot, entry, data),
        }
    }

    /// The name is removed from lower layers.
    pub fn white_out(&mut self, path: &Path, name: &OsStr) -> Result<()> {
        let folder = self.enter_parent(path)?;
        match self.tree.child(folder, name.as_bytes()) {
            None => self.put(Spot { folder, name: name.as_bytes(), path }, self.whiteout).map(|_| ()),
            Some(own) if self.is_folder(own) => self.mark_opaque(own),
            Some(_) => Ok(()), // it hides what is below already
        }
    }

    /// The folder of `path` hides those of lower layers.
    pub fn mark_parent_opaque(&mut self, path: &Path) -> Result<()> {
        self.is_opaque |= path.parent() == Some(Path::new(""));
        let folder = self.enter_parent(path)?;
        self.mark_opaque(folder)
    }

    /// Writes the index of what has arrived.
    pub fn write(mut self, out: &mut (impl Write + Seek), tar_bytes: u64, entries: u64) -> Result<Indexed> {
        let (implicit, implicit_opaque) = (self.implicit, self.implicit_opaque);
        let has_whiteouts = self.tree.links(self.whiteout) > 0;
        let implicit_dirs = self.tree.folders_with(|record| [implicit, implicit_opaque].contains(&record));
        if self.needs_below {
            self.mark_root()?;
        }
        let Self { tree, mut records, usage, is_opaque, needs_below, .. } = self;
        let devices = vec![Device { tag: Vec::new(), size_bytes: tar_bytes }];
        let written = write(Image { tree, records: &mut records, devices }, out)?;
        let index_bytes = written.size_bytes;
        Ok(Indexed {
            tar_bytes,
            index_bytes,
            usage,
            is_opaque,
            needs_below,
            has_whiteouts,
            implicit_dirs,
            entries,
        })
    }

    /// Says in the root that there are links to lower layers.
    fn mark_root(&mut self) -> Result<()> {
        let root = self.tree.inode(self.tree.root());
        let xattrs = self.xattrs(root)?;
        self.records.read(self.tree.record(root), &mut self.record)?;
        let mut metadata = Record(&self.record).metadata();
        metadata.marks.has_links_below = true;
        self.replace_record(root, &metadata, &xattrs)
    }

    fn replace_record(&mut self, folder: InodeId, metadata: &Metadata, xattrs: &[Xattr]) -> Result<()> {
        let xattrs = xattrs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        encode(&mut self.record, metadata, Content::Folder, xattrs)?;
        let record = self.records.append(&self.record)?;
        self.tree.set_record(folder, record);
        Ok(())
    }

    fn add_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(refused(&entry.path, "the root of an archive can only be a folder"));
        }
        self.describe(self.tree.root(), entry)
    }

    fn add_folder(&mut self, spot: Spot<'_>, entry: &Entry) -> Result<()> {
        match self.tree.child(spot.folder, spot.name) {
            Some(own) if self.is_folder(own) => self.describe(own, entry),
            own => {
                let hides_below = own.is_some();
                encode(
                    &mut self.record,
                    &metadata(entry),
                    Content::Folder,
                    passing(entry).chain(hides_below.then(opaque)),
                )
                .map_err(indexing(spot.path))?;
                let inode = self.tree.add_inode(Kind::Folder, self.records.append(&self.record)?)?;
                self.put(spot, inode).map(|_| ())
            }
        }
    }

    /// A folder that is there gets the metadata of an entry, and keeps attributes that the entry does not have.
    fn describe(&mut self, folder: NodeId, entry: &Entry) -> Result<()> {
        let inode = self.tree.inode(folder);
        let mut kept = self.xattrs(inode)?;
        kept.retain(|(name, _)| !passing(entry).any(|(new, _)| new == name));
        let kept = kept.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        encode(&mut self.record, &metadata(entry), Content::Folder, passing(entry).chain(kept))
            .map_err(indexing(&entry.path))?;
        let record = self.records.append(&self.record)?;
        self.tree.set_record(inode, record);
        Ok(())
    }

    fn mark_opaque(&mut self, folder: NodeId) -> Result<()> {
        let inode = self.tree.inode(folder);
        let mut xattrs = self.xattrs(inode)?;
        if xattrs.iter().any(|(name, _)| name == OPAQUE_XATTR.as_bytes()) {
            return Ok(());
        }
        if self.tree.record(inode) == self.implicit {
            self.tree.set_record(inode, self.implicit_opaque);
            return Ok(());
        }
        xattrs.push((OPAQUE_XATTR.into(), b"y".to_vec()));
        self.records.read(self.tree.record(inode), &mut self.record)?;
        let metadata = Record(&self.record).metadata();
        self.replace_record(inode, &metadata, &xattrs)
    }

    fn xattrs(&mut self, inode: InodeId) -> Result<Vec<Xattr>> {
        let number = self.tree.record(inode);
        if number == self.implicit {
            return Ok(Vec::new());
        }
        self.records.read(number, &mut self.record)?;
        Ok(Record(&self.record).xattrs().map(|(name, value)| (name, value.to_vec())).collect())
    }

    fn add_other(&mut self, spot: Spot<'_>, entry: &Entry, data: Data<'_>) -> Result<()> {
        let (content, kind) = match &entry.kind {
            EntryKind::Symlink { target } => (Content::Symlink(target.as_os_str().as_bytes()), Kind::Symlink),
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                // To overlayfs this is a whiteout; only a `.wh.` entry may say that.
                return Err(refused(spot.path, "the device node 0:0, which is no device"));
            }
            EntryKind::CharDevice { major, minor } => (Content::CharDevice(*major, *minor), Kind::CharDevice),
            EntryKind::BlockDevice { major, minor } => {
                (Content::BlockDevice(*major, *minor), Kind::BlockDevice)
            }
            EntryKind::Fifo => (Content::Fifo, Kind::Fifo),
            _ => {
                let placed = place(entry.size_bytes, data.segments, data.offset, &mut self.blocks);
                (Content::File(placed.map_err(indexing(spot.path))?), Kind::File)
            }
        };
        encode(&mut self.record, &metadata(entry), content, passing(entry)).map_err(indexing(spot.path))?;
        let inode = self.tree.add_inode(kind, self.records.append(&self.record)?)?;
        self.put(spot, inode).map(|_| ())
    }

    fn add_hardlink(&mut self, spot: Spot<'_>, target: &Path, entry: &Entry) -> Result<()> {
        let wanted = checked_path(target)?;
        let absent = || {
            let reason =
                format!("a hardlink to {}, which is not in this archive before it", wanted.display());
            Err(refused(spot.path, reason))
        };
        let last = wanted.file_name().unwrap_or_default();
        let found = match self.resolve(wanted.parent().unwrap_or(Path::new("")))? {
            Found::Folder(_) if last.is_empty() => Some(self.tree.root()),
            Found::Folder(above) => match self.tree.child(above, last.as_bytes()) {
                None if !self.is_hidden(above)? => {
                    return self.add_link_below(spot, &self.path_of(above).join(last), entry);
                }
                found => found,
            },
            Found::Below(above) => {
                return self.add_link_below(spot, &above.join(last), entry);
            }
            Found::Nothing => None,
        };
        let Some(found) = found else { return absent() };
        let inode = self.tree.inode(found);
        if inode == self.whiteout {
            return absent();
        }
        let own = self.tree.child(spot.folder, spot.name);
        if own.is_some_and(|own| self.tree.inode(own) == inode) {
            return Ok(());
        }
        if self.is_folder(found) {
            return Err(refused(spot.path, format!("a hardlink to {}, which is a folder", wanted.display())));
        }
        if let Some(own) = own {
            self.tree.remove(own);
            if self.tree.links(inode) == 0 {
                return absent(); // it was in the folder that the link replaces
            }
        }
        self.put(spot, inode).map(|_| ())
    }

    /// Remembers a hardlink to a file of a lower layer, as a symbolic link with a mark.
    fn add_link_below(&mut self, spot: Spot<'_>, target: &Path, entry: &Entry) -> Result<()> {
        let own = self.path_of(spot.folder).join(OsStr::from_bytes(spot.name));
        if target == own {
            let reason =
                format!("a hardlink to {}, which is not in this archive before it", target.display());
            return Err(refused(spot.path, reason));
        }
        self.needs_below = true;
        let marks = Marks { is_link_below: true, ..Marks::default() };
        let metadata = Metadata { marks, mode: 0o777, ..metadata(entry) };
        let target = Path::new("/").join(target);
        let content = Content::Symlink(target.as_os_str().as_bytes());
        encode(&mut self.record, &metadata, content, []).map_err(indexing(spot.path))?;
        let inode = self.tree.add_inode(Kind::Symlink, self.records.append(&self.record)?)?;
        self.put(spot, inode).map(|_| ())
    }

    fn put(&mut self, spot: Spot<'_>, inode: InodeId) -> Result<NodeId> {
        self.tree.put(spot.folder, spot.name, inode).map_err(indexing(spot.path))
    }

    fn is_folder(&self, node: NodeId) -> bool {
        self.tree.kind(self.tree.inode(node)) == Kind::Folder
    }

    /// Whether lower layers cannot be seen in a folder.
    fn is_hidden(&mut self, folder: NodeId) -> Result<bool> {
        let mut here = folder;
        loop {
            let xattrs = self.xattrs(self.tree.inode(here))?;
            if xattrs.iter().any(|(name, _)| name == OPAQUE_XATTR.as_bytes()) {
                return Ok(true);
            }
            if here == self.tree.root() {
                return Ok(false);
            }
            here = self.tree.parent(here);
        }
    }

    fn path_of(&self, node: NodeId) -> PathBuf {
        let mut names = Vec::new();
        let mut here = node;
        while here != self.tree.root() {
            names.push(OsStr::from_bytes(self.tree.name(here)));
            here = self.tree.parent(here);
        }
        names.into_iter().rev().collect()
    }

    /// The folder that `path` is in; those that are missing on the way are made.
    fn enter_parent(&mut self, path: &Path) -> Result<NodeId> {
        let above = path.parent().unwrap_or(Path::new(""));
        if let Some((current, node)) = &self.current
            && current == above
        {
            return Ok(*node);
        }
        let node = match self.walk(above, path, true)? {
            Found::Folder(node) => node,
            _ => return Err(refused(path, "a name on the way to it is no folder")),
        };
        self.current = Some((above.to_owned(), node));
        Ok(node)
    }

    fn resolve(&mut self, path: &Path) -> Result<Found> {
        self.walk(path, path, false)
    }

    /// Goes to a folder one name at a time, through links of this layer, as `RESOLVE_IN_ROOT` does.
    fn walk(&mut self, path: &Path, shown: &Path, is_making: bool) -> Result<Found> {
        let mut here = self.tree.root();
        let mut links = 0;
        let mut pending = reversed(path);
        while let Some(name) = pending.pop() {
            if name == b".." {
                here = self.tree.parent(here);
                continue;
            }
            let found = self.tree.child(here, &name);
            let inode = found.map(|found| self.tree.inode(found));
            let kind = inode.map(|inode| self.tree.kind(inode));
            match (found, kind) {
                (Some(found), Some(Kind::Folder)) => here = found,
                (_, Some(Kind::Symlink)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(refused(shown, "too many symbolic links on the way to it"));
                    }
                    let target = self.read_link(inode.unwrap_or(self.whiteout))?;
                    if target.is_absolute() {
                        here = self.tree.root();
                    }
                    pending.extend(reversed(&target));
                }
                _ if is_making && (found.is_none() || inode == Some(self.whiteout)) => {
                    let record = if found.is_some() { self.implicit_opaque } else { self.implicit };
                    let made = self.tree.add_inode(Kind::Folder, record)?;
                    here = self.put(Spot { folder: here, name: &name, path: shown }, made)?;
                }
                (None, _) if !is_making && !self.is_hidden(here)? => {
                    pending.push(name);
                    let rest = pending.into_iter().rev().map(std::ffi::OsString::from_vec);
                    return Ok(Found::Below(self.path_of(here).join(rest.collect::<PathBuf>())));
                }
                _ => return Ok(Found::Nothing),
            }
        }
        Ok(Found::Folder(here))
    }

    fn read_link(&mut self, inode: InodeId) -> Result<PathBuf> {
        self.records.read(self.tree.record(inode), &mut self.record)?;
        Ok(PathBuf::from(OsStr::from_bytes(Record(&self.record).target())))
    }
}

fn opaque() -> (&'static [u8], &'static [u8]) {
    (OPAQUE_XATTR.as_bytes(), b"y")
}

fn metadata(entry: &Entry) -> Metadata {
    let mode = if matches!(entry.kind, EntryKind::Symlink { .. }) { 0o777 } else { entry.mode };
    Metadata { mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, marks: Marks::default() }
}

/// The attributes that pass; links have none, and only files and folders have those of users.
fn passing(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let is_plain = matches!(entry.kind, EntryKind::File | EntryKind::Directory);
    let is_symlink = matches!(entry.kind, EntryKind::Symlink { .. });
    let passes = move |name: &OsStr| {
        !is_symlink && xattr::is_layer_xattr(name) && (is_plain || !name.as_bytes().starts_with(b"user."))
    };
    let xattrs = entry.xattrs.iter().filter(move |(name, _)| passes(name));
    xattrs.map(|(name, value)| (name.as_bytes(), value.as_slice()))
}

/// Names the entry that the format cannot hold.
fn indexing(path: &Path) -> impl FnOnce(carrack_erofs::Error) -> Error {
    move |error| match error {
        carrack_erofs::Error::Unsupported { reason } => refused(path, reason),
        other => other.into(),
    }
}
