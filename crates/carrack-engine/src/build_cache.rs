//! The build cache: what steps did, by cache key.
//!
//! ```text
//! <root>/build-cache/<hex of the key>.json   one entry; its file's time is that of its last use
//! ```
//!
//! An entry is a hint: one whose layer is gone, or that cannot be read, is not there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use carrack_build::{CacheKey, Outcome};
use carrack_oci::{ChainId, Digest};
use carrack_sys::IoContext;
use carrack_sys::atomic::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::{Engine, Result};

/// What a step did, and where its layer stands.
#[derive(Serialize, Deserialize)]
struct Entry {
    outcome: Outcome,
    /// The stack that ends with the layer; kept so that a later build need not unpack it again.
    chain: Option<ChainId>,
}

/// What an entry keeps alive.
pub(crate) struct Kept {
    pub blob: Option<Digest>,
    pub chain: Option<ChainId>,
}

/// An entry as it lies on disk.
pub(crate) struct CacheEntry {
    pub path: PathBuf,
    pub kept: Kept,
    pub last_used: SystemTime,
}

/// The entries below one folder.
pub(crate) struct BuildCache {
    folder: PathBuf,
    keep: Duration,
}

impl Engine {
    pub(crate) fn build_cache(&self) -> BuildCache {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let keep = DAY * self.environment.settings.build.cache_days;
        BuildCache { folder: self.environment.paths.root.join("build-cache"), keep }
    }

    /// Deletes the build cache, and what only it kept; returns how many entries there were.
    pub fn prune_build_cache(&self) -> Result<usize> {
        let removed = self.build_cache().clear()?;
        self.collect_garbage()?;
        Ok(removed)
    }
}

impl BuildCache {
    /// What a step with this key did.
    pub(crate) fn get(&self, key: &CacheKey) -> Result<Option<Outcome>> {
        let path = self.path(key);
        let entry = read_entry(&path)?;
        if entry.is_some() {
            // The use is what counts; an entry that cannot be touched is dropped earlier, no more.
            let _ = File::options()
                .append(true)
                .open(&path)
                .and_then(|file| file.set_modified(SystemTime::now()));
        }
        Ok(entry.map(|entry| entry.outcome))
    }

    /// Remembers what a step did; its layer must be complete.
    pub(crate) fn put(&self, key: &CacheKey, outcome: &Outcome, chain: Option<ChainId>) -> Result<()> {
        atomic::create_private_dir(&self.folder)?;
        let entry = Entry { outcome: outcome.clone(), chain };
        let bytes = serde_json::to_vec(&entry).expect("an entry has string keys only");
        Ok(atomic::write(&self.path(key), &bytes, 0o600, Durability::Volatile)?)
    }

    /// What all entries keep; those that nobody has used for long are deleted.
    pub(crate) fn kept(&self) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for entry in self.entries()? {
            match entry.last_used.elapsed().is_ok_and(|unused| unused > self.keep) {
                true => atomic::remove_file(&entry.path)?,
                false => kept.push(entry.kept),
            }
        }
        Ok(kept)
    }

    /// All entries; one that another process deletes meanwhile is left out.
    pub(crate) fn entries(&self) -> Result<Vec<CacheEntry>> {
        let mut entries = Vec::new();
        for path in self.files()? {
            let last_used = match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                time => time.during("look up", &path)?,
            };
            let entry = read_entry(&path)?;
            let (blob, chain) = entry.map_or((None, None), |entry| {
                (entry.outcome.layer.map(|layer| layer.descriptor.digest), entry.chain)
            });
            entries.push(CacheEntry { path, kept: Kept { blob, chain }, last_used });
        }
        Ok(entries)
    }

    fn clear(&self) -> Result<usize> {
        let files = self.files()?;
        for path in &files {
            atomic::remove_file(path)?;
        }
        Ok(files.len())
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.during("list", &self.folder)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.during("list", &self.folder)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.folder.join(format!("{}.json", key.digest().hex()))
    }
}

fn read_entry(path: &Path) -> Result<Option<Entry>> {
    Ok(atomic::read(path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}
