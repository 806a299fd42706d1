//! Snapshots as folders that overlayfs stacks.
//!
//! ```text
//! ROOT/                          as in `folders.rs`, and
//!   empty/                       an empty lower folder, where overlayfs wants one more
//!   committed/ALGORITHM-HEX/
//!     fs/                        the files of the layer, whiteouts as overlayfs has them
//!   active/KEY/
//!     fs/  work/                 upper and work folder; a view has neither
//! ```
//!
//! Invariant: a layer is unpacked by itself, and no folder of it is written to once it has its name.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use carrack_layer::{ApplyOptions, DiffOptions, DiffSummary, apply, is_opaque};
use carrack_oci::{ChainId, DiffId};
use carrack_sys::atomic::{self, Durability};
use carrack_sys::rooted::Root;
use carrack_sys::tree::{self, Usage};

use crate::check::lacks_files;
use crate::files::{copy_folder_metadata, make_files_folder};
use crate::folders::{Folders, files_of};
use crate::mount::Lower;
use crate::record::Record;
use crate::snapshotter::{Content, UnpackedFiles};
use crate::{
    Collected, Kept, LayerUnpacker, Mount, Problem, Result, SnapshotInfo, SnapshotKey, SnapshotName,
    Snapshots, Snapshotter, Unpacked, links,
};

/// A store of snapshots on a file system that overlayfs can use.
#[derive(Debug)]
pub struct OverlaySnapshotter {
    folders: Folders,
}

impl OverlaySnapshotter {
    /// Opens the store at `root`, makes it if need be, and removes what a crash has left in `staging/`.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { folders: Folders::open(root, &["empty"])? })
    }

    fn files(&self, id: &ChainId) -> PathBuf {
        files_of(&self.folders.committed(id))
    }

    fn make_active(&self, key: &SnapshotKey, parent: Option<&ChainId>, is_view: bool) -> Result<Mount> {
        let _lock = self.folders.lock()?;
        let record = Record { is_view, ..self.folders.child_record(parent)? };
        self.folders.make_active(key, &record, |staged| match is_view {
            true => Ok(()),
            false => {
                atomic::create_private_dir(&staged.path.join("work"))?;
                make_files_folder(&staged.files(), parent.map(|id| self.files(id)).as_deref())
            }
        })?;
        Ok(self.mount_of(&self.folders.active(key), &record))
    }

    fn mount_of(&self, active: &Path, record: &Record) -> Mount {
        let mut lowers: Vec<_> = record.visible().iter().map(|id| Lower::Folder(self.files(id))).collect();
        if record.is_view {
            // Without an upper folder, overlayfs wants two; and only an overlay hides the whiteouts of a single one.
            lowers.push(Lower::Folder(self.folders.root.join("empty")));
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

    /// What a snapshot of this record stands on.
    fn below(&self, record: &Record) -> Result<Option<Root>> {
        if record.visible().is_empty() {
            return Ok(None);
        }
        let view = Record { is_view: true, ..record.clone() };
        Ok(Some(self.mount_of(&self.folders.root, &view).open_root()?))
    }

    /// Puts the files of lower layers that the layer has hardlinks to into it; whether there were any.
    fn complete_links(&self, unpacked: &UnpackedFiles, record: &Record) -> Result<bool> {
        if unpacked.applied.links_below.is_empty() {
            return Ok(false);
        }
        let layer = Root::open(&unpacked.staged.files())?;
        links::bring_up(&unpacked.applied, &layer, self.below(record)?.as_ref())?;
        Ok(true)
    }

    /// Gives the folders that the layer did not describe the metadata that they have below; whether there were any.
    fn complete_folders(&self, unpacked: &UnpackedFiles, record: &Record) -> Result<bool> {
        let implicit = &unpacked.applied.implicit_dirs;
        if implicit.is_empty() {
            return Ok(false);
        }
        let Some(below) = self.below(record)? else { return Ok(false) };
        let layer = Root::open(&unpacked.staged.files())?;
        for path in implicit {
            let target = layer.at(path)?;
            let is_root = path.as_os_str().is_empty();
            let is_hidden = !is_root && is_opaque(&target)?;
            match below.at(path) {
                Ok(source) if !is_hidden => copy_folder_metadata(&source, &target)?,
                _ => {} // new in this layer
            }
        }
        Ok(true)
    }
}

impl LayerUnpacker for OverlaySnapshotter {
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
        let mut is_changed = self.complete_links(&unpacked, &record)?;
        if unpacked.applied.is_opaque {
            record.visible_count = 0;
        }
        record.usage = Some(unpacked.applied.usage.into());
        is_changed |= self.complete_folders(&unpacked, &record)?;
        record.write(&unpacked.staged.path, Durability::Volatile)?;
        match is_changed {
            true => self.folders.sync_data()?,
            false => self.folders.sync_layer(unpacked.number)?,
        }
        self.folders.name_committed(&unpacked.staged.path, id)?;
        self.folders.count_unpacked(); // of its record and its name, the sync knows nothing
        Ok(())
    }

    fn seal(&self, _top: &ChainId) -> Result<()> {
        self.folders.sync_stacked()
    }
}

/// Unpacks a layer into a folder of its own.
pub(crate) fn unpack_files(folders: &Folders, key: &SnapshotKey, tar: &mut dyn Read) -> Result<Unpacked> {
    let staged = folders.stage()?;
    tracing::debug!(%key, folder = %staged.path.display(), "unpacking a layer");
    make_files_folder(&staged.files(), None)?;
    let applied = apply(tar, &Root::open(&staged.files())?, &ApplyOptions::default())?;
    let (diff_id, size_bytes) = (applied.diff_id.clone(), applied.size_bytes);
    let files = UnpackedFiles { applied, staged, number: folders.count_unpacked() };
    Ok(Unpacked { diff_id, size_bytes, content: Content::Files(Box::new(files)) })
}

impl Snapshots for OverlaySnapshotter {
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

impl Snapshotter for OverlaySnapshotter {
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
        Ok(self.mount_of(&self.folders.active(key), &self.folders.active_record(key)?))
    }

    fn diff(&self, key: &SnapshotKey, options: &DiffOptions, layer: &mut dyn Write) -> Result<DiffSummary> {
        self.folders.writable_record(key)?;
        let upper = Root::open(&files_of(&self.folders.active(key)))?;
        Ok(carrack_layer::diff(&upper, options, layer)?)
    }

    fn commit(&self, key: &SnapshotKey, id: &ChainId, _layer: &DiffId) -> Result<()> {
        let _lock = self.folders.lock()?;
        let mut record = self.folders.writable_record(key)?;
        if self.contains(id)? {
            return self.discard(key);
        }
        let active = self.folders.active(key);
        tree::remove_tree(&active.join("work"))?;
        record.usage = Some(tree::usage(&Root::open(&files_of(&active))?)?.into());
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
        match self.folders.committed_record(id)?.usage {
            Some(usage) => Ok(usage.into()),
            None => Ok(tree::usage(&Root::open(&self.files(id))?)?),
        }
    }

    fn active_usage(&self, key: &SnapshotKey) -> Result<Usage> {
        self.folders.active_usage(key)
    }

    fn disk_bytes(&self, name: &SnapshotName) -> Result<u64> {
        self.folders.disk_bytes(name)
    }

    fn list(&self) -> Result<Vec<SnapshotInfo>> {
        self.folders.list()
    }
}
