//! Snapshots as folders that overlayfs stacks.
//!
//! ```text
//! ROOT/                          0700
//!   lock                         shared: snapshots come and go; exclusive: one is removed, and nobody may build on it
//!   staging.lock                 shared: something is being made in staging/; exclusive: what is there is left over
//!   staging/NAME/                being made or being removed
//!   empty/                       an empty lower folder, where overlayfs wants one more
//!   committed/ALGORITHM-HEX/     a committed snapshot, by chain id
//!     record.json                what it stands on
//!     fs/                        its files, whiteouts as overlayfs has them
//!   active/KEY/                  an active snapshot or a view
//!     record.json
//!     fs/  work/                 upper and work folder; a view has neither
//! ```
//!
//! Invariant: a folder below `committed/` is complete and synced, one below `active/` is complete: both are made in
//! `staging/` and renamed. A crash leaves nothing but folders in `staging/`.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use carrack_layer::{DiffOptions, DiffSummary};
use carrack_oci::{ChainId, DiffId};
use carrack_sys::lock::Lock;
use carrack_sys::rooted::{Place, Root};
use carrack_sys::tree::{self, Usage};
use carrack_sys::{IoContext, atomic};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::snapshotter::{Staged, files_of};
use crate::{Error, Mount, Problem, Result, SnapshotInfo, SnapshotKey, SnapshotName, Snapshots, Snapshotter};

mod check;
mod record;
mod stack;

use record::Record;

/// The mode of the root of a file system whose layers do not say otherwise.
const ROOT_MODE: u32 = 0o755;

/// A store of snapshots on a file system that overlayfs can use.
#[derive(Debug)]
pub struct OverlaySnapshotter {
    root: PathBuf,
    /// How many layers this process has unpacked, and how many of these a sync has covered.
    unpacked: AtomicU64,
    synced: AtomicU64,
}

impl OverlaySnapshotter {
    /// Opens the store at `root`, makes it if need be, and removes what a crash has left in `staging/`.
    pub fn open(root: &Path) -> Result<Self> {
        let root = root.to_owned();
        let store = Self { root, unpacked: AtomicU64::new(0), synced: AtomicU64::new(0) };
        for folder in ["staging", "empty", "committed", "active"] {
            let path = store.root.join(folder);
            if !path.is_dir() {
                atomic::create_private_dir(&path)?;
            }
        }
        store.clear_staging()?;
        Ok(store)
    }

    fn active(&self, key: &SnapshotKey) -> PathBuf {
        self.root.join("active").join(key.as_str())
    }

    fn committed(&self, id: &ChainId) -> PathBuf {
        self.root.join("committed").join(format!("{}-{}", id.0.algorithm(), id.0.hex()))
    }

    fn committed_record(&self, id: &ChainId) -> Result<Record> {
        Record::read(&self.committed(id))?.ok_or_else(|| Error::NotFound { id: id.clone() })
    }

    fn active_record(&self, key: &SnapshotKey) -> Result<Record> {
        Record::read(&self.active(key))?.ok_or_else(|| Error::NotActive { key: key.clone() })
    }

    /// The record of a new snapshot on `parent`.
    fn child_record(&self, parent: Option<&ChainId>) -> Result<Record> {
        parent.map_or(Ok(Record::default()), |id| Ok(self.committed_record(id)?.child(id)))
    }

    /// A new folder in `staging/`.
    fn stage(&self) -> Result<Staged> {
        let lock = Lock::shared(&self.root.join("staging.lock"))?;
        let path = self.root.join("staging").join(SnapshotKey::unique("").as_str());
        atomic::create_private_dir(&path)?;
        Ok(Staged { path, _lock: lock })
    }

    fn lock(&self) -> Result<Lock> {
        Ok(Lock::shared(&self.root.join("lock"))?)
    }

    /// Moves a snapshot to `staging/`, where dropping removes it; `None` when there is none. It takes no space, so that
    /// it works on a full disk.
    fn unname(&self, snapshot: &Path) -> Result<Option<Staged>> {
        let lock = Lock::shared(&self.root.join("staging.lock"))?;
        let path = self.root.join("staging").join(SnapshotKey::unique("").as_str());
        match fs::rename(snapshot, &path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            result => Ok(result.during("rename", snapshot).map(|()| Some(Staged { path, _lock: lock }))?),
        }
    }

    fn make_active(&self, key: &SnapshotKey, parent: Option<&ChainId>, is_view: bool) -> Result<Mount> {
        let _lock = self.lock()?;
        let record = Record { is_view, ..self.child_record(parent)? };
        let staged = self.stage()?;
        if !is_view {
            atomic::create_private_dir(&staged.path.join("work"))?;
            make_files_folder(&staged.files(), parent.map(|id| files_of(&self.committed(id))).as_deref())?;
        }
        record.write(&staged.path)?;
        if !rename_new(&staged.path, &self.active(key))? {
            return Err(Error::Exists { key: key.clone() });
        }
        Ok(self.mount_of(&self.active(key), &record))
    }

    fn mount_of(&self, active: &Path, record: &Record) -> Mount {
        let mut lowers: Vec<_> = record.visible().iter().map(|id| files_of(&self.committed(id))).collect();
        if record.is_view {
            // Without an upper folder, overlayfs wants two; and only an overlay hides the whiteouts of a single one.
            lowers.push(self.root.join("empty"));
            return Mount::Overlay { lowers, upper: None, work: None, volatile: false };
        }
        if lowers.is_empty() {
            return Mount::Bind { source: files_of(active), read_only: false };
        }
        Mount::Overlay {
            lowers,
            upper: Some(files_of(active)),
            work: Some(active.join("work")),
            volatile: false,
        }
    }

    fn committed_ids(&self) -> Result<Vec<ChainId>> {
        let names = folder_names(&self.root.join("committed"))?;
        Ok(names.iter().filter_map(|name| name.replacen('-', ":", 1).parse().ok().map(ChainId)).collect())
    }

    fn keys(&self) -> Result<Vec<SnapshotKey>> {
        Ok(folder_names(&self.root.join("active"))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// All snapshots with their records; one that goes away meanwhile is left out.
    fn records(&self) -> Result<Vec<(SnapshotName, Record)>> {
        let mut records = Vec::new();
        for key in self.keys()? {
            let record = Record::read(&self.active(&key))?;
            records.extend(record.map(|record| (SnapshotName::Key(key), record)));
        }
        for id in self.committed_ids()? {
            let record = Record::read(&self.committed(&id))?;
            records.extend(record.map(|record| (SnapshotName::Committed(id), record)));
        }
        Ok(records)
    }
}

impl Snapshots for OverlaySnapshotter {
    fn stack_of(&self, id: &ChainId) -> Result<Vec<ChainId>> {
        let mut stack = vec![id.clone()];
        stack.extend(self.committed_record(id)?.ancestors);
        Ok(stack)
    }

    fn clear_staging(&self) -> Result<()> {
        let Some(_lock) = Lock::try_exclusive(&self.root.join("staging.lock"))? else { return Ok(()) };
        for name in folder_names(&self.root.join("staging"))? {
            tree::remove_tree(&self.root.join("staging").join(name))?;
        }
        Ok(())
    }

    fn check(&self) -> Result<Vec<Problem>> {
        self.find_problems()
    }

    fn verify(&self, id: &ChainId, tar: &mut dyn Read) -> Result<Option<Problem>> {
        self.compare(id, tar)
    }

    fn remove_damaged(&self, problem: &Problem) -> Result<()> {
        let _lock = Lock::exclusive(&self.root.join("lock"))?;
        match problem.path.is_dir() {
            true => self.unname(&problem.path).map(drop),
            false => Ok(atomic::remove_file(&problem.path)?),
        }
    }

    fn staged(&self) -> Result<Vec<PathBuf>> {
        let staging = self.root.join("staging");
        Ok(folder_names(&staging)?.iter().map(|name| staging.join(name)).collect())
    }

    fn paths(&self, snapshot: &SnapshotName) -> Vec<PathBuf> {
        match snapshot {
            SnapshotName::Committed(id) => vec![self.committed(id)],
            SnapshotName::Key(key) => vec![self.active(key)],
        }
    }
}

impl Snapshotter for OverlaySnapshotter {
    fn contains(&self, id: &ChainId) -> Result<bool> {
        Ok(Record::read(&self.committed(id))?.is_some())
    }

    fn prepare(&self, key: &SnapshotKey, parent: Option<&ChainId>) -> Result<Mount> {
        self.make_active(key, parent, false)
    }

    fn view(&self, key: &SnapshotKey, parent: &ChainId) -> Result<Mount> {
        self.make_active(key, Some(parent), true)
    }

    fn mount(&self, key: &SnapshotKey) -> Result<Mount> {
        Ok(self.mount_of(&self.active(key), &self.active_record(key)?))
    }

    fn diff(&self, key: &SnapshotKey, options: &DiffOptions, layer: &mut dyn Write) -> Result<DiffSummary> {
        if self.active_record(key)?.is_view {
            return Err(Error::ReadOnly { key: key.clone() });
        }
        Ok(carrack_layer::diff(&Root::open(&files_of(&self.active(key)))?, options, layer)?)
    }

    fn commit(&self, key: &SnapshotKey, id: &ChainId, _layer: &DiffId) -> Result<()> {
        let _lock = self.lock()?;
        let mut record = self.active_record(key)?;
        if record.is_view {
            return Err(Error::ReadOnly { key: key.clone() });
        }
        if self.contains(id)? {
            return self.discard(key);
        }
        let active = self.active(key);
        tree::remove_tree(&active.join("work"))?;
        record.usage = Some(tree::usage(&Root::open(&files_of(&active))?)?.into());
        record.write(&active)?;
        self.sync_data()?;
        if !rename_new(&active, &self.committed(id))? {
            self.discard(key)?;
        }
        Ok(atomic::sync_parent(&self.committed(id))?)
    }

    fn discard(&self, key: &SnapshotKey) -> Result<()> {
        self.unname(&self.active(key)).map(drop)
    }

    fn remove(&self, id: &ChainId) -> Result<()> {
        let lock = Lock::exclusive(&self.root.join("lock"))?;
        let user = self.records()?.into_iter().find(|(_, record)| record.parent() == Some(id));
        if let Some((user, _)) = user {
            let user = match user {
                SnapshotName::Committed(id) => id.to_string(),
                SnapshotName::Key(key) => key.to_string(),
            };
            return Err(Error::InUse { id: id.clone(), user });
        }
        let removed = self.unname(&self.committed(id))?;
        drop(lock); // the rest takes time, and hinders nobody
        drop(removed);
        Ok(())
    }

    fn usage(&self, id: &ChainId) -> Result<Usage> {
        match self.committed_record(id)?.usage {
            Some(usage) => Ok(usage.into()),
            None => Ok(tree::usage(&Root::open(&files_of(&self.committed(id)))?)?),
        }
    }

    fn list(&self) -> Result<Vec<SnapshotInfo>> {
        let mut records = self.records()?;
        records.sort_by_key(|(name, record)| {
            (matches!(name, SnapshotName::Committed(_)), std::cmp::Reverse(record.ancestors.len()))
        });
        let info = |(name, record): (_, Record)| SnapshotInfo { name, parent: record.parent().cloned() };
        Ok(records.into_iter().map(info).collect())
    }
}

/// Makes the folder for the files of a snapshot. It is the root of what a mount shows, so it looks like that of the
/// parent.
fn make_files_folder(path: &Path, parent: Option<&Path>) -> Result<()> {
    fs::create_dir(path).during("create the folder", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(ROOT_MODE)).during("set the mode of", path)?;
    let folder = Root::open(path)?;
    match parent {
        None => Ok(folder.at("")?.set_mtime((0, 0))?),
        Some(parent) => copy_folder_metadata(&Root::open(parent)?.at("")?, &folder.at("")?),
    }
}

/// Makes one folder look like another: owner, mode, attributes that layers carry, time.
fn copy_folder_metadata(source: &Place<'_>, target: &Place<'_>) -> Result<()> {
    let Some(metadata) = source.metadata()?.filter(|metadata| metadata.is_dir()) else { return Ok(()) };
    target.set_owner(metadata.uid, metadata.gid)?;
    target.set_mode(metadata.mode)?;
    for name in source.xattr_names()?.iter().filter(|name| carrack_layer::is_layer_xattr(name)) {
        if let Some(value) = source.xattr(OsStr::new(name))? {
            target.set_xattr(name, &value)?;
        }
    }
    Ok(target.set_mtime(metadata.mtime)?)
}

/// Renames a folder to a name that must be free; whether it was.
fn rename_new(from: &Path, to: &Path) -> Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
        result => Ok(result.during("rename to", to).map(|()| true)?),
    }
}

fn folder_names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).during("list", folder)? {
        names.extend(entry.during("list", folder)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
