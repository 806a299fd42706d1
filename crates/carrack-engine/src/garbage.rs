//! Garbage collection: what no record names is deleted.
//!
//! Roots are image records, manifest lists, containers and build cache entries. Operations hold the operations lock shared while
//! they write what they have not named yet; collection holds it alone, and goes without when it cannot have it:
//! the next one finds the same garbage.

use std::collections::BTreeSet;

use carrack_image::{Image, ListSource, reachable_blobs};
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

impl Marked {
    fn add_layers(&mut self, image: &Image) {
        // The tar of a layer, where the store keeps it: a blob by its diff ID.
        self.blobs.extend(image.config.rootfs.diff_ids.iter().map(|diff_id| diff_id.0.clone()));
        self.chains.extend(image.layers().into_iter().map(|layer| layer.chain_id));
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
        let marked = self.mark()?;
        // Each snapshot is listed before its parent, so that none loses what it stands on.
        for snapshot in self.snapshots.list()? {
            match &snapshot.name {
                SnapshotName::Committed(id) if !marked.chains.contains(id) => {
                    let size_bytes = self.snapshots.usage(id)?.size_bytes;
                    self.snapshots.remove(id)?;
                    collected.bytes += size_bytes;
                }
                SnapshotName::Key(key) if !marked.keys.contains(key.as_str()) => {
                    self.snapshots.discard(key)?;
                }
                _ => continue,
            }
            collected.snapshots += 1;
        }
        for (digest, size_bytes) in self.content.list()? {
            if !marked.blobs.contains(&digest) {
                self.content.delete(&digest)?;
                collected.blobs += 1;
                collected.bytes += size_bytes;
            }
        }
        let is_named = |digest: &Digest| marked.blobs.contains(digest);
        self.origins.retain(|origin| is_named(&origin.digest) || is_named(&origin.diff_id.0))?;
        self.clear_leftovers()?;
        self.snapshots.clear_staging()?;
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
            marked.add_layers(&Image::load(&self.content, &record.manifest)?);
        }
        self.mark_lists(&mut marked)?;
        for entry in self.build_cache().kept()? {
            marked.blobs.extend(entry.blob);
            // An entry is a hint: its snapshot may have been lost.
            if let Some(chain) = entry.chain.filter(|chain| self.snapshots.contains(chain).unwrap_or(false)) {
                marked.chains.extend(self.parents(Some(&chain))?);
            }
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

    /// A committed snapshot and all below it.
    fn parents(&self, top: Option<&ChainId>) -> Result<Vec<ChainId>> {
        top.map_or(Ok(Vec::new()), |top| Ok(self.snapshots.stack_of(top)?))
    }
}
