//! The indexes of a stack of layers become one: the file system that overlayfs would show of them.
//!
//! Invariant: nothing of a layer is decided by the order of its entries; a layer acts as a whole on those below it.
//! First the hardlinks to lower files are looked up, then whiteouts and opaque folders take away, then names are put.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use carrack_erofs::{
    Content, Device, Error as IndexError, Image, InodeId, Kind, Limits, NodeId, Reader, Record, Records,
    Tree, dirents, encode, relocate, write,
};

use crate::path::{refused, reversed};
use crate::{OPAQUE_XATTR, Result};

/// Links are followed in a path, and folders lie in each other, as deep as paths of the kernel go.
const MAX_LINKS: usize = 40;
const MAX_DEPTH: usize = 2048;
/// In the number of a record: the layer, and 25 bits for the number of the inode in it.
const NID_BITS: u32 = 25;
/// As many as the numbers of records have room for, and somewhat fewer than overlayfs takes.
const MAX_LAYERS: u32 = 127;

/// What was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The length of the index.
    pub index_bytes: u64,
    /// The number of inodes that can be seen.
    pub inodes: u64,
}

/// A layer that is merged.
#[derive(Debug)]
pub struct LayerIndex {
    /// Its index.
    pub index: File,
    /// What lies in the tars of other layers, in the order of the places in its own.
    pub borrowed: Vec<Borrowed>,
}

/// A part of a layer's tar that lies in another tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Borrowed {
    /// The blocks in the layer's own tar.
    pub blocks: Range<u32>,
    /// The place of the other tar among the lenders.
    pub lender: usize,
    /// The first of the blocks there.
    pub lender_block: u32,
}

impl From<File> for LayerIndex {
    fn from(index: File) -> Self {
        Self { index, borrowed: Vec::new() }
    }
}

/// Merges the indexes of layers, the base first, into `out`, an empty file. To mount it, the tars are its devices in the
/// same order, and after them the `lenders`, tars of these lengths. Nothing is synced.
///
/// Where the stack has more than `limits` or the format allow, the error is [`carrack_erofs::Error::TooLarge`]; the
/// indexes can still be stacked one by one, if none has links to lower layers.
pub fn merge(
    indexes: Vec<LayerIndex>,
    lenders: &[u64],
    out: &mut (impl Write + Seek),
    limits: Limits,
) -> Result<Merged> {
    let mut layers = Layers { readers: Vec::new(), borrowed: Vec::new(), scratch: Vec::new() };
    let mut devices = Vec::new();
    for LayerIndex { index, borrowed } in indexes {
        let reader = Reader::open(index)?;
        let [device] = reader.devices() else { return Err(damaged("the index of a layer has one device")) };
        devices.push(device.clone());
        layers.readers.push(reader);
        layers.borrowed.push(borrowed);
    }
    devices.extend(lenders.iter().map(|size_bytes| Device { tag: Vec::new(), size_bytes: *size_bytes }));
    let Some(base) = layers.readers.first() else { return Err(damaged("a stack without layers")) };
    let root = record_number(0, base.root())?;
    let (tree, links) = (Tree::new(limits, root), HashMap::new());
    let mut stack = Stack { tree, layers, links, limits, left_entries: 0, record: Vec::new() };
    for layer in 0..stack.layers.readers.len() {
        stack.add_layer(layer)?;
    }
    let Stack { tree, mut layers, .. } = stack;
    let written = write(Image { tree, records: &mut layers, devices }, out)?;
    Ok(Merged { index_bytes: written.size_bytes, inodes: written.inodes })
}

/// The indexes that are merged, as the source of records: numbers are of layer and inode.
struct Layers {
    readers: Vec<Reader>,
    /// What each of them borrows.
    borrowed: Vec<Vec<Borrowed>>,
    scratch: Vec<u8>,
}

impl Layers {
    /// The device and block of what a layer's index has at `block` of its tar.
    fn place(&self, layer: usize, block: u32) -> (u16, u32) {
        let borrowed = &self.borrowed[layer];
        let after = borrowed.partition_point(|part| part.blocks.end <= block);
        let device = |number: usize| u16::try_from(number + 1).unwrap_or_default();
        match borrowed.get(after).filter(|part| part.blocks.contains(&block)) {
            Some(part) => {
                let number = self.readers.len() + part.lender;
                (device(number), part.lender_block + (block - part.blocks.start))
            }
            None => (device(layer), block),
        }
    }
}

impl Records for Layers {
    fn read(&mut self, number: u32, record: &mut Vec<u8>) -> carrack_erofs::Result<()> {
        let layer = (number >> NID_BITS) as usize;
        let nid = u64::from(number & ((1 << NID_BITS) - 1));
        let kind = self.readers[layer].inode(nid, record)?;
        relocate(record, |block| self.place(layer, block));
        if kind == Kind::Folder && has_opaque(record) {
            // The mark is for overlayfs; in the whole stack there is nothing left to hide.
            std::mem::swap(record, &mut self.scratch);
            let old = Record(&self.scratch);
            let kept: Vec<_> = old.xattrs().filter(|(name, _)| name != OPAQUE_XATTR.as_bytes()).collect();
            let kept = kept.iter().map(|(name, value)| (name.as_slice(), *value));
            encode(record, &old.metadata(), Content::Folder, kept)?;
        }
        Ok(())
    }
}

struct Stack {
    tree: Tree,
    layers: Layers,
    /// Inodes of the current layer that have several names.
    links: HashMap<u32, InodeId>,
    limits: Limits,
    left_entries: u32,
    record: Vec<u8>,
}

/// A folder of a layer that is still to be read.
struct Pending {
    nid: u64,
    target: NodeId,
    depth: usize,
}

impl Stack {
    fn add_layer(&mut self, layer: usize) -> Result<()> {
        self.links.clear();
        self.left_entries = self.limits.entries;
        self.find_links_below(layer)?;
        self.left_entries = self.limits.entries;
        let root = Pending { nid: self.layers.readers[layer].root(), target: self.tree.root(), depth: 0 };
        self.enter_folder(layer, root.nid, root.target, layer == 0)?;
        let mut pending = vec![root];
        while let Some(folder) = pending.pop() {
            self.add_folder(layer, &folder, &mut pending)?;
        }
        self.layers.readers[layer].forget_pages();
        Ok(())
    }

    /// Counts an entry; in a damaged index, folders can lie in each other without end.
    fn count_entry(&mut self, depth: usize) -> Result<()> {
        let left = self.left_entries.checked_sub(1).filter(|_| depth <= MAX_DEPTH);
        self.left_entries = left.ok_or_else(|| damaged("more or deeper folders than an index can have"))?;
        Ok(())
    }

    /// What a folder of the layer does to the one that has its name below: hides what is in it, and gives it metadata.
    fn enter_folder(&mut self, layer: usize, nid: u64, target: NodeId, is_new: bool) -> Result<()> {
        let kind = self.layers.readers[layer].inode(nid, &mut self.record)?;
        if kind != Kind::Folder {
            return Err(damaged("an entry that is no folder, but says so"));
        }
        if has_opaque(&self.record) {
            self.tree.clear(target);
        }
        if !is_new && !Record(&self.record).metadata().marks.is_implicit {
            self.tree.set_record(self.tree.inode(target), record_number(layer, nid)?);
        }
        Ok(())
    }

    fn add_folder(&mut self, layer: usize, folder: &Pending, pending: &mut Vec<Pending>) -> Result<()> {
        let mut place = self.layers.readers[layer].folder(folder.nid)?;
        let mut block = Vec::new();
        while let Some(offset) = self.layers.readers[layer].next_block(&mut place, &mut block)? {
            for entry in dirents(&block, offset) {
                let entry = entry?;
                match (entry.name, entry.kind) {
                    (b"." | b"..", _) => {}
                    (name, Kind::Folder) => {
                        self.count_entry(folder.depth + 1)?;
                        let target = self.put_folder(layer, folder.target, name, entry.nid)?;
                        pending.push(Pending { nid: entry.nid, target, depth: folder.depth + 1 });
                    }
                    (name, kind) => self.put_other(layer, folder.target, name, (entry.nid, kind))?,
                }
            }
        }
        Ok(())
    }

    fn put_folder(&mut self, layer: usize, folder: NodeId, name: &[u8], nid: u64) -> Result<NodeId> {
        let below = self.tree.child(folder, name);
        if let Some(below) = below.filter(|below| self.kind(*below) == Kind::Folder) {
            self.enter_folder(layer, nid, below, false)?;
            return Ok(below);
        }
        let inode = self.tree.add_inode(Kind::Folder, record_number(layer, nid)?)?;
        Ok(self.tree.put(folder, name, inode)?)
    }

    fn put_other(
        &mut self,
        layer: usize,
        folder: NodeId,
        name: &[u8],
        (nid, kind): (u64, Kind),
    ) -> Result<()> {
        if let Some(inode) = self.links.get(&record_nid(nid)?) {
            self.tree.put(folder, name, *inode)?;
            return Ok(());
        }
        if self.layers.readers[layer].inode(nid, &mut self.record)? != kind {
            return Err(damaged("an entry of another kind than its inode"));
        }
        let record = Record(&self.record);
        if record.is_whiteout() {
            if let Some(below) = self.tree.child(folder, name) {
                self.tree.remove(below);
            }
            return Ok(());
        }
        let has_more_names = record.links() > 1;
        let inode = self.tree.add_inode(kind, record_number(layer, nid)?)?;
        self.tree.put(folder, name, inode)?;
        if has_more_names {
            self.links.insert(record_nid(nid)?, inode);
        }
        Ok(())
    }

    /// Looks up what the links of a layer mean, while the layer has not changed anything yet.
    fn find_links_below(&mut self, layer: usize) -> Result<()> {
        let root = self.layers.readers[layer].root();
        self.layers.readers[layer].inode(root, &mut self.record)?;
        if !Record(&self.record).metadata().marks.has_links_below {
            return Ok(());
        }
        let mut block = Vec::new();
        let mut pending = vec![(root, 0)];
        while let Some((nid, depth)) = pending.pop() {
            let mut place = self.layers.readers[layer].folder(nid)?;
            while let Some(offset) = self.layers.readers[layer].next_block(&mut place, &mut block)? {
                for entry in dirents(&block, offset) {
                    let entry = entry?;
                    match entry.kind {
                        _ if matches!(entry.name, b"." | b"..") => {}
                        Kind::Folder => {
                            self.count_entry(depth + 1)?;
                            pending.push((entry.nid, depth + 1));
                        }
                        Kind::Symlink => self.find_link_below(layer, entry.nid)?,
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn find_link_below(&mut self, layer: usize, nid: u64) -> Result<()> {
        self.layers.readers[layer].inode(nid, &mut self.record)?;
        let record = Record(&self.record);
        if !record.metadata().marks.is_link_below {
            return Ok(());
        }
        let target = PathBuf::from(OsStr::from_bytes(record.target()));
        let found = self.find(&target)?.ok_or_else(|| {
            let reason =
                "a hardlink leads to it, and neither its layer before the link nor a layer below has it";
            refused(&target, reason)
        })?;
        let inode = self.tree.inode(found);
        if self.tree.kind(inode) == Kind::Folder {
            return Err(refused(&target, "a hardlink leads to it, and it is a folder"));
        }
        self.links.insert(record_nid(nid)?, inode);
        Ok(())
    }

    /// What is at a path; links are followed but for the last name.
    fn find(&mut self, path: &Path) -> Result<Option<NodeId>> {
        let mut here = self.tree.root();
        let mut links = 0;
        let mut pending = reversed(path);
        while let Some(name) = pending.pop() {
            if name == b".." {
                here = self.tree.parent(here);
                continue;
            }
            let Some(found) = self.tree.child(here, &name) else { return Ok(None) };
            match self.kind(found) {
                Kind::Folder => here = found,
                _ if pending.is_empty() => return Ok(Some(found)),
                Kind::Symlink if links < MAX_LINKS => {
                    links += 1;
                    self.layers.read(self.tree.record(self.tree.inode(found)), &mut self.record)?;
                    let target = PathBuf::from(OsStr::from_bytes(Record(&self.record).target()));
                    if target.is_absolute() {
                        here = self.tree.root();
                    }
                    pending.extend(reversed(&target));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    fn kind(&self, node: NodeId) -> Kind {
        self.tree.kind(self.tree.inode(node))
    }
}

fn has_opaque(record: &[u8]) -> bool {
    let record = Record(record);
    record.has_xattrs() && record.xattrs().any(|(name, _)| name == OPAQUE_XATTR.as_bytes())
}

fn record_number(layer: usize, nid: u64) -> Result<u32> {
    let layer = u32::try_from(layer).ok().filter(|layer| *layer < MAX_LAYERS);
    let layer = layer.ok_or(IndexError::TooLarge { what: "layers", limit: MAX_LAYERS.into() })?;
    Ok(layer << NID_BITS | record_nid(nid)?)
}

fn record_nid(nid: u64) -> Result<u32> {
    let nid = u32::try_from(nid).ok().filter(|nid| *nid < 1 << NID_BITS);
    Ok(nid.ok_or(IndexError::TooLarge { what: "bytes of an index of a layer", limit: 32 << NID_BITS })?)
}

fn damaged(reason: &'static str) -> crate::Error {
    IndexError::Damaged { offset: 0, reason }.into()
}
