//! Reads an index that this crate wrote.
//!
//! Invariant: a damaged or foreign file gives an error; no place and no length of it is used before it was checked, and
//! memory is bounded by one inode.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::inode::{
    CHUNK_BYTES, INODE_BYTES, LAYOUT_CHUNKS, LAYOUT_INLINE, LAYOUT_PLAIN, NO_BLOCK, Record, put, u16_at,
    u32_at,
};
use crate::superblock::{MAX_DEVICES, Superblock, header_bytes};
use crate::{BLOCK_BYTES, Device, Error, Kind, Result, SLOT_BYTES};

const PAGE_BYTES: usize = 4096;
/// 64 KiB: 127 indexes may be open.
const PAGES: usize = 16;
/// What a record may have beside attributes: the chunks of a file, or what a link says.
const MAX_CHUNK_BYTES: u64 = 8 << 16;
const MAX_LINK_BYTES: u64 = 4096;

/// An open index.
pub struct Reader {
    file: File,
    superblock: Superblock,
    size_bytes: u64,
    pages: Vec<Page>,
}

#[derive(Default)]
struct Page {
    /// Its number + 1; 0 is none.
    number: u64,
    bytes: Vec<u8>,
}

/// A place in a folder that is being read.
#[derive(Clone, Copy, Debug)]
pub struct Folder {
    left_bytes: u64,
    block_at: u64,
    last_at: u64,
}

impl Reader {
    /// Opens an index.
    pub fn open(file: File) -> Result<Self> {
        let size_bytes = file.metadata().map_err(Error::io("read"))?.len();
        let length = header_bytes(MAX_DEVICES).min(size_bytes);
        let mut start = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut start, 0).map_err(Error::io("read"))?;
        let superblock = Superblock::decode(&start)?;
        if u64::from(superblock.blocks) * BLOCK_BYTES != size_bytes {
            return Err(Error::Damaged { offset: size_bytes, reason: "it has another length than it says" });
        }
        Ok(Self { file, superblock, size_bytes, pages: Vec::new() })
    }

    /// The number of the root.
    pub fn root(&self) -> u64 {
        self.superblock.root.into()
    }

    /// The number of inodes.
    pub fn inodes(&self) -> u64 {
        self.superblock.inodes
    }

    /// The devices, the first one is 1.
    pub fn devices(&self) -> &[Device] {
        &self.superblock.devices
    }

    /// Gives back what pages were kept.
    pub fn forget_pages(&mut self) {
        self.pages = Vec::new();
    }

    /// Puts the record of an inode into `record`, in the form in which [`encode`](crate::encode) makes it. A folder's
    /// content is read by [`Reader::folder`].
    pub fn inode(&mut self, nid: u64, record: &mut Vec<u8>) -> Result<Kind> {
        let offset = nid.saturating_mul(SLOT_BYTES);
        let damaged = |reason| Error::Damaged { offset, reason };
        record.clear();
        self.append(offset, INODE_BYTES as u64, record)?;
        let header = Record(record);
        let kind = header.checked_kind().filter(|_| header.is_extended()).ok_or(damaged("no inode"))?;
        let (layout, size, body_start) = (header.layout(), header.size_bytes(), header.body_start());
        let block = u32_at(record, 16);
        self.append(offset + INODE_BYTES as u64, (body_start - INODE_BYTES) as u64, record)?;
        match (kind, layout) {
            (Kind::Folder, LAYOUT_PLAIN | LAYOUT_INLINE) => {}
            (Kind::File, LAYOUT_PLAIN) if size == 0 => {}
            (Kind::File, LAYOUT_CHUNKS) if size > 0 => {
                let (bits, start) = Record(record).chunks().ok_or(damaged("unknown form of chunks"))?;
                let bytes = size.div_ceil(1u64 << bits).saturating_mul(CHUNK_BYTES as u64);
                if bytes > MAX_CHUNK_BYTES {
                    return Err(damaged("too many chunks"));
                }
                record.resize(start, 0);
                self.append(offset + start as u64, bytes, record)?;
                self.check_chunks(&record[start..]).map_err(damaged)?;
            }
            (Kind::Symlink, LAYOUT_PLAIN | LAYOUT_INLINE) if size <= MAX_LINK_BYTES => {
                let at = match layout {
                    LAYOUT_INLINE => offset + body_start as u64,
                    _ => u64::from(block) * BLOCK_BYTES,
                };
                self.append(at, size, record)?;
                put(record, 0, &(1 | LAYOUT_INLINE << 1).to_le_bytes());
                put(record, 16, &[0; 4]);
            }
            (Kind::CharDevice | Kind::BlockDevice | Kind::Fifo, LAYOUT_PLAIN) => {}
            _ => return Err(damaged("an inode in a form that an index does not have")),
        }
        Ok(kind)
    }

    fn check_chunks(&self, chunks: &[u8]) -> Result<(), &'static str> {
        let devices = self.superblock.devices.len();
        let is_right = |chunk: &[u8]| match usize::from(u16_at(chunk, 2)) {
            _ if u16_at(chunk, 0) != 0 => false,
            0 => u32_at(chunk, 4) == NO_BLOCK,
            device => device <= devices && u32_at(chunk, 4) != NO_BLOCK,
        };
        match chunks.chunks_exact(CHUNK_BYTES).all(is_right) {
            true => Ok(()),
            false => Err("a chunk on no device"),
        }
    }

    /// Begins to read a folder.
    pub fn folder(&mut self, nid: u64) -> Result<Folder> {
        let mut record = Vec::with_capacity(INODE_BYTES);
        let kind = self.inode(nid, &mut record)?;
        let offset = nid * SLOT_BYTES;
        let damaged = |reason| Error::Damaged { offset, reason };
        if kind != Kind::Folder {
            return Err(damaged("no folder"));
        }
        let header = Record(&record);
        let left_bytes = header.size_bytes();
        if left_bytes > self.size_bytes || left_bytes == 0 {
            return Err(damaged("a folder that is longer than the index, or empty"));
        }
        let block_at = u64::from(u32_at(&record, 16)) * BLOCK_BYTES;
        let last_at = match header.layout() {
            LAYOUT_INLINE => offset + header.body_start() as u64,
            _ => block_at + (left_bytes - 1) / BLOCK_BYTES * BLOCK_BYTES,
        };
        Ok(Folder { left_bytes, block_at, last_at })
    }

    /// Puts the next block of a folder into `block`; returns where it is, and `None` at the end.
    pub fn next_block(&mut self, folder: &mut Folder, block: &mut Vec<u8>) -> Result<Option<u64>> {
        block.clear();
        if folder.left_bytes == 0 {
            return Ok(None);
        }
        let (at, length) = match folder.left_bytes > BLOCK_BYTES {
            true => (folder.block_at, BLOCK_BYTES),
            false => (folder.last_at, folder.left_bytes),
        };
        self.append(at, length, block)?;
        folder.left_bytes -= length;
        folder.block_at += length;
        Ok(Some(at))
    }

    /// Appends bytes of the file.
    fn append(&mut self, start: u64, length: u64, to: &mut Vec<u8>) -> Result<()> {
        let end = start.checked_add(length).filter(|end| *end <= self.size_bytes);
        let end = end.ok_or(Error::Damaged { offset: start, reason: "it ends before" })?;
        let mut place = start;
        while place < end {
            let within = usize::try_from(place % PAGE_BYTES as u64).unwrap_or_default();
            let page = self.page(place / PAGE_BYTES as u64)?;
            let wanted = usize::try_from(end - place).unwrap_or(PAGE_BYTES);
            let piece = &page[within..page.len().min(within.saturating_add(wanted))];
            to.extend_from_slice(piece);
            place += piece.len() as u64;
        }
        Ok(())
    }

    fn page(&mut self, number: u64) -> Result<&[u8]> {
        if self.pages.is_empty() {
            self.pages.resize_with(PAGES, Page::default);
        }
        let slot = usize::try_from(number % PAGES as u64).unwrap_or_default();
        let page = &mut self.pages[slot];
        if page.number != number + 1 {
            let start = number * PAGE_BYTES as u64;
            let length = (self.size_bytes - start).min(PAGE_BYTES as u64);
            page.number = 0;
            page.bytes.resize(usize::try_from(length).unwrap_or_default(), 0);
            self.file.read_exact_at(&mut page.bytes, start).map_err(Error::io("read"))?;
            page.number = number + 1;
        }
        Ok(&self.pages[slot].bytes)
    }
}
