//! Layers of an image: unpacked side by side, then named in order.
//!
//! Invariant: what is stacked has been synced before, and one sync covers all layers that were unpacked by then.

use std::io::Read;
use std::sync::atomic::Ordering;

use carrack_layer::{ApplyOptions, apply, is_opaque};
use carrack_oci::ChainId;
use carrack_sys::rooted::Root;
use carrack_sys::{IoContext, atomic};

use super::record::Record;
use super::{OverlaySnapshotter, copy_folder_metadata, make_files_folder, rename_new};
use crate::{LayerUnpacker, Mount, Result, SnapshotKey, Snapshotter, Unpacked};

impl LayerUnpacker for OverlaySnapshotter {
    fn unpack(&self, key: &SnapshotKey, tar: &mut dyn Read) -> Result<Unpacked> {
        let staged = self.stage()?;
        tracing::debug!(%key, folder = %staged.path.display(), "unpacking a layer");
        make_files_folder(&staged.files(), None)?;
        let applied = apply(tar, &Root::open(&staged.files())?, &ApplyOptions::default())?;
        let number = self.unpacked.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Unpacked { applied, staged, number })
    }

    fn stack(&self, unpacked: Unpacked, parent: Option<&ChainId>, id: &ChainId) -> Result<()> {
        let _lock = self.lock()?;
        if self.contains(id)? {
            return Ok(());
        }
        let mut record = self.child_record(parent)?;
        if unpacked.applied.is_opaque {
            record.visible_count = 0;
        }
        record.usage = Some(unpacked.applied.usage.into());
        let is_changed = self.complete_folders(&unpacked, &record)?;
        record.write(&unpacked.staged.path)?;
        if is_changed || self.synced.load(Ordering::SeqCst) < unpacked.number {
            self.sync_data()?;
        }
        rename_new(&unpacked.staged.path, &self.committed(id))?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.sync_data()?;
        Ok(atomic::sync_parent(&self.root.join("committed/any"))?)
    }
}

impl OverlaySnapshotter {
    /// Gives the folders that the layer did not describe the metadata that they have below; whether there were any.
    fn complete_folders(&self, unpacked: &Unpacked, record: &Record) -> Result<bool> {
        let implicit = &unpacked.applied.implicit_dirs;
        if implicit.is_empty() || record.visible().is_empty() {
            return Ok(false);
        }
        let below = self.mount_below(record).open_root()?;
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

    /// What can be seen below a layer.
    fn mount_below(&self, record: &Record) -> Mount {
        let view = Record { is_view: true, ..record.clone() };
        self.mount_of(&self.root, &view)
    }

    /// Makes the content of the whole store durable; every layer unpacked so far is covered.
    pub(super) fn sync_data(&self) -> Result<()> {
        let unpacked = self.unpacked.load(Ordering::SeqCst);
        let root = Root::open(&self.root)?;
        rustix::fs::syncfs(&root).during("sync the file system of", &self.root)?;
        self.synced.fetch_max(unpacked, Ordering::SeqCst);
        Ok(())
    }
}
