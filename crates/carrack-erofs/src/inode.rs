//! Inodes as they are kept and copied: the extended form of 64 bytes, inline attributes, and a body.
//!
//! Invariant: a record says all about an inode but its number of names, and for folders what is in them; these are
//! filled in where it is written into an index.
//!
//! ```text
//!  0 u16 format: bit 0 extended, bits 1-3 layout │  2 u16 attributes │  4 u16 mode     │  6 u16 0
//!  8 u64 size                                    │ 16 u32 blocks of the body, device number, or chunk format
//! 20 u32 marks │ 24 u32 owner │ 28 u32 group     │ 32 i64 time, seconds │ 40 u32 nanoseconds │ 44 u32 names
//! 48 16 bytes 0
//! ```

use crate::chunks::Chunks;
use crate::{Error, Result};

pub(crate) const INODE_BYTES: usize = 64;
/// The header of inline attributes (`erofs_xattr_ibody_header`).
const XATTR_HEADER_BYTES: usize = 12;
pub(crate) const CHUNK_BYTES: usize = 8;
const MAX_LINK_BYTES: usize = 4095;

const EXTENDED: u16 = 1;
pub(crate) const LAYOUT_PLAIN: u16 = 0;
pub(crate) const LAYOUT_INLINE: u16 = 2;
pub(crate) const LAYOUT_CHUNKS: u16 = 4;
/// Chunk indexes of 8 bytes (`EROFS_CHUNK_FORMAT_INDEXES`); the low 5 bits are the size in blocks, as a power of two.
pub(crate) const CHUNK_INDEXES: u16 = 0x20;
/// A hole.
pub(crate) const NO_BLOCK: u32 = u32::MAX;

/// Classes of attributes (`EROFS_XATTR_INDEX_*`); those of access lists are whole names.
const PREFIXES: [(u8, &str); 5] = [
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
];

/// What an inode is; the codes are those of directory entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A character device; 0:0 is a whiteout in the index of a layer.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A symbolic link.
    Symlink,
}

impl Kind {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::File => 1,
            Self::Folder => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Symlink => 7,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        let all = [Self::File, Self::Folder, Self::CharDevice, Self::BlockDevice, Self::Fifo, Self::Symlink];
        all.into_iter().find(|kind| kind.code() == code)
    }

    fn mode_bits(self) -> u16 {
        match self {
            Self::File => 0o100_000,
            Self::Folder => 0o040_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Symlink => 0o120_000,
        }
    }

    fn from_mode(mode: u16) -> Option<Self> {
        (1..8).filter_map(Self::from_code).find(|kind| kind.mode_bits() == mode & 0o170_000)
    }
}

/// What only carrack reads of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// A folder that no entry of the layer describes.
    pub is_implicit: bool,
    /// A symbolic link that stands for another name of a file in a lower layer; the link says its path.
    pub is_link_below: bool,
    /// A root: there are such links in the index.
    pub has_links_below: bool,
}

impl Marks {
    fn bits(self) -> u32 {
        u32::from(self.is_implicit)
            | u32::from(self.is_link_below) << 1
            | u32::from(self.has_links_below) << 2
    }
}

/// Owner, mode and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The low 12 bits of the mode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// What only carrack reads.
    pub marks: Marks,
}

/// What an inode is, and what is in it.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A folder.
    Folder,
    /// A regular file; where its data are.
    File(Chunks<'a>),
    /// A symbolic link and what it says.
    Symlink(&'a [u8]),
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

impl Content<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder => Kind::Folder,
            Self::File(_) => Kind::File,
            Self::Symlink(_) => Kind::Symlink,
            Self::CharDevice(..) => Kind::CharDevice,
            Self::BlockDevice(..) => Kind::BlockDevice,
            Self::Fifo => Kind::Fifo,
        }
    }
}

/// Makes the record of an inode in `record`, in place of what is there. Attributes have their whole names.
pub fn encode<'x>(
    record: &mut Vec<u8>,
    metadata: &Metadata,
    content: Content<'_>,
    xattrs: impl IntoIterator<Item = (&'x [u8], &'x [u8])>,
) -> Result<()> {
    record.clear();
    record.resize(INODE_BYTES, 0);
    for (name, value) in xattrs {
        encode_xattr(record, name, value)?;
    }
    let xattr_bytes = record.len() - INODE_BYTES;
    let xattr_count = xattr_bytes.checked_sub(XATTR_HEADER_BYTES).map_or(0, |bytes| bytes / 4 + 1);
    let xattr_count = u16::try_from(xattr_count)
        .map_err(|_| unsupported(format!("extended attributes of {xattr_bytes} bytes, more than 256 KiB")))?;
    let kind = content.kind();
    let (layout, size_bytes, union) = encode_body(record, content)?;
    let mode = u16::try_from(metadata.mode & 0o7777).unwrap_or_default() | kind.mode_bits();
    put(record, 0, &(EXTENDED | layout << 1).to_le_bytes());
    put(record, 2, &xattr_count.to_le_bytes());
    put(record, 4, &mode.to_le_bytes());
    put(record, 8, &size_bytes.to_le_bytes());
    put(record, 16, &union.to_le_bytes());
    put(record, 20, &metadata.marks.bits().to_le_bytes());
    put(record, 24, &metadata.uid.to_le_bytes());
    put(record, 28, &metadata.gid.to_le_bytes());
    put(record, 32, &metadata.mtime.0.to_le_bytes());
    put(record, 40, &metadata.mtime.1.to_le_bytes());
    Ok(())
}

/// One `erofs_xattr_entry`, after the header that the first one brings.
fn encode_xattr(record: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<()> {
    let Some((index, short)) = PREFIXES
        .iter()
        .find_map(|(index, prefix)| name.strip_prefix(prefix.as_bytes()).map(|short| (*index, short)))
    else {
        return Err(unsupported(format!(
            "an extended attribute of an unknown class: {}",
            name.escape_ascii()
        )));
    };
    let length = u8::try_from(short.len());
    let (Ok(length), Ok(value_length)) = (length, u16::try_from(value.len())) else {
        return Err(unsupported(format!(
            "the extended attribute {} of {} bytes",
            name[..name.len().min(80)].escape_ascii(),
            value.len()
        )));
    };
    if record.len() == INODE_BYTES {
        record.resize(INODE_BYTES + XATTR_HEADER_BYTES, 0);
    }
    record.extend_from_slice(&[length, index]);
    record.extend_from_slice(&value_length.to_le_bytes());
    record.extend_from_slice(short);
    record.extend_from_slice(value);
    record.resize(record.len().next_multiple_of(4), 0);
    Ok(())
}

/// Appends the body; returns layout, size, and the field that depends on the kind.
fn encode_body(record: &mut Vec<u8>, content: Content<'_>) -> Result<(u16, u64, u32)> {
    Ok(match content {
        Content::Folder => (LAYOUT_INLINE, 0, 0),
        Content::File(chunks) if chunks.size_bytes == 0 => (LAYOUT_PLAIN, 0, NO_BLOCK),
        Content::File(chunks) => {
            record.resize(record.len().next_multiple_of(CHUNK_BYTES), 0);
            for block in chunks.blocks {
                let device = if *block == NO_BLOCK { 0 } else { 1u16 };
                record.extend_from_slice(&[0, 0]);
                record.extend_from_slice(&device.to_le_bytes());
                record.extend_from_slice(&block.to_le_bytes());
            }
            let format = CHUNK_INDEXES | u16::from(chunks.bits - crate::BLOCK_BITS);
            (LAYOUT_CHUNKS, chunks.size_bytes, format.into())
        }
        Content::Symlink(target) if target.len() > MAX_LINK_BYTES => {
            let reason = format!("a link that says {} bytes, more than {MAX_LINK_BYTES}", target.len());
            return Err(unsupported(reason));
        }
        Content::Symlink(target) => {
            record.extend_from_slice(target);
            (LAYOUT_INLINE, target.len() as u64, 0)
        }
        Content::CharDevice(major, minor) | Content::BlockDevice(major, minor) => {
            (LAYOUT_PLAIN, 0, device_number(major, minor)?)
        }
        Content::Fifo => (LAYOUT_PLAIN, 0, 0),
    })
}

/// `new_encode_dev` of the kernel: 12 bits and 20 bits.
fn device_number(major: u32, minor: u32) -> Result<u32> {
    if major > 0xfff || minor > 0xf_ffff {
        return Err(unsupported(format!("the device number {major}:{minor}")));
    }
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

fn unsupported(reason: String) -> Error {
    Error::Unsupported { reason }
}

pub(crate) fn put(bytes: &mut [u8], start: usize, value: &[u8]) {
    bytes[start..start + value.len()].copy_from_slice(value);
}

pub(crate) fn u16_at(bytes: &[u8], start: usize) -> u16 {
    bytes.get(start..start + 2).map_or(0, |field| u16::from_le_bytes([field[0], field[1]]))
}

pub(crate) fn u32_at(bytes: &[u8], start: usize) -> u32 {
    u32::from(u16_at(bytes, start)) | u32::from(u16_at(bytes, start + 2)) << 16
}

pub(crate) fn u64_at(bytes: &[u8], start: usize) -> u64 {
    u64::from(u32_at(bytes, start)) | u64::from(u32_at(bytes, start + 4)) << 32
}

/// A record that is to be looked at. Of bytes that are no record, it gives something, and does not panic.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a>(pub &'a [u8]);

impl<'a> Record<'a> {
    /// What it is; a file when the bytes do not say.
    pub fn kind(&self) -> Kind {
        self.checked_kind().unwrap_or(Kind::File)
    }

    pub(crate) fn checked_kind(&self) -> Option<Kind> {
        Kind::from_mode(u16_at(self.0, 4))
    }

    /// Owner, mode and time.
    pub fn metadata(&self) -> Metadata {
        let marks = u32_at(self.0, 20);
        Metadata {
            mode: u32::from(u16_at(self.0, 4) & 0o7777),
            uid: u32_at(self.0, 24),
            gid: u32_at(self.0, 28),
            mtime: (u64_at(self.0, 32).cast_signed(), u32_at(self.0, 40)),
            marks: Marks {
                is_implicit: marks & 1 != 0,
                is_link_below: marks & 2 != 0,
                has_links_below: marks & 4 != 0,
            },
        }
    }

    /// How many names it has; 0 where it is not in an index yet.
    pub fn links(&self) -> u32 {
        u32_at(self.0, 44)
    }

    /// The length of the file, or of what the link says.
    pub fn size_bytes(&self) -> u64 {
        u64_at(self.0, 8)
    }

    /// Whether it is the character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind() == Kind::CharDevice && u32_at(self.0, 16) == 0
    }

    /// What the link says.
    pub fn target(&self) -> &'a [u8] {
        self.0.get(self.body_start()..).unwrap_or_default()
    }

    /// The attributes, by their whole names.
    pub fn xattrs(&self) -> impl Iterator<Item = (Vec<u8>, &'a [u8])> + use<'a> {
        let start = (INODE_BYTES + XATTR_HEADER_BYTES).min(self.body_start());
        let mut rest = self.0.get(start..self.body_start()).unwrap_or_default();
        std::iter::from_fn(move || {
            let head = rest.get(..4)?;
            let (length, value_length) = (usize::from(head[0]), usize::from(u16_at(head, 2)));
            let prefix = PREFIXES.iter().find(|(index, _)| *index == head[1])?.1;
            let name = [prefix.as_bytes(), rest.get(4..4 + length)?].concat();
            let value = rest.get(4 + length..4 + length + value_length)?;
            rest = rest.get((4 + length + value_length).next_multiple_of(4)..).unwrap_or_default();
            Some((name, value))
        })
    }

    /// Whether there are attributes.
    pub fn has_xattrs(&self) -> bool {
        u16_at(self.0, 2) != 0
    }

    pub(crate) fn layout(&self) -> u16 {
        u16_at(self.0, 0) >> 1 & 7
    }

    pub(crate) fn is_extended(&self) -> bool {
        u16_at(self.0, 0) & !0xe == EXTENDED
    }

    /// Where attributes end and the body begins, without the padding before chunk indexes.
    pub(crate) fn body_start(&self) -> usize {
        let xattrs = usize::from(u16_at(self.0, 2));
        INODE_BYTES + xattrs.checked_sub(1).map_or(0, |more| XATTR_HEADER_BYTES + more * 4)
    }

    /// Size of a chunk as a power of two, and where the chunk indexes begin.
    pub(crate) fn chunks(&self) -> Option<(u32, usize)> {
        let format = u32_at(self.0, 16);
        let is_known = format & !0x1f == u32::from(CHUNK_INDEXES);
        let start = self.body_start().next_multiple_of(CHUNK_BYTES);
        (self.layout() == LAYOUT_CHUNKS && is_known)
            .then_some((u32::from(crate::BLOCK_BITS) + (format & 0x1f), start))
    }
}

/// Points the chunks of a record elsewhere, and takes its marks away: `place` tells the device and block for each block.
pub fn relocate(record: &mut [u8], place: impl Fn(u32) -> (u16, u32)) {
    put(record, 20, &[0; 4]);
    let Some((_, start)) = Record(record).chunks() else { return };
    for chunk in record.get_mut(start..).unwrap_or_default().chunks_exact_mut(CHUNK_BYTES) {
        let block = u32_at(chunk, 4);
        if block != NO_BLOCK {
            let (device, block) = place(block);
            put(chunk, 2, &device.to_le_bytes());
            put(chunk, 4, &block.to_le_bytes());
        }
    }
}
