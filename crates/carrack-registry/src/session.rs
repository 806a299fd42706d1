//! Uploads in progress (distribution-spec, "Pushing blobs"): their files, and what is known of them in memory.
//!
//! Invariants: the first `offset` bytes of an upload's file are those that were received, in order; a write that fails
//! counts for nothing. The hasher has taken exactly these bytes, or is absent and made again from the file. An id is only ever
//! looked up in memory, so a client's text never becomes a path.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use carrack_oci::{Digest, Hasher};
use carrack_sys::{IoContext, atomic};

use crate::Result;
use crate::failure::{Answer, Failure};
use crate::name::RepositoryName;

/// How many uploads may be open; beyond it, those are dropped that nobody has written to for [`CROWDED`].
const MAX_UPLOADS: usize = 1000;
const CROWDED: Duration = Duration::from_secs(600);
/// An upload that nobody writes to for this long is dropped.
pub(crate) const EXPIRY: Duration = Duration::from_secs(24 * 3600);
/// How long a request waits for another one that writes to the same upload.
const TURN: Duration = Duration::from_secs(5);

/// The bytes of a blob that is being received.
pub(crate) struct Upload {
    path: PathBuf,
    /// Names the repository, for the next process; an upload of one request has none, and dies with it.
    record: Option<PathBuf>,
    offset: u64,
    hasher: Option<Hasher>,
    used: Instant,
    is_closed: bool,
}

/// The sole right to change an upload; owned, so that it can go with a job to a blocking thread.
pub(crate) type Turn = tokio::sync::OwnedMutexGuard<Upload>;

impl Upload {
    fn new(path: PathBuf, record: Option<PathBuf>, offset: u64) -> Self {
        let hasher = (offset == 0).then(Hasher::sha256);
        Self { path, record, offset, hasher, used: Instant::now(), is_closed: false }
    }

    /// Where the bytes are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes were received.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    fn file(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&self.path);
        Ok(file.during("open", &self.path)?)
    }

    /// Takes the next bytes. What a failed write leaves behind `offset` is written over, or cut off at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file()?.write_all_at(bytes, self.offset).during("write", &self.path)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.offset += bytes.len() as u64;
        self.used = Instant::now();
        Ok(())
    }

    /// Throws away what follows the first `offset` bytes.
    pub(crate) fn truncate(&mut self, offset: u64) -> Result<()> {
        self.file()?.set_len(offset).during("truncate", &self.path)?;
        (self.offset, self.hasher) = (offset, None);
        Ok(())
    }

    /// Checks that the received bytes have `digest`; where another algorithm was expected, or a restart lost the
    /// state of the hasher, the file is read again.
    pub(crate) fn verify(&mut self, digest: &Digest) -> Answer<()> {
        self.file()?.set_len(self.offset).during("truncate", &self.path)?;
        let kept = self.hasher.take().filter(|_| digest.algorithm() == "sha256");
        let hasher = match kept {
            Some(hasher) => hasher,
            None => self.hash_file(digest.hasher())?,
        };
        let got = hasher.finish();
        if got == *digest {
            return Ok(());
        }
        Err(Failure::DigestMismatch { expected: digest.clone(), got, size_bytes: self.offset })
    }

    fn hash_file(&self, mut hasher: Hasher) -> Result<Hasher> {
        let mut file = File::open(&self.path).during("open", &self.path)?.take(self.offset);
        std::io::copy(&mut file, &mut hasher).during("read", &self.path)?;
        Ok(hasher)
    }

    /// Makes the state of the hasher again after a restart, before more bytes come.
    pub(crate) fn resume(&mut self) -> Result<()> {
        if self.hasher.is_none() {
            self.hasher = Some(self.hash_file(Hasher::sha256())?);
        }
        Ok(())
    }

    /// Ends the upload: whoever waits for it finds it closed. The file goes, unless it was taken as a blob.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.is_closed = true;
        atomic::remove_file(&self.path)?;
        match &self.record {
            Some(record) => Ok(atomic::remove_file(record)?),
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    /// An upload of one request goes with the request, however that ends.
    fn drop(&mut self) {
        if self.record.is_none() && !self.is_closed {
            let _ = atomic::remove_file(&self.path);
        }
    }
}

#[derive(Clone)]
struct Session {
    repository: RepositoryName,
    upload: Arc<tokio::sync::Mutex<Upload>>,
}

/// All uploads in progress.
pub(crate) struct Sessions {
    folder: PathBuf,
    open: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    /// Takes up the uploads that an earlier process left in `folder`; bytes without a record are removed.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        atomic::create_private_dir(&folder)?;
        let mut open = HashMap::new();
        for entry in fs::read_dir(&folder).during("list", &folder)? {
            let path = entry.during("list", &folder)?.path();
            let is_record = path.extension().is_some_and(|kind| kind == "repository");
            if !is_record {
                if !path.with_extension("repository").exists() {
                    atomic::remove_file(&path)?;
                }
                continue;
            }
            let (Some(id), bytes) = (path.file_stem().and_then(|stem| stem.to_str()), atomic::read(&path)?)
            else {
                continue;
            };
            let name = bytes.and_then(|bytes| RepositoryName::parse(std::str::from_utf8(&bytes).ok()?));
            let Some(repository) = name else { continue };
            let file = path.with_extension("");
            let offset = fs::metadata(&file).map_or(0, |metadata| metadata.len());
            let upload = Arc::new(tokio::sync::Mutex::new(Upload::new(file, Some(path.clone()), offset)));
            open.insert(id.to_owned(), Session { repository, upload });
        }
        Ok(Self { folder, open: Mutex::new(open) })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload to `repository`; returns its id.
    pub(crate) fn begin(&self, repository: &RepositoryName) -> Answer<String> {
        if self.sessions().len() >= MAX_UPLOADS {
            self.expire(CROWDED)?;
        }
        if self.sessions().len() >= MAX_UPLOADS {
            return Err(Failure::TooManyRequests { reason: "too many uploads are open", retry_seconds: 60 });
        }
        let id = new_id()?;
        let path = self.folder.join(&id);
        let record = path.with_extension("repository");
        atomic::write(&record, repository.as_str().as_bytes(), 0o600, atomic::Durability::Volatile)?;
        let upload = Arc::new(tokio::sync::Mutex::new(Upload::new(path, Some(record), 0)));
        self.sessions().insert(id.clone(), Session { repository: repository.clone(), upload });
        Ok(id)
    }

    /// An upload that lives as long as one request.
    pub(crate) fn transient(&self) -> Answer<Turn> {
        let upload = Upload::new(self.folder.join(new_id()?), None, 0);
        let turn = Arc::new(tokio::sync::Mutex::new(upload)).try_lock_owned();
        Ok(turn.expect("nobody else knows the upload"))
    }

    /// Waits for the right to change the upload `id` of `repository`.
    pub(crate) async fn turn(&self, repository: &RepositoryName, id: &str) -> Answer<Turn> {
        let unknown = || Failure::UploadUnknown { id: id.chars().take(64).collect() };
        let session = self.sessions().get(id).filter(|session| session.repository == *repository).cloned();
        let upload = session.ok_or_else(unknown)?.upload;
        let busy =
            Failure::TooManyRequests { reason: "another request writes to the upload", retry_seconds: 5 };
        let turn = tokio::time::timeout(TURN, upload.lock_owned()).await.map_err(|_| busy)?;
        if turn.is_closed { Err(unknown()) } else { Ok(turn) }
    }

    /// Forgets an upload that was closed.
    pub(crate) fn forget(&self, id: &str) {
        self.sessions().remove(id);
    }

    /// Drops all uploads that nobody has used for `age`; those in use stay.
    pub(crate) fn expire(&self, age: Duration) -> Result<()> {
        let sessions: Vec<_> =
            self.sessions().iter().map(|(id, session)| (id.clone(), session.upload.clone())).collect();
        for (id, upload) in sessions {
            let Ok(mut upload) = upload.try_lock() else { continue };
            if upload.used.elapsed() >= age {
                upload.close()?;
                self.forget(&id);
            }
        }
        Ok(())
    }
}

/// A random (version 4) UUID: who does not know it cannot write to the upload.
fn new_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::from).during("read", "random numbers")?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let hex = format!("{number:032x}");
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> (tempfile::TempDir, Sessions, RepositoryName) {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(folder.path().join("uploads")).unwrap();
        (folder, sessions, RepositoryName::parse("a").unwrap())
    }

    fn turn(sessions: &Sessions, name: &RepositoryName, id: &str) -> Answer<Turn> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(sessions.turn(name, id))
    }

    #[test]
    fn only_what_nobody_uses_expires() {
        let (folder, sessions, name) = sessions();
        let ids = [sessions.begin(&name).unwrap(), sessions.begin(&name).unwrap()];
        let mut used = turn(&sessions, &name, &ids[0]).unwrap();
        used.append(b"bytes").unwrap();
        sessions.expire(EXPIRY).unwrap();
        drop(turn(&sessions, &name, &ids[1]).unwrap());
        sessions.expire(Duration::ZERO).unwrap();
        assert!(matches!(turn(&sessions, &name, &ids[1]), Err(Failure::UploadUnknown { .. })));
        drop(used);
        drop(turn(&sessions, &name, &ids[0]).unwrap());
        sessions.expire(Duration::ZERO).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    }

    #[test]
    fn the_number_of_uploads_is_bounded() {
        let (_folder, sessions, name) = sessions();
        for _ in 0..MAX_UPLOADS {
            sessions.begin(&name).unwrap();
        }
        assert!(matches!(sessions.begin(&name), Err(Failure::TooManyRequests { .. })));
    }

    #[test]
    fn a_failed_write_counts_for_nothing() {
        let (_folder, sessions, _) = sessions();
        let mut upload = sessions.transient().unwrap();
        upload.append(b"abc").unwrap();
        let path = std::mem::replace(&mut upload.path, "/dev/full".into());
        assert!(upload.append(b"lost").unwrap_err().is_storage_full());
        upload.path = path;
        assert_eq!(upload.offset(), 3);
        fs::write(&upload.path, b"abclo").unwrap();
        upload.verify(&Digest::of(b"abc")).unwrap();
        assert_eq!(fs::read(&upload.path).unwrap(), b"abc");
    }

    #[test]
    fn ids_are_version_4() {
        let id = new_id().unwrap();
        let groups: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!((groups, &id[14..15]), (vec![8, 4, 4, 4, 12], "4"));
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    }
}
