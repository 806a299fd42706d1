//! What goes wrong with a layer: the archive, an entry of it, or the file system.

use std::io;
use std::path::PathBuf;

/// The result of an operation on a layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a layer could not be read, applied or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no tar archive, or one that is ambiguous.
    #[error("cannot read the tar archive at byte {offset}: {reason}")]
    Format {
        /// Where the header in question begins.
        offset: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// The archive ends within an entry.
    #[error("cannot read the tar archive: it ends at byte {offset}, within an entry")]
    Truncated {
        /// How many bytes there were.
        offset: u64,
    },
    /// The archive has more bytes than the caller allows.
    #[error("cannot read the tar archive: it has more than {limit_bytes} bytes")]
    TooLarge {
        /// The bound that was given.
        limit_bytes: u64,
    },
    /// The source of the archive failed: decompression, network, disk.
    #[error("cannot read the tar archive: {source}")]
    Read {
        /// What the source said.
        source: io::Error,
    },
    /// The sink of the archive failed.
    #[error("cannot write the tar archive: {source}")]
    Write {
        /// What the sink said.
        source: io::Error,
    },
    /// An entry or a file that must not or cannot be put into a file system or an archive.
    #[error("cannot accept {}: {reason}", path.display())]
    Refused {
        /// Its path in the archive or below the root.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file system refused an entry.
    #[error("cannot unpack {}: {source}", path.display())]
    Unpack {
        /// The path of the entry in the archive.
        path: PathBuf,
        /// What the file system said.
        source: carrack_sys::Error,
    },
    /// The index could not be written or read; too many entries are [`carrack_erofs::Error::TooLarge`].
    #[error(transparent)]
    Index(#[from] carrack_erofs::Error),
    /// The file system failed.
    #[error(transparent)]
    System(#[from] carrack_sys::Error),
}
