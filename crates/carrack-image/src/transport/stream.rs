//! A tar that comes as a stream (a pipe, or compressed): its files go straight into the content store, so that a layer
//! is written once and is where a pull looks for it.
//!
//! Invariant: memory is bounded, and what is stored is named by its own digest: an archive that turns out broken
//! leaves only blobs that nothing names, which are garbage.

use std::io::{BufRead, Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;

use carrack_content::ContentStore;
use carrack_layer::compression;
use carrack_layer::tar::{EntryKind, Reader};
use carrack_oci::Digest;
use carrack_sys::IoContext;

use super::files::{Files, Opened};
use super::names::Names;
use crate::Result;

/// Documents of usual length stay in memory; writing each to disk takes longer than all else.
const MAX_KEPT_BYTES: u64 = 64 << 10;
const MAX_ALL_KEPT_BYTES: u64 = 16 << 20;

/// An archive whose files have been taken from a stream.
pub(super) struct StreamedArchive {
    content: ContentStore,
    names: Names<Data>,
}

#[derive(Clone)]
enum Data {
    Kept(Arc<[u8]>),
    Stored { digest: Digest, size_bytes: u64 },
}

impl StreamedArchive {
    /// Reads `source` to its end, compressed or not; `path` is for messages.
    pub fn read(source: impl Read + Send, path: &Path, content: &ContentStore) -> Result<Self> {
        let (_, tar) = compression::auto(source).during("read", path)?;
        let mut archive = Self { content: content.clone(), names: Names::new(path) };
        let mut reader = Reader::new(tar);
        let mut left_bytes = MAX_ALL_KEPT_BYTES;
        while let Some(entry) = reader.next_entry().map_err(|error| archive.refuse(&error))? {
            let data = match entry.kind {
                EntryKind::File if entry.size_bytes <= left_bytes.min(MAX_KEPT_BYTES) => {
                    left_bytes -= entry.size_bytes;
                    let mut bytes = Vec::new();
                    reader.read_to_end(&mut bytes).during("read", path)?;
                    Data::Kept(bytes.into())
                }
                EntryKind::File => archive.store(&mut reader)?,
                _ => Data::Kept(Arc::default()),
            };
            archive.names.add(&entry.path, entry.kind, data)?;
        }
        reader.finish().map_err(|error| archive.refuse(&error))?;
        Ok(archive)
    }

    /// Whether the archive has a file of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn store(&self, reader: &mut Reader<impl BufRead>) -> Result<Data> {
        let mut writer = self.content.writer()?;
        loop {
            let chunk = reader.next_chunk().map_err(|error| self.refuse(&error))?;
            if chunk.is_empty() {
                break;
            }
            writer.write_all(chunk).during("copy a file of", self.names.path())?;
        }
        let (digest, size_bytes) = writer.commit()?;
        Ok(Data::Stored { digest, size_bytes })
    }

    fn refuse(&self, error: &carrack_layer::Error) -> crate::Error {
        self.names.refuse(error.to_string())
    }
}

impl Files for StreamedArchive {
    fn open(&self, name: &str) -> Result<Option<Opened>> {
        Ok(match self.names.find(name)? {
            None => None,
            Some(Data::Kept(bytes)) => {
                let reader = Box::new(Cursor::new(Arc::clone(bytes)));
                Some(Opened { size_bytes: bytes.len() as u64, reader })
            }
            Some(Data::Stored { digest, size_bytes }) => {
                let reader = Box::new(self.content.open_blob(digest)?);
                Some(Opened { size_bytes: *size_bytes, reader })
            }
        })
    }

    fn path(&self) -> &Path {
        self.names.path()
    }
}
