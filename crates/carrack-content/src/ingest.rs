//! Writing a blob whose digest is known: resumable across processes, verified while it is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use carrack_oci::{Descriptor, Digest, Hasher};
use carrack_sys::lock::Lock;
use carrack_sys::{IoContext, atomic};

use crate::{ContentStore, Error, Result};

/// A write in progress. Dropped without [`Ingest::commit`], its bytes stay for the next process to resume.
pub struct Ingest {
    store: ContentStore,
    digest: Digest,
    size_bytes: u64,
    path: PathBuf,
    /// `None` when the store has the blob already.
    partial: Option<Partial>,
}

struct Partial {
    file: File,
    hasher: Hasher,
    offset: u64,
    lock: Lock,
}

impl Ingest {
    pub(crate) fn open(store: &ContentStore, descriptor: &Descriptor) -> Result<Self> {
        let digest = descriptor.digest.clone();
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        let path = store.ingest_path(&name);
        let size_bytes = descriptor.size;
        let mut ingest = Self { store: store.clone(), digest, size_bytes, path, partial: None };
        if !ingest.is_stored()? {
            let lock = Lock::exclusive(&store.ingest_path(&format!("{name}.lock")))?;
            if !ingest.is_stored()? {
                ingest.partial = Some(ingest.resume(lock)?);
            }
        }
        Ok(ingest)
    }

    /// Whether the blob is in the store; a blob of another size than the descriptor's is an error.
    fn is_stored(&self) -> Result<bool> {
        match self.store.size(&self.digest)? {
            None => Ok(false),
            Some(size) if size == self.size_bytes => Ok(true),
            Some(got) => Err(self.size_mismatch(got)),
        }
    }

    fn size_mismatch(&self, got: u64) -> Error {
        Error::SizeMismatch { digest: self.digest.clone(), expected: self.size_bytes, got }
    }

    /// Hashes what an earlier process wrote; its bytes may be wrong, which the digest at the end tells.
    fn resume(&self, lock: Lock) -> Result<Partial> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&self.path).during("open", &self.path)?;
        let mut hasher = self.digest.hasher();
        let mut offset = 0;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let count = file.read(&mut buffer).during("read", &self.path)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            offset += count as u64;
        }
        let mut partial = Partial { file, hasher, offset, lock };
        if offset > self.size_bytes {
            partial.truncate(&self.digest).during("truncate", &self.path)?;
        }
        Ok(partial)
    }

    /// Whether the store has the blob already, so that nothing needs to be written.
    pub fn is_complete(&self) -> bool {
        self.partial.is_none()
    }

    /// How many bytes are written: where to go on.
    pub fn offset(&self) -> u64 {
        self.partial.as_ref().map_or(self.size_bytes, |partial| partial.offset)
    }

    /// Throws away what is written.
    pub fn restart(&mut self) -> Result<()> {
        let Some(partial) = &mut self.partial else { return Ok(()) };
        Ok(partial.truncate(&self.digest).during("truncate", &self.path)?)
    }

    /// Opens what is written, from its first byte on.
    pub fn written(&self) -> Result<File> {
        Ok(File::open(&self.path).during("open", &self.path)?)
    }

    /// Checks size and digest, syncs, and names the blob. Bytes that turn out wrong are thrown away.
    pub fn commit(mut self) -> Result<()> {
        let Some(partial) = self.partial.take() else { return Ok(()) };
        let lock = self.check(partial)?;
        self.store.adopt(&self.path, &self.digest)?;
        self.remove_lock(lock)
    }

    /// Checks size and digest, and throws the bytes away: whoever read them along has what was wanted of them.
    pub fn finish(mut self) -> Result<()> {
        let Some(partial) = self.partial.take() else { return Ok(()) };
        let lock = self.check(partial)?;
        atomic::remove_file(&self.path)?;
        self.remove_lock(lock)
    }

    /// Throws away what is written: it is not needed.
    pub fn discard(mut self) -> Result<()> {
        let Some(partial) = self.partial.take() else { return Ok(()) };
        atomic::remove_file(&self.path)?;
        self.remove_lock(partial.lock)
    }

    /// Wrong bytes are thrown away, too few are kept.
    fn check(&self, partial: Partial) -> Result<Lock> {
        if partial.offset < self.size_bytes {
            return Err(self.size_mismatch(partial.offset));
        }
        let Partial { hasher, offset, lock, .. } = partial;
        let got = hasher.finish();
        if got != self.digest {
            atomic::remove_file(&self.path)?;
            return Err(Error::DigestMismatch { expected: self.digest.clone(), got, size_bytes: offset });
        }
        Ok(lock)
    }

    /// The lock's file goes while the lock is held. Who waits for it gets a lock on a file without a name, sees that
    /// the blob is there, and is done.
    fn remove_lock(&self, lock: Lock) -> Result<()> {
        atomic::remove_file(&self.path.with_extension("lock"))?;
        drop(lock);
        Ok(())
    }
}

impl Partial {
    fn truncate(&mut self, digest: &Digest) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.offset = 0;
        self.hasher = digest.hasher();
        Ok(())
    }
}

impl Write for Ingest {
    /// Refuses bytes beyond the descriptor's size.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(partial) = &mut self.partial else { return Ok(bytes.len()) };
        if partial.offset + bytes.len() as u64 > self.size_bytes {
            let got = partial.offset + bytes.len() as u64;
            let error = Error::SizeMismatch { digest: self.digest.clone(), expected: self.size_bytes, got };
            return Err(io::Error::other(error));
        }
        let count = partial.file.write(bytes)?;
        partial.hasher.update(&bytes[..count]);
        partial.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ContentStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path()).unwrap();
        (folder, store)
    }

    fn is_empty(folder: &std::path::Path) -> bool {
        std::fs::read_dir(folder).unwrap().next().is_none()
    }

    #[test]
    fn resumes_what_an_earlier_writer_left() {
        let (folder, store) = store();
        let descriptor = Descriptor::of("x", b"hello world");
        let mut first = store.ingest(&descriptor).unwrap();
        first.write_all(b"hello ").unwrap();
        drop(first);
        let mut second = store.ingest(&descriptor).unwrap();
        assert_eq!(second.offset(), 6);
        second.write_all(b"world").unwrap();
        second.commit().unwrap();
        assert_eq!(store.read(&descriptor.digest).unwrap(), b"hello world");
        assert!(store.ingest(&descriptor).unwrap().is_complete());
        assert!(is_empty(&folder.path().join("ingest")));
    }

    #[test]
    fn refuses_wrong_short_and_long_bytes() {
        let (folder, store) = store();
        let descriptor = Descriptor::of("x", b"hello");
        let mut wrong = store.ingest(&descriptor).unwrap();
        wrong.write_all(b"jello").unwrap();
        assert!(matches!(wrong.commit(), Err(Error::DigestMismatch { size_bytes: 5, .. })));
        assert!(!folder.path().join("ingest").join(format!("sha256-{}", descriptor.digest.hex())).exists());
        let mut short = store.ingest(&descriptor).unwrap();
        assert_eq!(short.offset(), 0, "wrong bytes are not resumed");
        short.write_all(b"hell").unwrap();
        assert!(matches!(short.commit(), Err(Error::SizeMismatch { expected: 5, got: 4, .. })));
        let mut long = store.ingest(&descriptor).unwrap();
        assert!(long.write_all(b"ooo").unwrap_err().to_string().contains("size mismatch"));
        assert_eq!(store.size(&descriptor.digest).unwrap(), None);
    }

    #[test]
    fn a_second_writer_waits_and_finds_the_blob() {
        let (_folder, store) = store();
        let descriptor = Descriptor::of("x", b"hello");
        let mut first = store.ingest(&descriptor).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| store.ingest(&descriptor).unwrap().is_complete());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!second.is_finished(), "one writer a digest");
            first.write_all(b"hello").unwrap();
            first.commit().unwrap();
            assert!(second.join().unwrap());
        });
    }
}
