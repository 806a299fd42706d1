//! Snapshots of whichever driver: this invocation's makes new ones, and those that another has made are used and
//! removed all the same.

use carrack_image::Image;
use carrack_oci::{ChainId, DiffId, Digest};
use carrack_snapshot::{Choice, Driver, Mount, SnapshotKey, Snapshots, Usage};

use crate::{Engine, Result};

/// A store of this invocation's driver, or of another.
pub(crate) enum Store<'a> {
    Own(&'a dyn Snapshots),
    Other(Box<dyn Snapshots>),
}

impl Store<'_> {
    pub(crate) fn get(&self) -> &dyn Snapshots {
        match self {
            Self::Own(store) => *store,
            Self::Other(store) => &**store,
        }
    }
}

impl Engine {
    /// The storage driver of this invocation, and why it is that one.
    pub fn storage_driver(&self) -> &Choice {
        &self.driver
    }

    /// The drivers but this invocation's that have made a store in the same root.
    pub(crate) fn other_drivers(&self) -> impl Iterator<Item = Driver> {
        let (own, root) = (self.driver.driver, self.snapshots_folder());
        Driver::ALL.into_iter().filter(move |driver| *driver != own && driver.has_store(&root))
    }

    /// The stores that other drivers have made in the same root.
    pub(crate) fn other_snapshots(&self) -> Result<Vec<Box<dyn Snapshots>>> {
        let root = self.snapshots_folder();
        Ok(self
            .other_drivers()
            .map(|driver| driver.open(&root, &self.content, &self.shares_folder()))
            .collect::<Result<_, _>>()?)
    }

    /// This invocation's store and `others`.
    pub(crate) fn with_own<'a>(&'a self, others: &'a [Box<dyn Snapshots>]) -> Vec<&'a dyn Snapshots> {
        std::iter::once(&*self.snapshots).chain(others.iter().map(AsRef::as_ref)).collect()
    }

    /// The store that has an active snapshot or a view; this invocation's own when none has.
    pub(crate) fn store_of(&self, key: &SnapshotKey) -> Result<Store<'_>> {
        if !self.snapshots.has_key(key)? {
            for store in self.other_snapshots()? {
                if store.has_key(key)? {
                    return Ok(Store::Other(store));
                }
            }
        }
        Ok(Store::Own(&*self.snapshots))
    }

    /// The mount of an active snapshot or a view.
    pub(crate) fn mount_snapshot(&self, key: &SnapshotKey) -> Result<Mount> {
        Ok(self.store_of(key)?.get().mount(key)?)
    }

    /// What a committed snapshot itself holds.
    pub(crate) fn usage_of(&self, id: &ChainId) -> Result<Usage> {
        match self.snapshots.usage(id) {
            Err(error @ carrack_snapshot::Error::NotFound { .. }) => {
                let others = self.other_snapshots()?;
                let found = others.iter().find_map(|store| store.usage(id).ok());
                found.ok_or_else(|| error.into())
            }
            usage => Ok(usage?),
        }
    }

    /// Removes an active snapshot or a view; one that does not exist is removed already.
    pub(crate) fn discard_snapshot(&self, key: &SnapshotKey) -> Result<()> {
        self.snapshots.discard(key)?;
        for store in self.other_snapshots()? {
            store.discard(key)?;
        }
        Ok(())
    }

    /// Makes a writable snapshot on an image. The image may have been pulled under another driver: its layers are
    /// made again then, from what the store has of them.
    pub(crate) fn prepare_on(&self, key: &SnapshotKey, image: &Image) -> Result<Mount> {
        let top = image.chain_id();
        match self.snapshots.prepare(key, top.as_ref()) {
            Err(carrack_snapshot::Error::NotFound { .. }) => {
                self.ensure_image(image)?;
                Ok(self.snapshots.prepare(key, top.as_ref())?)
            }
            mount => Ok(mount?),
        }
    }

    /// Makes sure that the snapshots of an image exist; returns the topmost.
    pub(crate) fn ensure_image(&self, image: &Image) -> Result<Option<ChainId>> {
        let layers = image.layers();
        self.ensure_stack(layers.iter().map(|layer| (&layer.descriptor.digest, layer.diff_id)))
    }

    /// Makes sure that the snapshot of a stack of layers exists, from what the store has of them.
    pub(crate) fn ensure_stack<'a>(
        &self,
        layers: impl Iterator<Item = (&'a Digest, &'a DiffId)>,
    ) -> Result<Option<ChainId>> {
        let mut parent: Option<ChainId> = None;
        let mut is_new = false;
        for (digest, diff_id) in layers {
            let id = ChainId::child(parent.as_ref(), diff_id);
            if !self.snapshots.contains(&id)? {
                let unpacked = self.unpack_layer(digest, diff_id)?;
                self.snapshots.stack(unpacked, parent.as_ref(), &id)?;
                is_new = true;
            }
            parent = Some(id);
        }
        if let Some(top) = parent.as_ref().filter(|_| is_new) {
            self.snapshots.seal(top)?;
        }
        Ok(parent)
    }
}
