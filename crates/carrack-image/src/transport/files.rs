//! Named files of a layout, whether it is a folder or an archive.
//!
//! Invariant: a name never leads out of the folder, and only regular files are read: a link to a device or a FIFO
//! cannot hang or feed the reader.

use std::io::Read;
use std::path::Path;

use carrack_oci::{Descriptor, Digest, MAX_DOCUMENT_BYTES};
use carrack_sys::{IoContext, rooted};

use super::verified;
use crate::{Error, Result};

/// A file that is open for reading.
pub(super) struct Opened {
    pub size_bytes: u64,
    pub reader: Box<dyn Read + Send>,
}

/// The files of a folder or an archive.
pub(super) trait Files: Send + Sync {
    /// Opens a regular file; `None` when there is none of this name.
    fn open(&self, name: &str) -> Result<Option<Opened>>;

    /// The folder or archive, for messages.
    fn path(&self) -> &Path;

    /// Reads a document of at most 4 MiB.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(opened) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let at = self.path().join(name);
        opened.reader.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).during("read", &at)?;
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            let reason =
                format!("{name}: expected at most {MAX_DOCUMENT_BYTES} bytes, got {}", opened.size_bytes);
            return Err(Error::Format { kind: "document", path: self.path().to_owned(), reason });
        }
        Ok(Some(bytes))
    }

    /// Reads a manifest, index or config that is stored as `name`, and verifies it.
    fn read_verified(&self, name: &str, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.read(name)?.ok_or_else(|| self.missing(&descriptor.digest))?;
        verified::document(descriptor, &bytes)?;
        Ok(bytes)
    }

    /// Opens a blob that is stored as `name`; its size is checked.
    fn open_blob(&self, name: &str, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let opened = self.open(name)?.ok_or_else(|| self.missing(&descriptor.digest))?;
        verified::size(descriptor, opened.size_bytes)?;
        Ok(Box::new(opened.reader.take(descriptor.size)))
    }

    fn missing(&self, digest: &Digest) -> Error {
        Error::BlobNotFound { digest: digest.clone(), path: self.path().to_owned() }
    }
}

/// Where a layout keeps a blob (image-layout.md, "Blobs").
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// A folder on disk.
pub(super) struct Folder {
    root: rooted::Root,
}

impl Folder {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { root: rooted::Root::open(path)? })
    }
}

impl Files for Folder {
    fn open(&self, name: &str) -> Result<Option<Opened>> {
        let file = match self.root.open_file(name) {
            Err(error) if error.is_not_found() => return Ok(None),
            result => result?,
        };
        let size_bytes = file.metadata().during("look up", self.path().join(name))?.len();
        Ok(Some(Opened { size_bytes, reader: Box::new(file) }))
    }

    fn path(&self) -> &Path {
        self.root.name()
    }
}
