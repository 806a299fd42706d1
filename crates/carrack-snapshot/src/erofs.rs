//! Snapshots on layers that are never extracted: EROFS indexes that point into the tars of the content store.
//!
//! ```text
//! ROOT/                          as in `folders.rs`, and
//!   layers/ALGORITHM-HEX/        a layer, by diff ID; its tar is the blob of that digest in the content store
//!     index                      its EROFS image, with the tar as device
//!     summary.json               what stacking needs to know of it
//!     files                      where its large files are, for layers that come later: `sharing.rs`
//!   merged/ALGORITHM-HEX[+HEX]   one EROFS image of a whole stack, by chain id; each visible layer's tar is a device,
//!                                and so is what these borrow from, and how is in the name
//!   active/KEY/
//!     fs/  work/                 upper and work folder; a view has neither
//! ```
//!
//! Invariant: a layer has its name only when tar and index are complete and synced, a chain only when its layers have
//! theirs. What no chain names in `layers/` and `merged/` is garbage; a merged image can be made again.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use carrack_content::ContentStore;
use carrack_layer::{DiffOptions, DiffSummary, Limits};
use carrack_oci::{ChainId, DiffId};
use carrack_sys::atomic::{self, Durability};
use carrack_sys::rooted::Root;
use carrack_sys::tree::Usage;

use crate::check::lacks_files;
use crate::folders::{Folders, files_of};
use crate::record::Record;
use crate::snapshotter::Content;
use crate::{
    Collected, Kept, LayerUnpacker, Mount, Problem, Result, SnapshotInfo, SnapshotKey, SnapshotName,
    Snapshots, Snapshotter, Unpacked,
};

mod layers;
mod sharing;
mod stacks;
mod written;

use layers::Layers;
use stacks::Stacks;

/// A store of snapshots on a kernel that mounts EROFS images from files.
#[derive(Debug)]
pub struct ErofsSnapshotter {
    folders: Folders,
    layers: Layers,
    stacks: Stacks,
}

impl ErofsSnapshotter {
    /// Opens the store at `root`, makes it if need be, and removes what a crash has left in `staging/`.
    ///
    /// The tars of layers are in `content`; `shares` is where processes say which mounts they hold.
    pub fn open(root: &Path, content: &ContentStore, shares: Option<&Path>) -> Result<Self> {
        let folders = Folders::open(root, &["layers", "merged"])?;
        let layers = Layers::new(root, content);
        let stacks = Stacks::new(root, shares);
        Ok(Self { folders, layers, stacks })
    }

    /// The same store with other bounds of merged images: what has more entries is stacked layer by layer.
    #[must_use]
    pub fn with_merge_limits(self, limits: Limits) -> Self {
        Self { stacks: self.stacks.with_limits(limits), ..self }
    }

    fn make_active(&self, key: &SnapshotKey, parent: Option<&ChainId>, is_view: bool) -> Result<Mount> {
        let _lock = self.folders.lock()?;
        let record = Record { is_view, ..self.folders.child_record(parent)? };
        self.folders.make_active(key, &record, |staged| match is_view {
            true => Ok(()),
            false => {
                atomic::create_private_dir(&staged.path.join("work"))?;
                record.root.clone().unwrap_or_default().create(&staged.files())
            }
        })?;
        self.mount_of(key, record)
    }

    fn mount_of(&self, key: &SnapshotKey, record: Record) -> Result<Mount> {
        let active = self.folders.active(key);
        let record = if record.sharing.is_some() { self.layers.current(record)? } else { record };
        let lowers = self.stacks.lowers(&record, &self.layers, &self.folders)?;
        Ok(self.stacks.mount(lowers, (!record.is_view).then_some(&active)))
    }

    /// The record of a committed snapshot of `layer` on `parent`.
    fn committed_record(&self, layer: &DiffId, parent: Option<&ChainId>) -> Result<Record> {
        let mut record = self.folders.child_record(parent)?;
        let summary = self.layers.ensure(layer, &self.folders)?;
        if summary.is_opaque {
            record.visible_count = 0;
        }
        record.layers.insert(0, layer.clone());
        record.usage = Some(summary.usage);
        if let Some(root) = summary.root {
            record.root = Some(root);
        }
        match record.sharing.is_some() || !self.layers.is_whole(layer) {
            true => self.layers.current(record),
            false => Ok(record),
        }
    }

    /// Writes a record and gives it its name; what it names is durable by now.
    fn name(&self, record: &Record, id: &ChainId, durability: Durability) -> Result<()> {
        let staged = self.folders.stage()?;
        record.write(&staged.path, durability)?;
        self.folders.name_committed(&staged.path, id)?;
        Ok(())
    }

    /// Removes layers and merged images that none of the snapshots `left` needs.
    fn clean(&self, left: &[Record]) -> Result<()> {
        self.layers.retain(left, &self.folders)?;
        self.stacks.retain(&self.folders)
    }
}

impl LayerUnpacker for ErofsSnapshotter {
    fn unpack(&self, key: &SnapshotKey, tar: &mut dyn Read, stored: Option<&DiffId>) -> Result<Unpacked> {
        tracing::debug!(%key, "indexing a layer");
        let (diff_id, size_bytes) = match stored {
            Some(layer) => {
                self.layers.ensure(layer, &self.folders)?;
                (layer.clone(), self.layers.tar_bytes(layer)?)
            }
            None => self.layers.add(tar, &self.folders)?,
        };
        Ok(Unpacked { diff_id, size_bytes, content: Content::Index })
    }

    fn unpacked(&self, layer: &DiffId) -> Result<Option<Unpacked>> {
        if !self.layers.is_complete(layer)? {
            return Ok(None);
        }
        let size_bytes = self.layers.tar_bytes(layer)?;
        Ok(Some(Unpacked { diff_id: layer.clone(), size_bytes, content: Content::Index }))
    }

    fn stack(&self, unpacked: Unpacked, parent: Option<&ChainId>, id: &ChainId) -> Result<()> {
        let _lock = self.folders.lock()?;
        if self.contains(id)? {
            return Ok(());
        }
        let record = self.committed_record(&unpacked.diff_id, parent)?;
        self.name(&record, id, Durability::Volatile)?;
        self.folders.count_unpacked();
        Ok(())
    }

    fn seal(&self, top: &ChainId) -> Result<()> {
        let _lock = self.folders.lock()?;
        let known = self.folders.committed_record(top)?;
        let record = self.layers.current(known.clone())?;
        if record.sharing != known.sharing {
            record.write(&self.folders.committed(top), Durability::Volatile)?;
            self.folders.count_unpacked();
        }
        self.stacks.seal(&record.child(top), &self.layers, &self.folders)?;
        self.folders.sync_stacked()
    }
}

impl Snapshots for ErofsSnapshotter {
    fn stack_of(&self, id: &ChainId) -> Result<Vec<ChainId>> {
        self.folders.stack_of(id)
    }

    fn has_key(&self, key: &SnapshotKey) -> Result<bool> {
        self.folders.has_key(key)
    }

    fn collect(&self, kept: &Kept) -> Result<Collected> {
        self.folders.collect(kept, |left| self.clean(left))
    }

    fn needs_tars(&self) -> bool {
        true
    }

    fn tars_of(&self, id: &ChainId) -> Result<Vec<DiffId>> {
        Ok(self.folders.committed_record(id)?.layers)
    }

    fn check(&self) -> Result<Vec<Problem>> {
        self.folders.find_problems(&|snapshot, path, record| match snapshot {
            SnapshotName::Key(_) => Ok(lacks_files(path, record)),
            // An index that is missing is made again when it is needed; a tar is not.
            SnapshotName::Committed(_) => Ok(match record.layers.first() {
                None => Some("its record does not name its layer".to_owned()),
                Some(layer) => self.layers.lacks_tar(layer),
            }),
        })
    }

    fn verify(&self, id: &ChainId, _tar: &mut dyn Read) -> Result<Option<Problem>> {
        let record = self.layers.current(self.folders.committed_record(id)?)?;
        let Some(layer) = record.layers.first() else { return Ok(None) };
        let found = match self.layers.compare(layer, &self.folders)? {
            Some(found) => Some(found),
            None => self.stacks.compare(id, &record.child(id), &self.layers, &self.folders)?,
        };
        let snapshot = Some(SnapshotName::Committed(id.clone()));
        Ok(found.map(|path| Problem {
            snapshot,
            path,
            reason: "its index is not that of its layers".to_owned(),
        }))
    }

    fn remove_damaged(&self, problem: &Problem) -> Result<()> {
        self.folders.remove_damaged(problem)
    }

    fn staged(&self) -> Result<Vec<PathBuf>> {
        let records = self.folders.records()?;
        let mut paths = self.folders.staged()?;
        paths.extend(self.layers.unused(records.iter().map(|(_, record)| record))?);
        paths.extend(self.stacks.unused(&self.folders)?);
        Ok(paths)
    }

    fn paths(&self, snapshot: &SnapshotName) -> Vec<PathBuf> {
        let folder = self.folders.path(snapshot);
        let mut others = Vec::new();
        if let SnapshotName::Committed(id) = snapshot {
            let record = Record::read(&folder).ok().flatten().unwrap_or_default();
            others.push(self.stacks.path(id, &record));
            others.extend(record.layers.first().map(|layer| self.layers.path(layer)));
        }
        others.retain(|path| path.exists());
        others.insert(0, folder);
        others
    }
}

impl Snapshotter for ErofsSnapshotter {
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
        self.mount_of(key, self.folders.active_record(key)?)
    }

    fn diff(&self, key: &SnapshotKey, options: &DiffOptions, layer: &mut dyn Write) -> Result<DiffSummary> {
        self.folders.writable_record(key)?;
        let upper = Root::open(&files_of(&self.folders.active(key)))?;
        Ok(carrack_layer::diff(&upper, options, layer)?)
    }

    fn commit(&self, key: &SnapshotKey, id: &ChainId, layer: &DiffId) -> Result<()> {
        let _lock = self.folders.lock()?;
        let active = self.folders.writable_record(key)?;
        if !self.contains(id)? {
            let record = self.committed_record(layer, active.parent())?;
            self.layers.sync_names()?;
            self.name(&record, id, Durability::Durable)?;
            self.folders.sync_names()?;
        }
        self.discard(key)
    }

    fn discard(&self, key: &SnapshotKey) -> Result<()> {
        self.folders.discard(key)
    }

    fn remove(&self, id: &ChainId) -> Result<()> {
        let record = Record::read(&self.folders.committed(id))?.unwrap_or_default();
        self.folders.remove(id, |left| {
            self.stacks.remove(id, &record)?;
            match record.layers.first() {
                Some(layer) if !left.iter().any(|record| record.layers.contains(layer)) => {
                    self.layers.remove(layer, &self.folders)
                }
                _ => Ok(()),
            }
        })
    }

    fn usage(&self, id: &ChainId) -> Result<Usage> {
        Ok(self.folders.committed_record(id)?.usage.map(Usage::from).unwrap_or_default())
    }

    fn active_usage(&self, key: &SnapshotKey) -> Result<Usage> {
        self.folders.active_usage(key)
    }

    fn disk_bytes(&self, name: &SnapshotName) -> Result<u64> {
        match name {
            SnapshotName::Committed(id) => match self.folders.committed_record(id)?.layers.first() {
                Some(layer) => self.layers.disk_bytes(layer),
                None => Ok(0),
            },
            SnapshotName::Key(_) => self.folders.disk_bytes(name),
        }
    }

    fn list(&self) -> Result<Vec<SnapshotInfo>> {
        self.folders.list()
    }
}
