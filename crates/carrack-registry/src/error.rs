//! Why a registry cannot be started or its storage fails.

use std::path::PathBuf;

/// The result of a registry operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the server itself; what a client did wrong is answered on the wire.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server process uses the folder.
    #[error("cannot serve {}: another process serves it", root.display())]
    InUse {
        /// The registry's folder.
        root: PathBuf,
    },
    /// The password file is not one.
    #[error("cannot read {}: line {line}: {reason}", path.display())]
    Htpasswd {
        /// The password file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong there; never a part of the line.
        reason: &'static str,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use {} for TLS: {reason}", path.display())]
    Tls {
        /// The certificate or key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record in the registry's folder is not what was written there.
    #[error("cannot read {}: expected {expected}", path.display())]
    Record {
        /// The record's file.
        path: PathBuf,
        /// What should stand in it.
        expected: &'static str,
    },
    /// A worker thread ended before its work was done.
    #[error("cannot finish a request: {reason}")]
    Worker {
        /// What the runtime says.
        reason: String,
    },
    /// The content store failed.
    #[error(transparent)]
    Content(#[from] carrack_content::Error),
    /// The file system or the network failed.
    #[error(transparent)]
    Io(#[from] carrack_sys::Error),
}

impl Error {
    /// Whether the disk is full.
    pub(crate) fn is_storage_full(&self) -> bool {
        let io = match self {
            Self::Io(error) | Self::Content(carrack_content::Error::Io(error)) => error,
            _ => return false,
        };
        matches!(io.source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }
}
