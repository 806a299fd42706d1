//! EROFS images that hold names and metadata only: *indexes*. The data of files stay where they are, in a tar.
//!
//! Invariant: the bytes of an index depend on the entries alone; what is read back is checked against its bounds, so
//! that a damaged disk gives an error.
//!
//! The format is that of Linux (`fs/erofs/erofs_fs.h`, `Documentation/filesystems/erofs.rst`), in blocks of 512 bytes,
//! because that is the unit of a tar. What we write of it:
//!
//! ```text
//! 0      1024        1152                 A                  B                    D
//! │ zero │ superblock │ device table       │ folders          │ all other inodes   │ blocks of folders │
//! │      │ 128 bytes  │ 128 bytes a device │ root first       │ in order of entry  │ 512 bytes each    │
//!
//! an inode, at a multiple of 32 (its place / 32 is its number, the nid):
//! │ erofs_inode_extended, 64 bytes │ inline attributes │ body                                           │
//!                                                      folder: its last block of names, if it fits
//!                                                      link:   what it says, if it fits (else blocks before it)
//!                                                      file:   chunk indexes, 8 bytes each, at a multiple of 8
//!
//! a chunk index:  │ 0 │ device, from 1 │ place in the device, in blocks │      -1: a hole
//! a device:       the tar of a layer; the mount option `device=` names them in the order of the table
//! ```
//!
//! A chunk is as large as the file, so that an ordinary file has one chunk index. The root must come first, because
//! the superblock has 16 bits for its number. A folder is written before its entries have a place in the file, so the
//! parts are written in the order B, D, header, A.
//!
//! `i_ino` is read by kernels of 32 bits only. It has our [marks](Marks).

mod chunks;
mod dirent;
mod error;
mod image;
mod inode;
mod reader;
mod records;
mod superblock;
mod table;
mod tree;

pub use chunks::{Chunks, Segment, place};
pub use dirent::{Dirent, dirents};
pub use error::{Error, Result};
pub use image::{Image, Written, write};
pub use inode::{Content, Kind, Marks, Metadata, Record, encode, relocate};
pub use reader::{Folder, Reader};
pub use records::{Records, Scratch};
pub use superblock::Device;
pub use tree::{InodeId, Limits, NodeId, Tree};

/// The unit of places and of folders.
pub const BLOCK_BYTES: u64 = 512;

const BLOCK_BITS: u8 = 9;
/// Inodes begin at multiples of this.
const SLOT_BYTES: u64 = 32;
