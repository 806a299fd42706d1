//! What can go wrong with a blob.

use carrack_oci::Digest;

/// The result of a content store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed content store operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store has no such blob.
    #[error("cannot open blob {digest}: it is not in the store")]
    NotFound {
        /// The blob that was asked for.
        digest: Digest,
    },
    /// The bytes are not those that the digest names.
    #[error("digest mismatch: expected {expected}, got {got} after {size_bytes} bytes")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What the bytes hash to.
        got: Digest,
        /// How many bytes were hashed.
        size_bytes: u64,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("size mismatch of {digest}: expected {expected} bytes, got {got}")]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// The descriptor's size in bytes.
        expected: u64,
        /// The bytes that came.
        got: u64,
    },
    /// A document that is larger than any may be.
    #[error("cannot read {digest} as a document: expected at most {limit} bytes, got {got}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The largest document that is read.
        limit: u64,
        /// The blob's size in bytes.
        got: u64,
    },
    /// What a composed blob says that it borrows cannot be.
    #[error("cannot open blob {digest}: what it shares with others is not written down right")]
    Parts {
        /// The blob.
        digest: Digest,
    },
    /// The file system failed.
    #[error(transparent)]
    Io(#[from] carrack_sys::Error),
}
