//! The digests of files that have not changed since they were last read, found by what `stat` says of them.
//!
//! Invariant: a digest is kept only for a file that was last changed at least [`SETTLED`] before it was read. A
//! later change in the same tick of the clock could otherwise hide behind the same times.
//!
//! On disk: a magic, then records of 72 bytes in ascending order of device and inode (device, inode, size, mtime and
//! ctime in nanoseconds, each 8 bytes little-endian, and the sha256), then the sha256 of all that. Searched as it
//! lies, never parsed: 5,000 files cost well under a millisecond. A file that does not fit is an empty cache.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carrack_sys::atomic::{self, Durability};
use sha2::{Digest as _, Sha256};

use crate::Result;

const MAGIC: &[u8; 8] = b"carrsc1\n";
const RECORD_BYTES: usize = 72;
const DIGEST_BYTES: usize = 32;
/// More than any context; old records beyond it are dropped.
const MAX_RECORDS: usize = 500_000;
/// Coarser than the clock of any file system that a context lies on (FAT has 2 s).
const SETTLED: Duration = Duration::from_secs(2);

/// A raw sha256.
pub(crate) type ContentDigest = [u8; DIGEST_BYTES];

/// What tells whether a file is the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size_bytes: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
}

/// A persisted cache of digests.
#[derive(Debug)]
pub struct StatCache {
    path: PathBuf,
    records: Vec<u8>,
    learnt: Mutex<BTreeMap<(u64, u64), [u8; RECORD_BYTES]>>,
}

impl StatCache {
    /// Opens the cache in a file that need not exist; its folder must, and must not be writable by others.
    pub fn open(path: &Path) -> Self {
        let bytes = atomic::read(path).ok().flatten().unwrap_or_default();
        let records = checked_records(bytes).unwrap_or_default();
        Self { path: path.to_owned(), records, learnt: Mutex::default() }
    }

    pub(crate) fn get(&self, identity: &Identity) -> Option<ContentDigest> {
        let wanted = identity.record(&[0; DIGEST_BYTES]);
        let count = self.records.len() / RECORD_BYTES;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = &self.records[middle * RECORD_BYTES..(middle + 1) * RECORD_BYTES];
            match record_key(record).cmp(&(identity.device, identity.inode)) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let (stat, digest) = record.split_at(RECORD_BYTES - DIGEST_BYTES);
                    let same = stat == &wanted[..RECORD_BYTES - DIGEST_BYTES];
                    return if same { digest.try_into().ok() } else { None };
                }
            }
        }
        None
    }

    /// Remembers the digest of a file that was read at `read_at`, if it had settled by then.
    pub(crate) fn put(&self, identity: &Identity, digest: &ContentDigest, read_at: SystemTime) {
        let newest = identity.mtime.max(identity.ctime);
        let settled = read_at.checked_sub(SETTLED).and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let settled =
            settled.and_then(|time| Some((i64::try_from(time.as_secs()).ok()?, time.subsec_nanos())));
        if settled.is_some_and(|settled| newest < settled)
            && let Ok(mut learnt) = self.learnt.lock()
        {
            learnt.insert((identity.device, identity.inode), identity.record(digest));
        }
    }

    /// Writes the cache when something was learnt. It can be lost without harm, so it is not synced.
    pub fn save(&self) -> Result<()> {
        let Ok(learnt) = self.learnt.lock() else { return Ok(()) };
        if learnt.is_empty() {
            return Ok(());
        }
        let mut all = learnt.clone();
        for record in self.records.chunks_exact(RECORD_BYTES).take(MAX_RECORDS.saturating_sub(learnt.len())) {
            if let Ok(record) = <[u8; RECORD_BYTES]>::try_from(record) {
                all.entry(record_key(&record)).or_insert(record);
            }
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(all.values().flatten());
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        Ok(atomic::write(&self.path, &bytes, 0o600, Durability::Volatile)?)
    }
}

impl Identity {
    fn record(&self, digest: &ContentDigest) -> [u8; RECORD_BYTES] {
        let nanoseconds = |(seconds, rest): (i64, u32)| {
            seconds.wrapping_mul(1_000_000_000).wrapping_add(i64::from(rest)).cast_unsigned()
        };
        let fields =
            [self.device, self.inode, self.size_bytes, nanoseconds(self.mtime), nanoseconds(self.ctime)];
        let mut record = [0; RECORD_BYTES];
        for (field, target) in fields.iter().zip(record.chunks_exact_mut(8)) {
            target.copy_from_slice(&field.to_le_bytes());
        }
        record[RECORD_BYTES - DIGEST_BYTES..].copy_from_slice(digest);
        record
    }
}

fn record_key(record: &[u8]) -> (u64, u64) {
    let number = |at: usize| record[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    (number(0), number(8))
}

fn checked_records(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let end = bytes.len().checked_sub(DIGEST_BYTES)?;
    let records = end.checked_sub(MAGIC.len())?;
    let sound = bytes.starts_with(MAGIC)
        && records % RECORD_BYTES == 0
        && Sha256::digest(&bytes[..end]).as_slice() == &bytes[end..];
    if !sound {
        return None;
    }
    bytes.truncate(end);
    bytes.drain(..MAGIC.len());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64, seconds: i64) -> Identity {
        Identity { device: 1, inode, size_bytes: 3, mtime: (seconds, 5), ctime: (seconds, 5) }
    }

    #[test]
    fn finds_what_has_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let now = SystemTime::now();
        let cache = StatCache::open(&path);
        for inode in (0..100).rev() {
            cache.put(&identity(inode, 1000), &[u8::try_from(inode).unwrap(); 32], now);
        }
        cache.save().unwrap();
        let cache = StatCache::open(&path);
        assert_eq!(cache.get(&identity(42, 1000)), Some([42; 32]));
        assert_eq!(cache.get(&identity(42, 1001)), None, "its time has changed");
        assert_eq!(cache.get(&identity(100, 1000)), None);
        cache.put(&identity(42, 1001), &[1; 32], now);
        cache.save().unwrap();
        let cache = StatCache::open(&path);
        assert_eq!(cache.get(&identity(42, 1001)), Some([1; 32]));
        assert_eq!(cache.get(&identity(41, 1000)), Some([41; 32]), "old records stay");
    }

    #[test]
    fn does_not_trust_a_file_that_was_changed_just_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let seconds = 1_000_000;
        for (age, trusted) in [(0, false), (1, false), (4, true)] {
            let cache = StatCache::open(&path);
            cache.put(&identity(1, seconds), &[1; 32], UNIX_EPOCH + Duration::from_secs(1_000_000 + age));
            assert_eq!(!cache.learnt.lock().unwrap().is_empty(), trusted, "changed {age} s before");
        }
    }

    #[test]
    fn a_damaged_file_is_an_empty_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let cache = StatCache::open(&path);
        cache.put(&identity(1, 1000), &[1; 32], SystemTime::now());
        cache.save().unwrap();
        let good = std::fs::read(&path).unwrap();
        let flipped: Vec<u8> =
            good.iter().enumerate().map(|(i, b)| if i == 60 { b ^ 1 } else { *b }).collect();
        for bad in [&good[..good.len() - 1], &good[..10], b"", &flipped] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(StatCache::open(&path).get(&identity(1, 1000)), None);
        }
    }
}
