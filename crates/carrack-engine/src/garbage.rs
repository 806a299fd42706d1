//! Garbage collection: what no record names is deleted.
//!
//! Roots are image records, containers and build cache entries. Operations hold the operations lock shared while
//! they write what they have not named yet; collection holds it alone, and goes without when it cannot have it:
//! the next one finds the same garbage.

use std::collections::BTreeSet;

use carrack_image::{Image, reachable_blobs};
use carrack_oci::{ChainId, Digest};
use carrack_snapshot::{Kept, KeyError, Snapshots};
use carrack_sys::lock::Lock;

use crate::user_snapshots::is_users;
use crate::{Engine, Result};

/// What is to be kept.
#[derive(Default)]
struct Marked {
    blobs: BTreeSet<Digest>,
    snapshots: Kept,
}

impl Engine {
    /// Deletes every blob and snapshot that no record names.
    pub(crate) fn collect_garbage(&self) -> Result<()> {
        let Some(_alone) = Lock::try_exclusive(&self.operations_lock())? else { return Ok(()) };
        let others = self.other_snapshots()?;
        let stores: Vec<&dyn Snapshots> =
            std::iter::once(&*self.snapshots).chain(others.iter().map(AsRef::as_ref)).collect();
        let marked = self.mark(&stores)?;
        for store in &stores {
            store.collect(&marked.snapshots)?;
        }
        for (digest, _) in self.content.list()? {
            if !marked.blobs.contains(&digest) {
                self.content.delete(&digest)?;
            }
        }
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

    fn mark(&self, stores: &[&dyn Snapshots]) -> Result<Marked> {
        let mut marked = Marked::default();
        let kept = self.kept_snapshots()?;
        marked.blobs.extend(kept.values().map(|layer| layer.0.clone()));
        let mut tops: BTreeSet<ChainId> = kept.into_keys().collect();
        let keys = self.containers.list()?.into_iter().map(|container| container.record.snapshot.parse());
        marked.snapshots.keys = keys.collect::<Result<_, KeyError>>()?;
        for record in self.images.list()? {
            marked.blobs.extend(reachable_blobs(&self.content, &record)?);
            let image = Image::load(&self.content, &record.manifest)?;
            // The tar of a layer, where the store keeps it: a blob by its diff ID.
            marked.blobs.extend(image.config.rootfs.diff_ids.iter().map(|diff_id| diff_id.0.clone()));
            marked.snapshots.chains.extend(image.layers().into_iter().map(|layer| layer.chain_id));
        }
        for entry in self.build_cache().kept()? {
            marked.blobs.extend(entry.blob);
            tops.extend(entry.chain);
        }
        for store in stores {
            mark_stacks(*store, &tops, &mut marked)?;
        }
        Ok(marked)
    }
}

/// Marks, in one store, what users made by hand, and all that is below what is kept.
fn mark_stacks(store: &dyn Snapshots, tops: &BTreeSet<ChainId>, marked: &mut Marked) -> Result<()> {
    let mut tops = tops.clone();
    for snapshot in store.list()? {
        let Some(key) = snapshot.key() else { continue };
        if is_users(key) {
            marked.snapshots.keys.insert(key.clone());
        }
        if marked.snapshots.keys.contains(key) {
            tops.extend(snapshot.parent);
        }
    }
    for top in &tops {
        if store.contains(top)? {
            marked.snapshots.chains.extend(store.stack_of(top)?);
            marked.blobs.extend(store.tars_of(top)?.into_iter().map(|layer| layer.0));
        }
    }
    Ok(())
}
