//! What goes wrong with an index.

use std::io;

/// The result of an operation on an index.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an index could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than is kept in memory or than the format can hold.
    #[error("cannot index more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// As much would be possible.
        limit: u64,
    },
    /// An entry that the format cannot hold.
    #[error("cannot index it: {reason}")]
    Unsupported {
        /// Why.
        reason: String,
    },
    /// The bytes are not those of an index.
    #[error("cannot read the index at byte {offset}: {reason}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What was expected.
        reason: &'static str,
    },
    /// The file system failed.
    #[error("cannot {verb} the index: {source}")]
    Io {
        /// What was being done.
        verb: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(verb: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { verb, source }
    }
}
