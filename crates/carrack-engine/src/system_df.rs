//! Disk usage: what each image, container and cache entry takes on disk, shared and alone.
//!
//! Invariant: every file of the store counts once in the totals, by the blocks that it takes, as `du` counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use carrack_container::Container;
use carrack_image::{Image, ImageRecord, reachable_blobs};
use carrack_oci::{ChainId, Digest};
use carrack_snapshot::{SnapshotKey, SnapshotName};
use carrack_sys::{IoContext, tree};

use crate::volumes::{VolumeFilters, VolumeUse};
use crate::{Engine, Result};

/// What the whole store takes.
#[derive(Debug, Default)]
pub struct DiskUsage {
    /// By image ID and manifest, in the order of their names.
    pub images: Vec<ImageSpace>,
    /// By container, the newest first.
    pub containers: Vec<ContainerSpace>,
    /// Volumes by name.
    pub volumes: Vec<VolumeSpace>,
    /// Entries of the build cache.
    pub cache: Vec<CacheSpace>,
    /// What images take together.
    pub images_bytes: u64,
    /// What they would take without those that no container was made of.
    pub used_images_bytes: u64,
    /// What the build cache takes beside images.
    pub cache_bytes: u64,
    /// What the next collection takes.
    pub leftover_bytes: u64,
    /// All else: records, and what other storage drivers have kept in this store.
    pub other_bytes: u64,
}

impl DiskUsage {
    /// What images, containers, the cache and leftovers take together.
    fn listed_bytes(&self) -> u64 {
        let containers: u64 = self.containers.iter().map(|container| container.size_bytes).sum();
        self.images_bytes + containers + self.cache_bytes + self.leftover_bytes
    }
}

/// One image.
#[derive(Debug)]
pub struct ImageSpace {
    /// One of its records.
    pub record: ImageRecord,
    /// All that it takes.
    pub size_bytes: u64,
    /// What other images have too.
    pub shared_bytes: u64,
    /// How many containers were made of it.
    pub containers: usize,
}

impl ImageSpace {
    /// What its removal frees, once no container is in the way.
    pub fn unique_bytes(&self) -> u64 {
        self.size_bytes - self.shared_bytes
    }
}

/// One container.
#[derive(Debug)]
pub struct ContainerSpace {
    /// Its record and state.
    pub container: Container,
    /// What it takes beside its image.
    pub size_bytes: u64,
}

/// One volume.
#[derive(Debug)]
pub struct VolumeSpace {
    /// The volume, and the containers that have it.
    pub volume: VolumeUse,
    /// What it takes.
    pub size_bytes: u64,
}

/// One entry of the build cache.
#[derive(Debug)]
pub struct CacheSpace {
    /// Its key.
    pub id: String,
    /// What it keeps.
    pub size_bytes: u64,
    /// When a build used it last.
    pub last_used: SystemTime,
    /// Whether images have it too.
    pub is_shared: bool,
}

/// Paths that belong together; none lies below another.
type Parts = BTreeSet<PathBuf>;

/// Measures each path once.
#[derive(Default)]
struct Scale {
    known: BTreeMap<PathBuf, u64>,
}

impl Scale {
    fn weigh<'a>(&mut self, paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<u64> {
        let mut sum = 0;
        for path in paths {
            if !self.known.contains_key(path) {
                self.known.insert(path.clone(), measure(path)?);
            }
            sum += self.known[path];
        }
        Ok(sum)
    }
}

/// A running container changes its folder while it is walked.
fn measure(path: &Path) -> Result<u64> {
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        match tree::allocated_bytes(path) {
            Err(error) if error.is_not_found() => {}
            result => return Ok(result?),
        }
    }
    Ok(tree::allocated_bytes(path)?)
}

impl Engine {
    /// What a container takes on disk beside its image, and together with it.
    pub fn container_size(&self, container: &Container) -> Result<(u64, u64)> {
        let of_image = match self.images.find(&container.record.image_id.to_string()) {
            Err(carrack_image::Error::NotFound { .. }) => 0,
            result => result?.record.size_bytes,
        };
        let mut scale = Scale::default();
        let own = scale.weigh(&self.own_parts(container)?)?;
        Ok((own, own + of_image))
    }

    /// Measures the store.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let _operation = self.operation()?;
        let mut scale = Scale::default();
        let containers = self.containers.list()?;
        let mut usage = DiskUsage::default();
        let images = self.image_parts()?;
        let mut named = self.weigh_images(&images, &containers, &mut scale, &mut usage)?;
        for container in containers {
            let parts: Parts = self.container_parts(&container)?.difference(&named).cloned().collect();
            let size_bytes = scale.weigh(&parts)?;
            named.extend(parts);
            usage.containers.push(ContainerSpace { container, size_bytes });
        }
        for volume in self.list_volumes(&VolumeFilters::default())? {
            let size_bytes = scale.weigh([&volume.volume.folder])?;
            usage.volumes.push(VolumeSpace { volume, size_bytes });
        }
        self.weigh_cache(&mut named, &mut scale, &mut usage)?;
        let rest: Parts = self.all_parts()?.difference(&named).cloned().collect();
        usage.leftover_bytes = scale.weigh(&rest)?;
        // Another operation may have changed something since.
        usage.other_bytes = self.store_bytes()?.saturating_sub(usage.listed_bytes());
        Ok(usage)
    }

    /// Returns what images take.
    fn weigh_images(
        &self,
        images: &[(ImageRecord, Parts)],
        containers: &[Container],
        scale: &mut Scale,
        usage: &mut DiskUsage,
    ) -> Result<Parts> {
        let mut users: BTreeMap<&PathBuf, usize> = BTreeMap::new();
        for path in images.iter().flat_map(|(_, parts)| parts) {
            *users.entry(path).or_default() += 1;
        }
        let mut used = Parts::new();
        for (record, parts) in images {
            let count =
                containers.iter().filter(|container| container.record.image_id == *record.id()).count();
            if count > 0 {
                used.extend(parts.iter().cloned());
            }
            usage.images.push(ImageSpace {
                record: record.clone(),
                size_bytes: scale.weigh(parts)?,
                shared_bytes: scale.weigh(parts.iter().filter(|part| users[part] > 1))?,
                containers: count,
            });
        }
        let all: Parts = images.iter().flat_map(|(_, parts)| parts.iter().cloned()).collect();
        usage.images_bytes = scale.weigh(&all)?;
        usage.used_images_bytes = scale.weigh(&used)?;
        Ok(all)
    }

    /// The paths of every image; one with several names is one image.
    fn image_parts(&self) -> Result<Vec<(ImageRecord, Parts)>> {
        let mut images: Vec<(ImageRecord, Parts)> = Vec::new();
        for record in self.images.list()? {
            let file = self.images.path(&record);
            if let Some((_, parts)) = images.iter_mut().find(|(known, _)| known.manifest == record.manifest) {
                parts.insert(file);
                continue;
            }
            let image = Image::load(&self.content, &record.manifest)?;
            let mut digests: BTreeSet<Digest> = reachable_blobs(&self.content, &record)?;
            digests.extend(image.config.rootfs.diff_ids.iter().map(|diff_id| diff_id.0.clone()));
            let mut parts: Parts = digests.iter().flat_map(|digest| self.blob_parts(digest)).collect();
            for layer in image.layers() {
                parts.extend(self.chain_parts(&layer.chain_id));
            }
            parts.insert(file);
            images.push((record, parts));
        }
        Ok(images)
    }

    /// The files of a blob, and of those that it borrows from.
    fn blob_parts(&self, digest: &Digest) -> Vec<PathBuf> {
        let mut paths = self.content.paths(digest);
        paths.extend(self.content.lender_paths(digest));
        paths
    }

    fn chain_parts(&self, chain: &ChainId) -> Vec<PathBuf> {
        self.snapshots.paths(&SnapshotName::Committed(chain.clone()))
    }

    /// The folder and the snapshot of a container, and the layers below it, which may have no other user.
    fn container_parts(&self, container: &Container) -> Result<Parts> {
        let mut parts = self.own_parts(container)?;
        let name = SnapshotName::Key(SnapshotKey::new(&container.record.snapshot)?);
        let info = self.snapshots.list()?.into_iter().find(|info| info.name == name);
        if let Some(parent) = info.and_then(|info| info.parent) {
            for chain in self.snapshots.stack_of(&parent)? {
                parts.extend(self.chain_parts(&chain));
            }
        }
        Ok(parts)
    }

    /// The folder and the snapshot of a container, without what is below it.
    fn own_parts(&self, container: &Container) -> Result<Parts> {
        let name = SnapshotName::Key(SnapshotKey::new(&container.record.snapshot)?);
        let mut parts = Parts::from([self.containers.folder(&container.record.id)]);
        parts.extend(self.snapshots.paths(&name));
        Ok(parts)
    }

    fn weigh_cache(&self, named: &mut Parts, scale: &mut Scale, usage: &mut DiskUsage) -> Result<()> {
        let mut all = Parts::new();
        for entry in self.build_cache().entries()? {
            let mut parts = Parts::new();
            parts.extend(entry.kept.blob.iter().flat_map(|digest| self.blob_parts(digest)));
            parts.extend(entry.kept.chain.iter().flat_map(|chain| self.chain_parts(chain)));
            let is_shared = parts.iter().any(|part| named.contains(part));
            for chain in
                entry.kept.chain.iter().filter(|chain| self.snapshots.contains(chain).unwrap_or(false))
            {
                for below in self.snapshots.stack_of(chain)? {
                    all.extend(self.chain_parts(&below));
                }
            }
            parts.insert(entry.path.clone());
            all.extend(parts.iter().cloned());
            let id = entry.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let size_bytes = scale.weigh(&parts)?;
            usage.cache.push(CacheSpace { id, size_bytes, last_used: entry.last_used, is_shared });
        }
        all.insert(self.environment.paths.root.join("build-files.cache"));
        let own: Parts = all.difference(named).cloned().collect();
        usage.cache_bytes = scale.weigh(&own)?;
        named.extend(own);
        Ok(())
    }

    /// All blobs, snapshots and writes in progress.
    fn all_parts(&self) -> Result<Parts> {
        let mut parts: Parts = self.content.ingests()?.into_iter().collect();
        parts.extend(self.content.list()?.iter().flat_map(|(digest, _)| self.content.paths(digest)));
        parts.extend(self.content.lent()?.into_iter().map(|(_, path)| path));
        parts.extend(self.snapshots.staged()?);
        for snapshot in self.snapshots.list()? {
            parts.extend(self.snapshots.paths(&snapshot.name));
        }
        Ok(parts)
    }

    /// What all folders of images, containers and caches take together, with all that is not listed anywhere.
    pub(crate) fn store_bytes(&self) -> Result<u64> {
        let root = &self.environment.paths.root;
        let mut bytes = 0;
        for entry in fs::read_dir(root).during("list", root)? {
            let entry = entry.during("list", root)?;
            // The registry that is served from here is not a part of the store.
            if entry.file_name() != "registry" {
                bytes += measure(&entry.path())?;
            }
        }
        Ok(bytes)
    }
}
