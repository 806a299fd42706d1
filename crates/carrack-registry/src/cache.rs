//! Manifests in memory: what a tag or digest names, and the bytes, so that the request that every pull begins with
//! touches no file.
//!
//! Invariant: a value is never older than the last change that [`ManifestCache::forget`] was told of. A value that
//! was being read from disk while something changed is not taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use carrack_oci::Digest;
use hyper::body::Bytes;

use crate::name::{ManifestKey, RepositoryName};

/// All manifests together; beyond it the cache begins again with nothing.
const MAX_BYTES: usize = 64 << 20;
/// What an entry costs besides its bytes, about.
const ENTRY_BYTES: usize = 512;

/// A manifest as it was pushed.
#[derive(Debug)]
pub(crate) struct StoredManifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The `Content-Type` it was pushed with.
    pub media_type: String,
    /// The exact bytes.
    pub bytes: Bytes,
}

/// See the module.
#[derive(Default)]
pub(crate) struct ManifestCache(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    generation: u64,
    size_bytes: usize,
    by_repository: HashMap<String, HashMap<String, Arc<StoredManifest>>>,
}

impl ManifestCache {
    /// The manifest, when it is in memory; else the generation to hand to [`Self::insert`] with what is read.
    pub(crate) fn get(&self, name: &RepositoryName, key: &ManifestKey) -> Result<Arc<StoredManifest>, u64> {
        let entries = self.entries();
        let found = entries.by_repository.get(name.as_str()).and_then(|keys| keys.get(key.as_str()));
        found.cloned().ok_or(entries.generation)
    }

    /// Keeps what was read since [`Self::get`] answered `generation`.
    pub(crate) fn insert(
        &self,
        generation: u64,
        name: &RepositoryName,
        key: &ManifestKey,
        manifest: &Arc<StoredManifest>,
    ) {
        let mut entries = self.entries();
        if entries.generation != generation {
            return;
        }
        let size_bytes = manifest.bytes.len() + ENTRY_BYTES;
        if entries.size_bytes + size_bytes > MAX_BYTES {
            entries.by_repository.clear();
            entries.size_bytes = 0;
        }
        let keys = entries.by_repository.entry(name.as_str().to_owned()).or_default();
        if keys.insert(key.as_str().to_owned(), manifest.clone()).is_none() {
            entries.size_bytes += size_bytes;
        }
    }

    /// Drops all of a repository: call it after each change of the repository, before the client is told.
    pub(crate) fn forget(&self, name: &RepositoryName) {
        let mut entries = self.entries();
        entries.generation += 1;
        let keys = entries.by_repository.remove(name.as_str()).unwrap_or_default();
        let size_bytes: usize = keys.values().map(|manifest| manifest.bytes.len() + ENTRY_BYTES).sum();
        entries.size_bytes = entries.size_bytes.saturating_sub(size_bytes);
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &'static str) -> Arc<StoredManifest> {
        let bytes = Bytes::from_static(text.as_bytes());
        Arc::new(StoredManifest { digest: Digest::of(&bytes), media_type: "m".to_owned(), bytes })
    }

    #[test]
    fn a_value_read_during_a_change_is_not_kept() {
        let (cache, name) = (ManifestCache::default(), RepositoryName::parse("a").unwrap());
        let key = ManifestKey::parse("latest").unwrap();
        let generation = cache.get(&name, &key).unwrap_err();
        cache.forget(&name);
        cache.insert(generation, &name, &key, &manifest("old"));
        let generation = cache.get(&name, &key).unwrap_err();
        cache.insert(generation, &name, &key, &manifest("new"));
        assert_eq!(cache.get(&name, &key).unwrap().bytes, "new");
        cache.forget(&name);
        assert!(cache.get(&name, &key).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let (cache, name) = (ManifestCache::default(), RepositoryName::parse("a").unwrap());
        let large = Arc::new(StoredManifest {
            digest: Digest::of(b""),
            media_type: "m".to_owned(),
            bytes: Bytes::from(vec![0; 4 << 20]),
        });
        for number in 0..40 {
            let key = ManifestKey::parse(&format!("t{number}")).unwrap();
            let generation = cache.get(&name, &key).unwrap_err();
            cache.insert(generation, &name, &key, &large);
            assert!(cache.entries().size_bytes <= MAX_BYTES);
        }
    }
}
