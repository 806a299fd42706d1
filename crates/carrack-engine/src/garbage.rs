//! Garbage collection: what no record names is deleted.
//!
//! Roots are image records, containers and build cache entries. Operations hold the operations lock shared while
//! they write what they have not named yet; collection holds it alone, and goes without when it cannot have it:
//! the next one finds the same garbage.

use std::collections::BTreeSet;

use carrack_image::{Image, reachable_blobs};
use carrack_oci::{ChainId, Digest};
use carrack_snapshot::SnapshotName;
use carrack_sys::lock::Lock;

use crate::{Engine, Result};

/// What is to be kept.
#[derive(Default)]
pub(crate) struct Marked {
    pub blobs: BTreeSet<Digest>,
    pub chains: BTreeSet<ChainId>,
    /// Snapshots of containers.
    pub keys: BTreeSet<String>,
}

impl Engine {
    /// Deletes every blob and snapshot that no record names.
    pub(crate) fn collect_garbage(&self) -> Result<()> {
        let Some(_alone) = Lock::try_exclusive(&self.operations_lock())? else { return Ok(()) };
        let marked = self.mark()?;
        // Each snapshot is listed before its parent, so that none loses what it stands on.
        for snapshot in self.snapshots.list()? {
            match &snapshot.name {
                SnapshotName::Committed(id) if !marked.chains.contains(id) => self.snapshots.remove(id)?,
                SnapshotName::Key(key) if !marked.keys.contains(key.as_str()) => {
                    self.snapshots.discard(key)?
                }
                _ => {}
            }
        }
        for (digest, _) in self.content.list()? {
            if !marked.blobs.contains(&digest) {
                self.content.delete(&digest)?;
            }
        }
        self.clear_leftovers()?;
        self.snapshots.clear_staging()?;
        Ok(self.content.clear_ingests()?)
    }

    /// Leaves nothing of an image that was refused. What a broken connection has cut short stays: the next attempt
    /// goes on from there.
    pub(crate) fn clear_after_refusal<T>(&self, result: Result<T>) -> Result<T> {
        if result.as_ref().is_err_and(|error| !error.is_transient())
            && let Err(error) = self.collect_garbage()
        {
            tracing::warn!(%error, "what was fetched is left for the next collection");
        }
        result
    }

    pub(crate) fn mark(&self) -> Result<Marked> {
        let mut marked = Marked::default();
        marked.keys.extend(self.containers.list()?.into_iter().map(|container| container.record.snapshot));
        for snapshot in self.snapshots.list()? {
            if snapshot.key().is_some_and(|key| marked.keys.contains(key.as_str())) {
                marked.chains.extend(self.parents(snapshot.parent.as_ref())?);
            }
        }
        for record in self.images.list()? {
            marked.blobs.extend(reachable_blobs(&self.content, &record)?);
            let image = Image::load(&self.content, &record.manifest)?;
            // The tar of a layer, where the store keeps it: a blob by its diff ID.
            marked.blobs.extend(image.config.rootfs.diff_ids.iter().map(|diff_id| diff_id.0.clone()));
            marked.chains.extend(image.layers().into_iter().map(|layer| layer.chain_id));
        }
        for entry in self.build_cache().kept()? {
            marked.blobs.extend(entry.blob);
            // An entry is a hint: its snapshot may have been lost.
            if let Some(chain) = entry.chain.filter(|chain| self.snapshots.contains(chain).unwrap_or(false)) {
                marked.chains.extend(self.parents(Some(&chain))?);
            }
        }
        Ok(marked)
    }

    /// A committed snapshot and all below it.
    fn parents(&self, top: Option<&ChainId>) -> Result<Vec<ChainId>> {
        top.map_or(Ok(Vec::new()), |top| Ok(self.snapshots.stack_of(top)?))
    }
}
