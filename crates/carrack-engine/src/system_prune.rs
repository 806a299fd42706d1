//! System prune: stopped containers, images that nobody uses, the build cache, and all leftovers.

use std::collections::BTreeMap;

use carrack_container::{Container, ContainerId};
use jiff::Timestamp;

use crate::images::Removed;
use crate::{Engine, Result};

/// What a prune of the system is about.
#[derive(Clone, Debug, Default)]
pub struct SystemPrune {
    /// Also images that have a name.
    pub all: bool,
    /// Only what was created before; the build cache is then left alone.
    pub until: Option<Timestamp>,
    /// Only what has these labels: `KEY` or `KEY=VALUE`.
    pub labels: Vec<String>,
}

/// What a prune of the system did.
#[derive(Debug, Default)]
pub struct SystemPruned {
    /// Containers.
    pub containers: Vec<ContainerId>,
    /// Names and images, in order.
    pub images: Vec<Removed>,
    /// How many entries of the build cache.
    pub cache_entries: usize,
    /// What the store takes less on disk.
    pub reclaimed_bytes: u64,
}

impl SystemPrune {
    fn admits(&self, created: Timestamp, labels: Option<&BTreeMap<String, String>>) -> bool {
        let has = |label: &String| {
            let (key, value) =
                label.split_once('=').map_or((label.as_str(), None), |(key, value)| (key, Some(value)));
            let found = labels.and_then(|labels| labels.get(key));
            found.is_some_and(|found| value.is_none_or(|value| value == found))
        };
        self.until.is_none_or(|until| created < until) && self.labels.iter().all(has)
    }
}

impl Engine {
    /// Removes what is not in use, containers first, because they hold images.
    pub fn prune_system(&self, request: &SystemPrune) -> Result<SystemPruned> {
        let before = self.store_bytes()?;
        let is_meant =
            |container: &Container| request.admits(container.record.created, Some(&container.record.labels));
        let containers = self.prune_containers_that(&is_meant)?;
        let images = self.prune_unused_images(request)?;
        let is_narrow = request.until.is_some() || !request.labels.is_empty();
        let cache_entries = if is_narrow { 0 } else { self.prune_build_cache()? };
        self.collect_garbage()?;
        let reclaimed_bytes = before.saturating_sub(self.store_bytes()?);
        Ok(SystemPruned { containers, images, cache_entries, reclaimed_bytes })
    }

    fn prune_unused_images(&self, request: &SystemPrune) -> Result<Vec<Removed>> {
        let _operation = self.operation()?;
        let containers = self.containers.list()?;
        let mut removed = Vec::new();
        for record in self.images.list()? {
            let is_used = containers.iter().any(|container| container.record.image_id == *record.id());
            let is_meant = request.all || record.reference.is_none();
            let created = Timestamp::from_second(record.created_unix).unwrap_or_default();
            let labels = self.load_image(&record)?.config.config.labels;
            if is_used
                || !is_meant
                || !request.admits(created, labels.as_ref())
                || !self.images.delete(&record)?
            {
                continue;
            }
            removed.extend(record.reference.as_ref().map(|name| Removed::Untagged(name.familiar())));
            if self.images.names_of(record.id())?.is_empty() {
                removed.push(Removed::Deleted(record.id().to_string()));
            }
        }
        Ok(removed)
    }
}
