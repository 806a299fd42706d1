//! I/O errors that name the verb and the path.

use std::io;
use std::path::{Path, PathBuf};

/// The result of an operation on a file or the kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed system call: what was done, to what, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}: {source}", path.display())]
pub struct Error {
    /// What was tried, as in "open".
    pub verb: &'static str,
    /// The object of the verb; not always a file ("cgroup /a", "netns").
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl Error {
    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the object exists already.
    pub fn is_already_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

/// Adds verb and path to a bare I/O error.
pub trait IoContext<T> {
    /// `result.during("open", path)?`
    fn during(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn during(self, verb: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error { verb, path: path.as_ref().to_owned(), source: source.into() })
    }
}
