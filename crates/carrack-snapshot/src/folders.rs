//! What all kinds of stores have in common: records of snapshots in folders, and how these come and go.
//!
//! ```text
//! ROOT/                          0700
//!   lock                         shared: snapshots come and go; exclusive: one is removed, and nobody may build on it
//!   staging.lock                 shared: something is being made in staging/; exclusive: what is there is left over
//!   staging/NAME/                being made or being removed
//!   committed/ALGORITHM-HEX/     a committed snapshot, by chain id
//!     record.json                what it stands on
//!   active/KEY/                  an active snapshot or a view
//!     record.json
//! ```
//!
//! Invariant: a folder below `committed/` is complete and synced, one below `active/` is complete: both are made in
//! `staging/` and renamed. A crash leaves nothing but folders in `staging/`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use carrack_oci::{ChainId, Digest};
use carrack_sys::atomic;
use carrack_sys::lock::Lock;
use carrack_sys::rooted::Root;
use carrack_sys::tree::Usage;
use carrack_sys::{IoContext, tree};
use rustix::fs::{AtFlags, CWD, RenameFlags, renameat_with, statat};
use rustix::io::Errno;

use crate::record::Record;
use crate::{Collected, Error, Kept, Result, SnapshotInfo, SnapshotKey, SnapshotName};

/// The folders of one store.
#[derive(Debug)]
pub(crate) struct Folders {
    pub root: PathBuf,
    /// How many layers this process has unpacked, and how many of these a sync has covered.
    unpacked: AtomicU64,
    synced: AtomicU64,
}

/// A folder that is being filled; removed when dropped, unless it has been renamed away.
#[derive(Debug)]
pub(crate) struct Staged {
    pub path: PathBuf,
    /// While it is held, nobody takes the folder for one that a crash left.
    _lock: Lock,
}

impl Staged {
    /// Where the files of the snapshot go.
    pub fn files(&self) -> PathBuf {
        files_of(&self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = tree::remove_tree(&self.path) {
            tracing::warn!(%error, "a staging folder is left for the next cleaning");
        }
    }
}

/// Where the files of a snapshot are.
pub(crate) fn files_of(snapshot: &Path) -> PathBuf {
    snapshot.join("fs")
}

/// A digest as a file name.
pub(crate) fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// The digest that a file name is of.
pub(crate) fn parse_file_name(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

impl Folders {
    /// Opens the store at `root`, makes it if need be, with folders `others` of its own, and removes what a crash has
    /// left in `staging/`.
    pub fn open(root: &Path, others: &[&str]) -> Result<Self> {
        let folders = Self { root: root.to_owned(), unpacked: AtomicU64::new(0), synced: AtomicU64::new(0) };
        for folder in ["staging", "committed", "active"].iter().chain(others) {
            let path = folders.root.join(folder);
            if !path.is_dir() {
                atomic::create_private_dir(&path)?;
            }
        }
        folders.clear_staging()?;
        Ok(folders)
    }

    pub fn active(&self, key: &SnapshotKey) -> PathBuf {
        self.root.join("active").join(key.as_str())
    }

    pub fn committed(&self, id: &ChainId) -> PathBuf {
        self.root.join("committed").join(file_name(&id.0))
    }

    pub fn contains(&self, id: &ChainId) -> Result<bool> {
        Ok(Record::read(&self.committed(id))?.is_some())
    }

    pub fn committed_record(&self, id: &ChainId) -> Result<Record> {
        Record::read(&self.committed(id))?.ok_or_else(|| Error::NotFound { id: id.clone() })
    }

    pub fn active_record(&self, key: &SnapshotKey) -> Result<Record> {
        Record::read(&self.active(key))?.ok_or_else(|| Error::NotActive { key: key.clone() })
    }

    pub fn has_key(&self, key: &SnapshotKey) -> Result<bool> {
        Ok(Record::read(&self.active(key))?.is_some())
    }

    /// The record of an active snapshot that can be written to.
    pub fn writable_record(&self, key: &SnapshotKey) -> Result<Record> {
        match self.active_record(key)? {
            record if record.is_view => Err(Error::ReadOnly { key: key.clone() }),
            record => Ok(record),
        }
    }

    /// The record of a new snapshot on `parent`.
    pub fn child_record(&self, parent: Option<&ChainId>) -> Result<Record> {
        parent.map_or(Ok(Record::default()), |id| Ok(self.committed_record(id)?.child(id)))
    }

    /// A committed snapshot and all that it stands on, itself first.
    pub fn stack_of(&self, id: &ChainId) -> Result<Vec<ChainId>> {
        let mut stack = vec![id.clone()];
        stack.extend(self.committed_record(id)?.ancestors);
        Ok(stack)
    }

    /// A new folder in `staging/`.
    pub fn stage(&self) -> Result<Staged> {
        let lock = Lock::shared(&self.root.join("staging.lock"))?;
        let path = self.root.join("staging").join(SnapshotKey::unique("").as_str());
        atomic::create_private_dir(&path)?;
        Ok(Staged { path, _lock: lock })
    }

    /// Held while a snapshot comes or goes, so that nobody removes what it stands on.
    pub fn lock(&self) -> Result<Lock> {
        Ok(Lock::shared(&self.root.join("lock"))?)
    }

    pub fn lock_alone(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.root.join("lock"))?)
    }

    /// Makes the snapshot `key` of `record`, whose folder `fill` fills.
    pub fn make_active(
        &self,
        key: &SnapshotKey,
        record: &Record,
        fill: impl FnOnce(&Staged) -> Result<()>,
    ) -> Result<()> {
        let staged = self.stage()?;
        fill(&staged)?;
        record.write_new(&staged.path)?;
        match rename_new(&staged.path, &self.active(key))? {
            true => Ok(()),
            false => Err(Error::Exists { key: key.clone() }),
        }
    }

    /// Moves a snapshot to `staging/`, where dropping removes it; `None` when there is none. It takes no space, so that
    /// it works on a full disk.
    pub fn unname(&self, snapshot: &Path) -> Result<Option<Staged>> {
        let lock = Lock::shared(&self.root.join("staging.lock"))?;
        let path = self.root.join("staging").join(SnapshotKey::unique("").as_str());
        match fs::rename(snapshot, &path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            result => Ok(result.during("rename", snapshot).map(|()| Some(Staged { path, _lock: lock }))?),
        }
    }

    pub fn discard(&self, key: &SnapshotKey) -> Result<()> {
        self.unname(&self.active(key)).map(drop)
    }

    /// Removes a committed snapshot on which nothing stands; `then` is called while nobody can build on any.
    pub fn remove(&self, id: &ChainId, then: impl FnOnce(&[Record]) -> Result<()>) -> Result<()> {
        let lock = self.lock_alone()?;
        let mut records = self.records()?;
        if let Some((user, _)) = records.iter().find(|(_, record)| record.parent() == Some(id)) {
            return Err(Error::InUse { id: id.clone(), user: user.to_string() });
        }
        records.retain(|(name, _)| *name != SnapshotName::Committed(id.clone()));
        let removed = self.unname(&self.committed(id))?;
        then(&records.into_iter().map(|(_, record)| record).collect::<Vec<_>>())?;
        drop(lock); // the rest takes time, and hinders nobody
        drop(removed);
        Ok(())
    }

    /// Removes every snapshot that is not to be kept, children first; `then` is called with the records of the others
    /// while nobody can build on any.
    pub fn collect(&self, kept: &Kept, then: impl FnOnce(&[Record]) -> Result<()>) -> Result<Collected> {
        let lock = self.lock_alone()?;
        let mut collected = Collected::default();
        let (mut left, mut removed) = (Vec::new(), Vec::new());
        for folder in ["committed", "active"] {
            for name in folder_names(&self.root.join(folder))? {
                let path = self.root.join(folder).join(name);
                if Record::read(&path)?.is_none() {
                    removed.extend(self.unname(&path)?);
                }
            }
        }
        for (name, record) in self.sorted_records()? {
            let folder = match &name {
                SnapshotName::Committed(id) if !kept.chains.contains(id) => self.committed(id),
                SnapshotName::Key(key) if !kept.keys.contains(key) => self.active(key),
                _ => {
                    left.push(record);
                    continue;
                }
            };
            // What lives on tars takes its space there.
            if record.layers.is_empty() {
                collected.bytes += record.usage.map_or(0, |usage| Usage::from(usage).size_bytes);
            }
            collected.snapshots += 1;
            removed.extend(self.unname(&folder)?);
        }
        then(&left)?;
        drop(lock);
        drop(removed);
        self.clear_staging()?;
        Ok(collected)
    }

    /// Removes what a crash has left half made, unless somebody is making something right now.
    pub fn clear_staging(&self) -> Result<()> {
        let Some(_lock) = Lock::try_exclusive(&self.root.join("staging.lock"))? else { return Ok(()) };
        for name in folder_names(&self.root.join("staging"))? {
            tree::remove_tree(&self.root.join("staging").join(name))?;
        }
        Ok(())
    }

    /// What is being made, or what a crash has left of it.
    pub fn staged(&self) -> Result<Vec<PathBuf>> {
        let staging = self.root.join("staging");
        Ok(folder_names(&staging)?.iter().map(|name| staging.join(name)).collect())
    }

    /// The folder of a snapshot.
    pub fn path(&self, snapshot: &SnapshotName) -> PathBuf {
        match snapshot {
            SnapshotName::Committed(id) => self.committed(id),
            SnapshotName::Key(key) => self.active(key),
        }
    }

    /// What is in the files folder of an active snapshot.
    pub fn active_usage(&self, key: &SnapshotKey) -> Result<Usage> {
        match self.active_record(key)?.is_view {
            true => Ok(Usage::default()),
            false => Ok(tree::usage(&Root::open(&files_of(&self.active(key)))?)?),
        }
    }

    /// The blocks of all that is in a snapshot's folder.
    pub fn disk_bytes(&self, name: &SnapshotName) -> Result<u64> {
        let folder = self.path(name);
        let (mut blocks, mut seen) = (0, HashSet::new());
        tree::walk(&Root::open(&folder)?, |place| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = statat(place.folder(), place.name(), flags).during("examine", place.path())?;
            if stat.st_nlink == 1 || seen.insert(stat.st_ino) {
                blocks += u64::try_from(stat.st_blocks).unwrap_or_default();
            }
            Ok::<_, carrack_sys::Error>(true)
        })?;
        Ok(blocks * 512)
    }

    /// All snapshots; each before its parent.
    pub fn list(&self) -> Result<Vec<SnapshotInfo>> {
        let info = |(name, record): (_, Record)| SnapshotInfo {
            name,
            is_view: record.is_view,
            parent: record.parent().cloned(),
        };
        Ok(self.sorted_records()?.into_iter().map(info).collect())
    }

    fn sorted_records(&self) -> Result<Vec<(SnapshotName, Record)>> {
        let mut records = self.records()?;
        records.sort_by_key(|(name, record)| {
            (matches!(name, SnapshotName::Committed(_)), std::cmp::Reverse(record.ancestors.len()))
        });
        Ok(records)
    }

    /// All snapshots with their records; one that goes away meanwhile is left out.
    pub fn records(&self) -> Result<Vec<(SnapshotName, Record)>> {
        let mut records = Vec::new();
        for name in folder_names(&self.root.join("active"))? {
            let Ok(key) = name.parse() else { continue };
            let record = Record::read(&self.active(&key))?;
            records.extend(record.map(|record| (SnapshotName::Key(key), record)));
        }
        for name in folder_names(&self.root.join("committed"))? {
            let Some(id) = parse_file_name(&name).map(ChainId) else { continue };
            let record = Record::read(&self.committed(&id))?;
            records.extend(record.map(|record| (SnapshotName::Committed(id), record)));
        }
        Ok(records)
    }

    /// Counts a layer that was unpacked: its number for [`Folders::sync_layer`].
    pub fn count_unpacked(&self) -> u64 {
        self.unpacked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Makes the files of an unpacked layer durable, unless a sync has covered it since.
    pub fn sync_layer(&self, number: u64) -> Result<()> {
        if self.synced.load(Ordering::SeqCst) < number { self.sync_data() } else { Ok(()) }
    }

    /// Makes all that this process has stacked durable, if a sync has not done it since.
    pub fn sync_stacked(&self) -> Result<()> {
        self.sync_layer(self.unpacked.load(Ordering::SeqCst))
    }

    /// Makes the content of the whole store durable; every layer unpacked so far is covered.
    pub fn sync_data(&self) -> Result<()> {
        let unpacked = self.unpacked.load(Ordering::SeqCst);
        let root = Root::open(&self.root)?;
        rustix::fs::syncfs(&root).during("sync the file system of", &self.root)?;
        self.synced.fetch_max(unpacked, Ordering::SeqCst);
        Ok(())
    }

    /// Gives a complete folder the name of the committed snapshot `id`; whether the name was free. One without a record,
    /// which a loss of power has left, makes room.
    pub fn name_committed(&self, folder: &Path, id: &ChainId) -> Result<bool> {
        let path = self.committed(id);
        if rename_new(folder, &path)? {
            return Ok(true);
        }
        if self.contains(id)? {
            return Ok(false);
        }
        drop(self.unname(&path)?);
        rename_new(folder, &path)
    }

    /// Makes the names of all committed snapshots durable.
    pub fn sync_names(&self) -> Result<()> {
        Ok(atomic::sync_parent(&self.root.join("committed/any"))?)
    }
}

/// Renames a folder to a name that must be free; whether it was.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
        result => Ok(result.during("rename to", to).map(|()| true)?),
    }
}

pub(crate) fn folder_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).during("list", folder)? {
        names.extend(entry.during("list", folder)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
