//! Writes the image of a tree.
//!
//! Invariant: after the first pass nothing about places changes. Everything is written in sequence, but for one step
//! back to the beginning; nothing is kept but the numbers of inodes.

use std::io::{BufWriter, Seek, SeekFrom, Write};

use crate::dirent::{Measure, Packer, pad};
use crate::inode::{INODE_BYTES, LAYOUT_CHUNKS, LAYOUT_INLINE, LAYOUT_PLAIN, Record, put};
use crate::superblock::{MAX_DEVICES, SUPERBLOCK_AT, Superblock, header_bytes};
use crate::{BLOCK_BYTES, Device, Error, InodeId, Kind, NodeId, Records, Result, SLOT_BYTES, Tree};

const BUFFER_BYTES: usize = 128 * 1024;
/// An image is a multiple of this, because tools read so much at once.
const PAGE_BYTES: u64 = 4096;
/// Where what the checksum of the superblock covers ends.
const COVERED_END: u64 = SUPERBLOCK_AT as u64 + BLOCK_BYTES;
/// A body up to this length finds a place within one block, wherever its inode begins.
const MAX_INLINE_BYTES: usize = 480;

/// What an image is made of.
pub struct Image<'a, R> {
    /// The names.
    pub tree: Tree,
    /// What the numbers in the tree stand for.
    pub records: &'a mut R,
    /// Where the data are: device 1 is the first.
    pub devices: Vec<Device>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The length of the image.
    pub size_bytes: u64,
    /// The number of inodes.
    pub inodes: u64,
}

/// Writes an image to `out`, from where it stands, and leaves it at some place. Nothing is synced.
pub fn write<R: Records>(image: Image<'_, R>, out: &mut (impl Write + Seek)) -> Result<Written> {
    let Image { tree, records, devices } = image;
    if devices.len() > MAX_DEVICES {
        return Err(Error::TooLarge { what: "devices", limit: MAX_DEVICES as u64 });
    }
    let tree = tree.sorted();
    let nids = vec![0; tree.inode_count()];
    let mut layout = Layout { tree, records, nids, record: Vec::new(), inodes: 0 };
    let folders_at = header_bytes(devices.len()).next_multiple_of(SLOT_BYTES);
    // Only header and folders are under the checksum of the superblock.
    let folders_end = layout.place_folders(folders_at)?.max(COVERED_END);
    let begin = out.stream_position().map_err(Error::io("write"))?;
    let mut out = Out { inner: BufWriter::with_capacity(BUFFER_BYTES, out), place: 0 };
    out.seek(begin, folders_end)?;
    layout.write_files(&mut out)?;
    out.align(BLOCK_BYTES)?;
    let blocks_at = out.place;
    layout.write_blocks(&mut out)?;
    out.align(PAGE_BYTES)?;
    let size_bytes = out.place;
    let blocks = u32::try_from(size_bytes / BLOCK_BYTES)
        .map_err(|_| Error::TooLarge { what: "bytes of an index", limit: BLOCK_BYTES << 32 })?;
    let root = layout.place(layout.tree.inode(layout.tree.root())) / SLOT_BYTES;
    let root = u16::try_from(root).unwrap_or_default(); // right after the devices, of which there are few
    let superblock = Superblock { root, inodes: layout.inodes, blocks, devices };
    out.seek(begin, 0)?;
    layout.write_head(&mut out, &superblock, (folders_end, blocks_at))?;
    out.inner.flush().map_err(Error::io("write"))?;
    Ok(Written { size_bytes, inodes: superblock.inodes })
}

/// Bytes in sequence, and where they go.
struct Out<W: Write + Seek> {
    inner: BufWriter<W>,
    place: u64,
}

impl<W: Write + Seek> Out<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.place += bytes.len() as u64;
        self.inner.write_all(bytes).map_err(Error::io("write"))
    }

    /// Zeros up to `place`.
    fn fill(&mut self, place: u64) -> Result<()> {
        const ZEROS: [u8; 1024] = [0; 1024];
        while self.place < place {
            let length = usize::try_from(place - self.place).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.write(&ZEROS[..length])?;
        }
        Ok(())
    }

    fn align(&mut self, unit: u64) -> Result<()> {
        self.fill(self.place.next_multiple_of(unit))
    }

    fn seek(&mut self, begin: u64, place: u64) -> Result<()> {
        self.place = place;
        self.inner.seek(SeekFrom::Start(begin + place)).map(|_| ()).map_err(Error::io("write"))
    }
}

/// The tree, and the number of each inode as soon as it has a place.
struct Layout<'a, R> {
    tree: Tree,
    records: &'a mut R,
    nids: Vec<u32>,
    record: Vec<u8>,
    inodes: u64,
}

/// What a folder will be.
struct FolderShape {
    full_bytes: u64,
    last_bytes: usize,
    is_inline: bool,
    links: u32,
}

impl FolderShape {
    /// Blocks outside the inode.
    fn blocks(&self) -> u64 {
        self.full_bytes / BLOCK_BYTES + u64::from(!self.is_inline)
    }

    fn inline_bytes(&self) -> usize {
        if self.is_inline { self.last_bytes } else { 0 }
    }
}

impl<R: Records> Layout<'_, R> {
    /// Gives each folder its place; returns the end of the last one.
    fn place_folders(&mut self, start: u64) -> Result<u64> {
        let mut place = start;
        let mut next = Some(self.tree.root());
        while let Some(folder) = next {
            let inode = self.tree.inode(folder);
            self.read(inode)?;
            let shape = self.shape(folder);
            let body_start = Record(&self.record).body_start();
            let at = inode_place(place, body_start, shape.inline_bytes());
            self.set_place(inode, at)?;
            place = at + (body_start + shape.inline_bytes()) as u64;
            next = self.folder_after(folder);
        }
        Ok(place.next_multiple_of(SLOT_BYTES))
    }

    /// Writes all inodes that are no folders, in the order in which they were made.
    fn write_files(&mut self, out: &mut Out<impl Write + Seek>) -> Result<()> {
        for index in 0..u32::try_from(self.tree.inode_count()).unwrap_or(u32::MAX) {
            let inode = InodeId::new(index);
            let (kind, links) = (self.tree.kind(inode), self.tree.links(inode));
            if kind == Kind::Folder || links == 0 {
                continue;
            }
            self.read(inode)?;
            let at = match kind {
                Kind::Symlink => self.place_symlink(out)?,
                _ => inode_place(out.place, 0, 0),
            };
            self.set_place(inode, at)?;
            put(&mut self.record, 6, &[0; 2]);
            put(&mut self.record, 44, &links.to_le_bytes());
            out.fill(at)?;
            out.write(&self.record)?;
        }
        Ok(())
    }

    /// The place of a link, after what it says where that does not fit beside its inode.
    fn place_symlink(&mut self, out: &mut Out<impl Write + Seek>) -> Result<u64> {
        let record = Record(&self.record);
        let (body_start, length) = (record.body_start(), record.target().len());
        if length <= MAX_INLINE_BYTES {
            return Ok(inode_place(out.place, body_start, length));
        }
        out.align(BLOCK_BYTES)?;
        let block = block_number(out.place)?;
        out.write(&self.record[body_start..])?;
        self.record.truncate(body_start);
        set_body(&mut self.record, LAYOUT_PLAIN, length as u64, block);
        Ok(inode_place(out.place, 0, 0))
    }

    /// Writes the blocks of folders that are not in their inodes.
    fn write_blocks(&mut self, out: &mut Out<impl Write + Seek>) -> Result<()> {
        let mut next = Some(self.tree.root());
        let mut packer = Packer::default();
        while let Some(folder) = next {
            let shape = self.shape(folder);
            self.each_block(folder, &mut packer, |block, is_last| {
                if is_last && shape.is_inline {
                    return Ok(());
                }
                pad(block);
                out.write(block)
            })?;
            next = self.folder_after(folder);
        }
        Ok(())
    }

    /// Writes superblock, devices and the inodes of folders; up to `end`; their blocks begin at
    /// `blocks_at`.
    fn write_head(
        &mut self,
        out: &mut Out<impl Write + Seek>,
        superblock: &Superblock,
        (end, blocks_at): (u64, u64),
    ) -> Result<()> {
        // The checksum goes to the end of a block, and folders may begin before that.
        let header = header_bytes(superblock.devices.len());
        let mut start = Head {
            bytes: Vec::new(),
            keep: usize::try_from(COVERED_END.saturating_sub(header)).unwrap_or(0),
        };
        let mut blocks_at = blocks_at;
        let mut next = Some(self.tree.root());
        let mut packer = Packer::default();
        let mut last = Vec::new();
        out.place = header;
        let begin = out.inner.stream_position().map_err(Error::io("write"))?;
        out.inner.seek(SeekFrom::Start(begin + header)).map_err(Error::io("write"))?;
        while let Some(folder) = next {
            let inode = self.tree.inode(folder);
            let shape = self.shape(folder);
            last.clear();
            if shape.is_inline {
                self.each_block(folder, &mut packer, |block, is_last| {
                    if is_last {
                        std::mem::swap(block, &mut last);
                    }
                    Ok(())
                })?;
            }
            self.read(inode)?;
            let layout = if shape.is_inline { LAYOUT_INLINE } else { LAYOUT_PLAIN };
            let size = shape.full_bytes + shape.last_bytes as u64;
            set_body(&mut self.record, layout, size, block_number(blocks_at)?);
            put(&mut self.record, 44, &shape.links.to_le_bytes());
            self.record.extend_from_slice(&last);
            start.fill(out, self.place(inode))?;
            start.write(out, &self.record)?;
            blocks_at += shape.blocks() * BLOCK_BYTES;
            next = self.folder_after(folder);
        }
        start.fill(out, end)?;
        out.inner.seek(SeekFrom::Start(begin)).map_err(Error::io("write"))?;
        out.inner.write_all(&superblock.encode(&start.bytes)?).map_err(Error::io("write"))
    }

    fn shape(&self, folder: NodeId) -> FolderShape {
        let mut measure = Measure::default();
        let mut links = 2;
        self.each_name(folder, |name, _, kind| {
            measure.add(name.len());
            links += u32::from(kind == Kind::Folder);
        });
        let Measure { full_bytes, last_bytes } = measure;
        // `..` and `.` are no more links than these two.
        FolderShape { full_bytes, last_bytes, is_inline: last_bytes <= MAX_INLINE_BYTES, links: links - 2 }
    }

    /// Gives the blocks of a folder in order, the last one as short as it is.
    fn each_block(
        &self,
        folder: NodeId,
        packer: &mut Packer,
        mut take: impl FnMut(&mut Vec<u8>, bool) -> Result<()>,
    ) -> Result<()> {
        let mut block = Vec::new();
        let mut result = Ok(());
        self.each_name(folder, |name, inode, kind| {
            let nid = u64::from(self.nids[inode.index()]);
            if !packer.add(name, nid, kind) {
                packer.take(&mut block);
                if result.is_ok() {
                    result = take(&mut block, false);
                }
                packer.add(name, nid, kind);
            }
        });
        packer.take(&mut block);
        result.and_then(|()| take(&mut block, true))
    }

    /// The names of a folder in order, with `.` and `..` in their places.
    fn each_name(&self, folder: NodeId, mut take: impl FnMut(&[u8], InodeId, Kind)) {
        let own = self.tree.inode(folder);
        let above = self.tree.inode(self.tree.parent(folder));
        let mut dots = [(b".".as_slice(), own), (b"..".as_slice(), above)].into_iter().peekable();
        let mut child = self.tree.first_child(folder);
        while let Some(node) = child {
            let name = self.tree.name(node);
            while let Some((dot, inode)) = dots.next_if(|(dot, _)| *dot < name) {
                take(dot, inode, Kind::Folder);
            }
            let inode = self.tree.inode(node);
            take(name, inode, self.tree.kind(inode));
            child = self.tree.next_sibling(node);
        }
        for (dot, inode) in dots {
            take(dot, inode, Kind::Folder);
        }
    }

    /// The next folder, the folders in a folder right after it.
    fn folder_after(&self, folder: NodeId) -> Option<NodeId> {
        let is_folder = |node: &NodeId| self.tree.kind(self.tree.inode(*node)) == Kind::Folder;
        let first_of = |start: Option<NodeId>| {
            let mut next = start;
            while let Some(node) = next.filter(|node| !is_folder(node)) {
                next = self.tree.next_sibling(node);
            }
            next
        };
        if let Some(below) = first_of(self.tree.first_child(folder)) {
            return Some(below);
        }
        let mut here = folder;
        while here != self.tree.root() {
            if let Some(beside) = first_of(self.tree.next_sibling(here)) {
                return Some(beside);
            }
            here = self.tree.parent(here);
        }
        None
    }

    fn read(&mut self, inode: InodeId) -> Result<()> {
        self.records.read(self.tree.record(inode), &mut self.record)?;
        if self.record.len() < INODE_BYTES
            || Record(&self.record).checked_kind() != Some(self.tree.kind(inode))
        {
            return Err(Error::Damaged { offset: 0, reason: "a record of another kind" });
        }
        Ok(())
    }

    fn set_place(&mut self, inode: InodeId, place: u64) -> Result<()> {
        let nid = u32::try_from(place / SLOT_BYTES)
            .map_err(|_| Error::TooLarge { what: "bytes of an index", limit: SLOT_BYTES << 32 })?;
        self.nids[inode.index()] = nid;
        self.inodes += 1;
        Ok(())
    }

    fn place(&self, inode: InodeId) -> u64 {
        u64::from(self.nids[inode.index()]) * SLOT_BYTES
    }
}

/// The bytes after the device table that the checksum covers are kept on their way.
struct Head {
    bytes: Vec<u8>,
    keep: usize,
}

impl Head {
    fn write(&mut self, out: &mut Out<impl Write + Seek>, bytes: &[u8]) -> Result<()> {
        let missing = self.keep - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        out.write(bytes)
    }

    fn fill(&mut self, out: &mut Out<impl Write + Seek>, place: u64) -> Result<()> {
        const ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
        while out.place < place {
            let length = usize::try_from(place - out.place).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.write(out, &ZEROS[..length])?;
        }
        Ok(())
    }
}

/// The first place for an inode at which `inline` bytes at `body_start` do not cross the end of a block.
fn inode_place(place: u64, body_start: usize, inline: usize) -> u64 {
    let mut place = place.next_multiple_of(SLOT_BYTES);
    while (place + body_start as u64) % BLOCK_BYTES + inline as u64 > BLOCK_BYTES {
        place += SLOT_BYTES;
    }
    place
}

fn block_number(place: u64) -> Result<u32> {
    u32::try_from(place / BLOCK_BYTES)
        .map_err(|_| Error::TooLarge { what: "bytes of an index", limit: BLOCK_BYTES << 32 })
}

fn set_body(record: &mut [u8], layout: u16, size_bytes: u64, block: u32) {
    debug_assert_ne!(layout, LAYOUT_CHUNKS);
    put(record, 0, &(1 | layout << 1).to_le_bytes());
    put(record, 8, &size_bytes.to_le_bytes());
    put(record, 16, &block.to_le_bytes());
}
