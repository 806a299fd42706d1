//! Tar archives (POSIX.1-2024 `pax`, "ustar Interchange Format" and "pax Interchange Format"; GNU long names).
//!
//! Streaming in both directions. The reader takes what Docker's Go reader takes, and refuses where readers are known
//! to disagree: two sizes for one entry, repeated keys, sizes of entries that have no data. Sparse files are for those who ask.

use std::ffi::OsString;
use std::path::PathBuf;

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use carrack_erofs::Segment;
pub use reader::{Data, Reader};
pub use writer::Writer;

/// The unit of a tar archive.
pub(crate) const BLOCK_BYTES: usize = 512;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its data follow.
    File,
    /// A folder.
    Directory,
    /// A symbolic link to `target`.
    Symlink {
        /// What the link says.
        target: PathBuf,
    },
    /// Another name of an earlier entry.
    Hardlink {
        /// The path of the earlier entry, relative to the root of the archive.
        target: PathBuf,
    },
    /// A character device node.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device node.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// One entry of an archive, without its data. Paths are as the archive has them: not checked, maybe not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name, without the `/` that marks folders at its end.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// The low 12 bits of the mode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Length of the file; 0 for all but regular files. Its data follow, of a sparse file only the parts that it has.
    pub size_bytes: u64,
    /// Extended attributes, in the order of the archive.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}
