//! What each image takes of the disk, alone and together with others, and how many containers it has.

use std::collections::{BTreeMap, BTreeSet};

use carrack_image::Image;
use carrack_oci::{ChainId, Digest};

use crate::{Engine, Result};

/// The use of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Bytes of its unpacked layers that other images have too.
    pub shared_bytes: u64,
    /// Bytes of its unpacked layers that go with it.
    pub unique_bytes: u64,
    /// Containers that were made of it.
    pub containers: usize,
}

impl Engine {
    /// The use of every image, by ID. Layers are compared with those of all images, so this reads every config.
    pub fn image_usage(&self) -> Result<BTreeMap<Digest, ImageUsage>> {
        let mut stacks: BTreeMap<Digest, Vec<ChainId>> = BTreeMap::new();
        for record in self.images.list()? {
            if !stacks.contains_key(record.id()) {
                let image = Image::load(&self.content, &record.manifest)?;
                let stack = image.layers().into_iter().map(|layer| layer.chain_id).collect();
                stacks.insert(record.id().clone(), stack);
            }
        }
        let mut seen = BTreeSet::new();
        let mut shared = BTreeSet::new();
        for chain in stacks.values().flatten() {
            if !seen.insert(chain) {
                shared.insert(chain);
            }
        }
        let containers = self.images_in_use()?;
        let mut usages = BTreeMap::new();
        for (id, stack) in &stacks {
            let containers = containers.get(id).copied().unwrap_or(0);
            let mut usage = ImageUsage { containers, ..ImageUsage::default() };
            for chain in stack {
                let size_bytes = self.snapshots.usage(chain)?.size_bytes;
                match shared.contains(chain) {
                    true => usage.shared_bytes += size_bytes,
                    false => usage.unique_bytes += size_bytes,
                }
            }
            usages.insert(id.clone(), usage);
        }
        Ok(usages)
    }

    /// How many containers each image ID has, where it has any.
    pub(crate) fn images_in_use(&self) -> Result<BTreeMap<Digest, usize>> {
        let mut counts = BTreeMap::new();
        for container in self.containers.list()? {
            *counts.entry(container.record.image_id).or_default() += 1;
        }
        Ok(counts)
    }
}
