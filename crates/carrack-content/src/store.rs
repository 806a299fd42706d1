//! The store: lookup, reading, deletion; writing is in `ingest` and `writer`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use carrack_oci::{Descriptor, Digest, MAX_DOCUMENT_BYTES};
use carrack_sys::{IoContext, atomic, tree};

use crate::writer::CACHED_BYTES;
use crate::{BlobWriter, Error, Ingest, Result, ScratchWriter};

/// Most documents are read by one call into a buffer of this size.
const USUAL_DOCUMENT_BYTES: usize = 16 << 10;

/// A folder of blobs; several processes may use one at the same time.
#[derive(Clone, Debug)]
pub struct ContentStore {
    root: PathBuf,
}

impl ContentStore {
    /// Opens the store at `root`, making it where it does not exist (mode 0700).
    pub fn open(root: &Path) -> Result<Self> {
        for folder in ["blobs/sha256", "blobs/sha512", "ingest"] {
            let path = root.join(folder);
            if !path.is_dir() {
                atomic::create_private_dir(&path)?;
            }
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The size of a blob in bytes; `None` when the store does not have it.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.composed_size(digest),
            Err(error) => Err(error).during("look up", &path).map_err(Error::from),
        }
    }

    /// Opens the file of a blob that is whole: a document, or anything in a store where nothing borrows.
    pub fn open_file(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::NotFound { digest: digest.clone() })
            }
            result => Ok(result.during("open", &path)?),
        }
    }

    /// Reads a manifest, index or config whole (at most 4 MiB), and verifies it again.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let file = self.open_file(digest)?;
        let mut bytes = Vec::with_capacity(USUAL_DOCUMENT_BYTES);
        let limit = MAX_DOCUMENT_BYTES;
        file.take(limit + 1).read_to_end(&mut bytes).during("read", self.blob_path(digest))?;
        let got_bytes = bytes.len() as u64;
        if got_bytes > limit {
            return Err(Error::TooLarge { digest: digest.clone(), limit, got: got_bytes });
        }
        let mut hasher = digest.hasher();
        hasher.update(&bytes);
        let got = hasher.finish();
        if got != *digest {
            return Err(Error::DigestMismatch { expected: digest.clone(), got, size_bytes: got_bytes });
        }
        Ok(bytes)
    }

    /// Stores `bytes`; they are durable when this returns.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(&digest)? != Some(bytes.len() as u64) {
            atomic::write(&self.blob_path(&digest), bytes, 0o600, atomic::Durability::Durable)?;
        }
        Ok(digest)
    }

    /// Begins or resumes writing the blob of `descriptor`; waits for another process that writes the same one.
    pub fn ingest(&self, descriptor: &Descriptor) -> Result<Ingest> {
        Ingest::open(self, descriptor)
    }

    /// Begins writing a blob whose digest is not known before its last byte.
    pub fn writer(&self) -> Result<BlobWriter> {
        BlobWriter::create(self, u64::MAX)
    }

    /// The same for a blob that comes from elsewhere. Of a large one only the beginning is in the kernel's cache then:
    /// most of what is brought is not read soon.
    pub fn bulk_writer(&self) -> Result<BlobWriter> {
        BlobWriter::create(self, CACHED_BYTES)
    }

    /// Begins writing bytes that are needed once, on the file system of the store.
    pub fn scratch(&self) -> Result<ScratchWriter> {
        ScratchWriter::create(self)
    }

    /// Takes a complete and verified file of the same file system as the blob `digest`: synced, then named.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<()> {
        File::open(file).and_then(|file| file.sync_data()).during("sync", file)?;
        let path = self.blob_path(digest);
        fs::rename(file, &path).during("rename to", &path)?;
        Ok(atomic::sync_parent(&path)?)
    }

    /// Makes the names that [`BlobWriter::commit_unsynced`] has given durable.
    pub fn sync_names(&self) -> Result<()> {
        for folder in ["blobs/sha256", "composed"].map(|folder| self.root.join(folder)) {
            if folder.is_dir() {
                atomic::sync_parent(&folder.join("any"))?;
            }
        }
        Ok(())
    }

    /// Deletes a blob; one that does not exist is deleted already.
    pub fn delete(&self, digest: &Digest) -> Result<()> {
        atomic::remove_file(&self.blob_path(digest))?;
        self.delete_composed(digest)
    }

    /// All blobs with their sizes in bytes, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let folder = self.root.join("blobs").join(algorithm);
            for entry in fs::read_dir(&folder).during("list", &folder)? {
                let entry = entry.during("list", &folder)?;
                let Some(hex) = entry.file_name().to_str().map(str::to_owned) else { continue };
                let Ok(digest) = format!("{algorithm}:{hex}").parse() else { continue };
                blobs.push((digest, entry.metadata().during("look up", entry.path())?.len()));
            }
        }
        for digest in self.names_in::<Vec<_>>("composed")? {
            if !self.blob_path(&digest).exists()
                && let Some(size_bytes) = self.size(&digest)?
            {
                blobs.push((digest, size_bytes));
            }
        }
        Ok(blobs)
    }

    /// What writers are at, or what they and deletions have left that crashed or were cancelled.
    pub fn ingests(&self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for folder in ["ingest", "blobs/sha256", "blobs/sha512"] {
            let folder = self.root.join(folder);
            for entry in fs::read_dir(&folder).during("list", &folder)? {
                let path = entry.during("list", &folder)?.path();
                if folder.ends_with("ingest") || path.extension().is_some_and(|kind| kind == "tmp") {
                    paths.push(path);
                }
            }
        }
        paths.extend(self.half_deleted()?);
        Ok(paths)
    }

    /// Removes what [`ContentStore::ingests`] finds; needs that nobody writes.
    pub fn clear_ingests(&self) -> Result<()> {
        self.ingests()?.iter().try_for_each(|path| Ok(tree::remove_tree(path)?))
    }

    /// Where a blob is or would be, for handing its file on without copying.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn ingest_path(&self, name: &str) -> PathBuf {
        self.root.join("ingest").join(name)
    }
}
