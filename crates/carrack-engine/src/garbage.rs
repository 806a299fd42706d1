//! Garbage collection: what no record names is deleted.
//!
//! Roots are image records, manifest lists, containers, build cache entries and snapshots that users made. Operations
//! hold the operations lock shared while they write what they have not named yet; collection holds it alone, and goes
//! without when it cannot have it: the next one finds the same garbage.

use std::collections::BTreeSet;

use carrack_image::{Image, LayerOrigin, ListSource, reachable_blobs};
use carrack_oci::{ChainId, Digest};
use carrack_snapshot::{Kept, KeyError, Snapshots};
use carrack_sys::lock::Lock;

use crate::user_snapshots::is_users;
use crate::{Engine, Result};

/// What is to be kept.
#[derive(Default)]
pub(crate) struct Marked {
    pub blobs: BTreeSet<Digest>,
    pub snapshots: Kept,
}

impl Marked {
    /// Whether the layer is kept, as it came or as its tar.
    pub(crate) fn names(&self, origin: &LayerOrigin) -> bool {
        self.blobs.contains(&origin.digest) || self.blobs.contains(&origin.diff_id.0)
    }

    fn add_layers(&mut self, image: &Image) {
        // The tar of a layer, where the store keeps it: a blob by its diff ID.
        self.blobs.extend(image.config.rootfs.diff_ids.iter().map(|diff_id| diff_id.0.clone()));
        self.snapshots.chains.extend(image.layers().into_iter().map(|layer| layer.chain_id));
    }
}

/// What a collection deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Number of blobs.
    pub blobs: u64,
    /// Number of snapshots.
    pub snapshots: u64,
    /// The length of all blobs, and of all files in the snapshots.
    pub bytes: u64,
}

impl Engine {
    /// Deletes every blob and snapshot that no record names.
    pub(crate) fn collect_garbage(&self) -> Result<Collected> {
        let mut collected = Collected::default();
        let Some(_alone) = Lock::try_exclusive(&self.operations_lock())? else { return Ok(collected) };
        let others = self.other_snapshots()?;
        let stores = self.with_own(&others);
        let marked = self.mark_in(&stores)?;
        for store in &stores {
            let taken = store.collect(&marked.snapshots)?;
            collected.snapshots += taken.snapshots;
            collected.bytes += taken.bytes;
        }
        let lent = self.content.borrowed_by(&marked.blobs)?;
        for (digest, size_bytes) in self.content.list()? {
            if marked.blobs.contains(&digest) {
                continue;
            }
            let kept_bytes =
                lent.get(&digest).map_or(0, |ranges| ranges.iter().map(|(start, end)| end - start).sum());
            match lent.contains_key(&digest) {
                true => self.content.retire(&digest)?,
                false => self.content.delete(&digest)?,
            }
            collected.blobs += 1;
            collected.bytes += size_bytes.saturating_sub(kept_bytes);
        }
        self.content.keep_lent(&lent)?;
        self.origins.retain(|origin| marked.names(origin))?;
        self.clear_leftovers()?;
        self.content.clear_ingests()?;
        Ok(collected)
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

    /// What the records of all kinds name.
    pub(crate) fn mark(&self) -> Result<Marked> {
        let others = self.other_snapshots()?;
        self.mark_in(&self.with_own(&others))
    }

    fn mark_in(&self, stores: &[&dyn Snapshots]) -> Result<Marked> {
        let mut marked = Marked::default();
        let kept = self.kept_snapshots()?;
        marked.blobs.extend(kept.values().map(|layer| layer.0.clone()));
        let mut tops: BTreeSet<ChainId> = kept.into_keys().collect();
        let scan = self.containers.scan()?;
        // What cannot be read is no reason to throw away what a container has written.
        let unlinked = scan.unlinked.into_iter().map(|(id, _)| id);
        let damaged = scan.damaged.into_iter().map(|(id, _)| id).chain(unlinked);
        let damaged = damaged.map(|id| format!("container-{id}").parse());
        let sound = scan.containers.into_iter().map(|container| container.record.snapshot.parse());
        let keys = sound.chain(damaged);
        marked.snapshots.keys = keys.collect::<Result<_, KeyError>>()?;
        for record in self.images.list()? {
            marked.blobs.extend(reachable_blobs(&self.content, &record)?);
            marked.add_layers(&Image::load(&self.content, &record.manifest)?);
        }
        self.mark_lists(&mut marked)?;
        for entry in self.build_cache().kept()? {
            marked.blobs.extend(entry.blob);
            tops.extend(entry.chain);
        }
        for store in stores {
            mark_stacks(*store, &tops, &mut marked)?;
        }
        Ok(marked)
    }

    /// The manifests that lists name, and all of an image that is here for the sake of a list.
    fn mark_lists(&self, marked: &mut Marked) -> Result<()> {
        for list in self.lists.list()? {
            for entry in &list.index.manifests {
                marked.blobs.insert(entry.digest.clone());
                if list.sources.get(&entry.digest) == Some(&ListSource::Local) {
                    let image = Image::load(&self.content, entry)?;
                    marked.blobs.extend(image.blobs().map(|blob| blob.digest.clone()));
                    marked.add_layers(&image);
                }
            }
        }
        Ok(())
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
        // An entry of the build cache is a hint: its snapshot may have been lost.
        if store.contains(top)? {
            marked.snapshots.chains.extend(store.stack_of(top)?);
            marked.blobs.extend(store.tars_of(top)?.into_iter().map(|layer| layer.0));
        }
    }
    Ok(())
}
