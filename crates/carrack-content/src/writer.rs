//! Writing a blob whose digest is known only at its end: layers of a build, imported archives.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use carrack_oci::{Digest, Hasher};
use carrack_sys::{IoContext, atomic};

use crate::blocks::ReadAt;
use crate::{BlockWriter, ContentStore, Error, Parts, Result};

/// As much of a blob that comes from elsewhere goes through the kernel's cache.
pub(crate) const CACHED_BYTES: u64 = 16 << 20;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A write in progress; dropped without [`BlobWriter::commit`], it leaves nothing.
pub struct BlobWriter {
    store: ContentStore,
    path: PathBuf,
    blocks: BlockWriter,
    hasher: Hasher,
    size_bytes: u64,
}

impl BlobWriter {
    pub(crate) fn create(store: &ContentStore, cached_bytes: u64) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = store.ingest_path(&format!("new-{}-{number}", std::process::id()));
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).during("create", &path)?;
        let blocks = BlockWriter::new(file, cached_bytes);
        Ok(Self { store: store.clone(), path, blocks, hasher: Hasher::sha256(), size_bytes: 0 })
    }

    /// Syncs and names the blob; returns its digest and size in bytes.
    pub fn commit(self) -> Result<(Digest, u64)> {
        let store = self.store.clone();
        let named = self.commit_unsynced()?;
        store.sync_names()?;
        Ok(named)
    }

    /// The same, but the name is durable only after [`ContentStore::sync_names`], or a sync of the whole file system.
    pub fn commit_unsynced(self) -> Result<(Digest, u64)> {
        self.commit_composed(&Parts::default())
    }

    /// Takes the next bytes, which another blob has too: whole pages of them are not written, unless
    /// [`BlobWriter::write_after_all`] says so. What is left out is named in [`BlobWriter::commit_composed`].
    pub fn leave_out(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.blocks.leave_out(bytes)?;
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes what was left out from `start` on, as `read` has it at places of the blob.
    pub fn write_after_all(&mut self, range: Range<u64>, read: &ReadAt<'_>) -> io::Result<()> {
        self.blocks.write_after_all(range, read)
    }

    /// [`BlobWriter::commit_unsynced`] for a blob of which `parts` were left out.
    pub fn commit_composed(mut self, parts: &Parts) -> Result<(Digest, u64)> {
        let digest = self.digest();
        if self.store.size(&digest)? == Some(self.size_bytes) {
            return Ok((digest, self.size_bytes));
        }
        // What others borrow from it must be in it, and not in others, nor in itself.
        if parts.is_empty() || self.store.is_lender(&digest)? {
            return self.commit_whole(parts);
        }
        self.sync_data()?;
        self.store.name_composed(&self.path, &digest, parts)?;
        Ok((digest, self.size_bytes))
    }

    /// [`BlobWriter::commit_unsynced`] for a blob of which `parts` were left out, and shall be in it after all.
    pub fn commit_whole(mut self, parts: &Parts) -> Result<(Digest, u64)> {
        let digest = self.digest();
        if self.store.size(&digest)? != Some(self.size_bytes) {
            self.fill_in(parts)?;
            self.name_whole(&digest)?;
        }
        Ok((digest, self.size_bytes))
    }

    /// Syncs what was written, and names it, if it is `expected`.
    pub(crate) fn name_whole(&mut self, expected: &Digest) -> Result<()> {
        let got = self.digest();
        if got != *expected {
            let (expected, size_bytes) = (expected.clone(), self.size_bytes);
            return Err(Error::DigestMismatch { expected, got, size_bytes });
        }
        self.sync_data()?;
        let path = self.store.blob_path(expected);
        Ok(std::fs::rename(&self.path, &path).during("rename to", &path)?)
    }

    fn sync_data(&mut self) -> Result<()> {
        let file = self.blocks.finish().during("write", &self.path)?;
        // What is left out at the end counts too.
        file.set_len(self.size_bytes).during("write", &self.path)?;
        Ok(file.sync_data().during("sync", &self.path)?)
    }

    /// The digest of what has come.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Writes all that was left out.
    fn fill_in(&mut self, parts: &Parts) -> Result<()> {
        for part in parts.parts() {
            let lender = &parts.lenders()[part.lender].digest;
            let path = self.store.own_bytes(lender);
            let file = File::open(&path).during("open", &path)?;
            let read = |buffer: &mut [u8], offset: u64| {
                file.read_exact_at(buffer, part.lender_offset + (offset - part.offset))
            };
            let range = part.offset..part.offset + part.size_bytes;
            self.blocks.write_after_all(range, &read).during("write", &self.path)?;
        }
        Ok(())
    }
}

/// Bytes that are hashed and never named: gone with the last handle on their file.
pub struct ScratchWriter {
    file: File,
    hasher: Hasher,
    size_bytes: u64,
}

impl ScratchWriter {
    pub(crate) fn create(store: &ContentStore) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = store.ingest_path(&format!("new-{}-{number}", std::process::id()));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).during("create", &path)?;
        atomic::remove_file(&path)?;
        Ok(Self { file, hasher: Hasher::sha256(), size_bytes: 0 })
    }

    /// Digest and size in bytes of what was written, and the file to read it from.
    pub fn finish(self) -> (Digest, u64, File) {
        (self.hasher.finish(), self.size_bytes, self.file)
    }
}

impl Write for ScratchWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let _ = atomic::remove_file(&self.path);
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.blocks.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scratch_has_a_digest_and_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        let mut scratch = store.scratch().unwrap();
        scratch.write_all(b"hello").unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("ingest")).unwrap().count(), 0);
        let (digest, size_bytes, file) = scratch.finish();
        assert_eq!((digest, size_bytes), (Digest::of(b"hello"), 5));
        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn names_the_blob_by_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        drop({
            let mut abandoned = store.writer().unwrap();
            abandoned.write_all(b"abandoned").unwrap();
            abandoned
        });
        let mut writer = store.writer().unwrap();
        writer.write_all(b"hello").unwrap();
        assert_eq!(writer.commit().unwrap(), (Digest::of(b"hello"), 5));
        assert_eq!(store.list().unwrap(), [(Digest::of(b"hello"), 5)]);
        assert_eq!(std::fs::read_dir(folder.path().join("ingest")).unwrap().count(), 0);
    }
}
