//! Snapshots as plain copies, for where nothing can be stacked: each holds all of its files.
//!
//! ```text
//! ROOT/                          as in `folders.rs`, and
//!   committed/ALGORITHM-HEX/
//!     fs/                        the whole tree
//!   active/KEY/
//!     fs/                        a copy of the parent's tree; a view has none, it shows the parent's
//! ```
//!
//! Invariant: a committed tree is never written to; blocks are shared between copies where the file system can.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use carrack_layer::{DiffOptions, DiffSummary};
use carrack_oci::{ChainId, DiffId};
use carrack_sys::atomic::Durability;
use carrack_sys::rooted::Root;
use carrack_sys::tree::{self, Usage};

use crate::check::lacks_files;
use crate::files::{Copier, make_files_folder};
use crate::folders::{Folders, Staged, files_of};
use crate::overlay::unpack_files;
use crate::record::Record;
use crate::{
    Collected, Kept, LayerUnpacker, Mount, Problem, Result, SnapshotInfo, SnapshotKey, SnapshotName,
    Snapshots, Snapshotter, Unpacked, links,
};

mod changes;
pub(crate) mod merge;

/// A store of snapshots on any file system.
#[derive(Debug)]
pub struct VfsSnapshotter {
    folders: Folders,
}

impl VfsSnapshotter {
    /// Opens the store at `root`, makes it if need be, and removes what a crash has left in `staging/`.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { folders: Folders::open(root, &[])? })
    }

    fn files(&self, id: &ChainId) -> PathBuf {
        files_of(&self.folders.committed(id))
    }

    /// Makes the folder of files, with all that the parent has.
    fn copy_parent(&self, staged: &Staged, parent: Option<&ChainId>) -> Result<()> {
        let parent = parent.map(|id| self.files(id));
        make_files_folder(&staged.files(), None)?;
        let Some(parent) = parent else { return Ok(()) };
        let (source, target) = (Root::open(&parent)?, Root::open(&staged.files())?);
        Copier::new(&target).copy_tree(&source)?;
        crate::files::copy_folder_metadata(&source.at("")?, &target.at("")?)
    }

    fn mount_of(&self, key: &SnapshotKey, record: &Record) -> Mount {
        match (record.is_view, record.parent()) {
            (true, Some(parent)) => Mount::Bind { source: self.files(parent), read_only: true },
            _ => Mount::Bind { source: files_of(&self.folders.active(key)), read_only: false },
        }
    }

    fn make_active(&self, key: &SnapshotKey, parent: Option<&ChainId>, is_view: bool) -> Result<Mount> {
        let _lock = self.folders.lock()?;
        let record = Record { is_view, ..self.folders.child_record(parent)? };
        self.folders.make_active(key, &record, |staged| match is_view {
            true => Ok(()),
            false => self.copy_parent(staged, parent),
        })?;
        Ok(self.mount_of(key, &record))
    }

    /// The changes of an active snapshot as overlayfs would have them in its upper folder.
    fn changes_of(&self, key: &SnapshotKey, record: &Record) -> Result<Staged> {
        let staged = self.folders.stage()?;
        make_files_folder(&staged.files(), None)?;
        let parent = record.parent().map(|id| Root::open(&self.files(id))).transpose()?;
        let folder = self.folders.active(key);
        let active = Root::open(&files_of(&folder))?;
        changes::collect(
            parent.as_ref(),
            &active,
            &Root::open(&staged.files())?,
            Record::written_at(&folder)?,
        )?;
        Ok(staged)
    }
}

impl LayerUnpacker for VfsSnapshotter {
    fn unpack(&self, key: &SnapshotKey, tar: &mut dyn Read, _stored: Option<&DiffId>) -> Result<Unpacked> {
        unpack_files(&self.folders, key, tar)
    }

    fn stack(&self, unpacked: Unpacked, parent: Option<&ChainId>, id: &ChainId) -> Result<()> {
        let unpacked = unpacked.into_files();
        let _lock = self.folders.lock()?;
        if self.contains(id)? {
            return Ok(());
        }
        let mut record = self.folders.child_record(parent)?;
        record.usage = Some(unpacked.applied.usage.into());
        let staged = self.folders.stage()?;
        let visible = parent.filter(|_| !unpacked.applied.is_opaque);
        self.copy_parent(&staged, visible)?;
        let layer = Root::open(&unpacked.staged.files())?;
        let below = parent.map(|id| Root::open(&self.files(id))).transpose()?;
        links::bring_up(&unpacked.applied, &layer, below.as_ref())?;
        let target = Root::open(&staged.files())?;
        merge::merge(&layer, &unpacked.applied.implicit_dirs, &target)?;
        record.write(&staged.path, Durability::Volatile)?;
        self.folders.sync_data()?;
        self.folders.name_committed(&staged.path, id)?;
        Ok(())
    }

    fn seal(&self, _top: &ChainId) -> Result<()> {
        self.folders.sync_names()
    }
}

impl Snapshots for VfsSnapshotter {
    fn stack_of(&self, id: &ChainId) -> Result<Vec<ChainId>> {
        self.folders.stack_of(id)
    }

    fn has_key(&self, key: &SnapshotKey) -> Result<bool> {
        self.folders.has_key(key)
    }

    fn collect(&self, kept: &Kept) -> Result<Collected> {
        self.folders.collect(kept, |_| Ok(()))
    }

    fn check(&self) -> Result<Vec<Problem>> {
        self.folders.find_problems(&|_, path, record| Ok(lacks_files(path, record)))
    }

    /// Every entry of the layer is in the whole tree too; what is there of lower layers is compared with them.
    fn verify(&self, id: &ChainId, tar: &mut dyn Read) -> Result<Option<Problem>> {
        self.folders.compare_files(id, tar)
    }

    fn remove_damaged(&self, problem: &Problem) -> Result<()> {
        self.folders.remove_damaged(problem)
    }

    fn staged(&self) -> Result<Vec<PathBuf>> {
        self.folders.staged()
    }

    fn paths(&self, snapshot: &SnapshotName) -> Vec<PathBuf> {
        vec![self.folders.path(snapshot)]
    }
}

impl Snapshotter for VfsSnapshotter {
    fn contains(&self, id: &ChainId) -> Result<bool> {
        self.folders.contains(id)
    }

    fn prepare(&self, key: &SnapshotKey, parent: Option<&ChainId>) -> Result<Mount> {
        self.make_active(key, parent, false)
    }

    fn view(&self, key: &SnapshotKey, parent: &ChainId) -> Result<Mount> {
        self.make_active(key, Some(parent), true)
    }

    fn mount(&self, key: &SnapshotKey) -> Result<Mount> {
        Ok(self.mount_of(key, &self.folders.active_record(key)?))
    }

    fn diff(&self, key: &SnapshotKey, options: &DiffOptions, layer: &mut dyn Write) -> Result<DiffSummary> {
        let record = self.folders.writable_record(key)?;
        let changes = self.changes_of(key, &record)?;
        Ok(carrack_layer::diff(&Root::open(&changes.files())?, options, layer)?)
    }

    fn commit(&self, key: &SnapshotKey, id: &ChainId, _layer: &DiffId) -> Result<()> {
        let _lock = self.folders.lock()?;
        let mut record = self.folders.writable_record(key)?;
        if self.contains(id)? {
            return self.discard(key);
        }
        let changes = self.changes_of(key, &record)?;
        record.usage = Some(tree::usage(&Root::open(&changes.files())?)?.into());
        drop(changes);
        let active = self.folders.active(key);
        record.write(&active, Durability::Volatile)?;
        self.folders.sync_data()?;
        if !self.folders.name_committed(&active, id)? {
            self.discard(key)?;
        }
        self.folders.sync_names()
    }

    fn discard(&self, key: &SnapshotKey) -> Result<()> {
        self.folders.discard(key)
    }

    fn remove(&self, id: &ChainId) -> Result<()> {
        self.folders.remove(id, |_| Ok(()))
    }

    fn usage(&self, id: &ChainId) -> Result<Usage> {
        Ok(self.folders.committed_record(id)?.usage.map(Usage::from).unwrap_or_default())
    }

    fn active_usage(&self, key: &SnapshotKey) -> Result<Usage> {
        let record = self.folders.active_record(key)?;
        if record.is_view {
            return Ok(Usage::default());
        }
        let changes = self.changes_of(key, &record)?;
        Ok(tree::usage(&Root::open(&changes.files())?)?)
    }

    fn disk_bytes(&self, name: &SnapshotName) -> Result<u64> {
        self.folders.disk_bytes(name)
    }

    fn list(&self) -> Result<Vec<SnapshotInfo>> {
        self.folders.list()
    }
}
