//! System prune: stopped containers, images that nobody uses, the build cache, and all leftovers.

use carrack_container::{Container, ContainerId};
use jiff::Timestamp;

use crate::image_filter::parse_time;
use crate::images::Removed;
use crate::volumes::VolumeFilters;
use crate::{Engine, Error, PruneImages, Result};

/// What a prune of the system is about.
#[derive(Clone, Debug, Default)]
pub struct SystemPrune {
    /// Also images that have a name.
    pub all: bool,
    /// Also volumes that no container has and no user has named.
    pub volumes: bool,
    /// `until=TIME` or `label=KEY[=VALUE]`: only what was created before, or has the label. The build cache knows
    /// neither and is then left alone.
    pub filters: Vec<String>,
}

/// What a prune of the system did.
#[derive(Debug, Default)]
pub struct SystemPruned {
    /// Containers.
    pub containers: Vec<ContainerId>,
    /// Volumes.
    pub volumes: Vec<String>,
    /// Names and images, in order.
    pub images: Vec<Removed>,
    /// How many entries of the build cache.
    pub cache_entries: usize,
    /// What the store takes less on disk.
    pub reclaimed_bytes: u64,
}

/// The filters, as containers know them.
#[derive(Default)]
struct ContainerFilters {
    until: Option<Timestamp>,
    labels: Vec<String>,
}

impl ContainerFilters {
    fn parse(filters: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for filter in filters {
            let until = filter.strip_prefix("until=").map(parse_time);
            match (until, filter.strip_prefix("label=")) {
                (Some(Some(time)), _) => parsed.until = Some(time),
                (None, Some(label)) => parsed.labels.push(label.to_owned()),
                _ => {
                    let expected = "until=TIME, until=DURATION or label=KEY[=VALUE]";
                    return Err(Error::refused(
                        format!("invalid filter {filter:?}: expected {expected}"),
                        "",
                    ));
                }
            }
        }
        Ok(parsed)
    }

    fn admit(&self, container: &Container) -> bool {
        let record = &container.record;
        let has = |label: &String| {
            let (key, value) =
                label.split_once('=').map_or((label.as_str(), None), |(key, value)| (key, Some(value)));
            record.labels.get(key).is_some_and(|found| value.is_none_or(|value| value == found))
        };
        self.until.is_none_or(|until| record.created < until) && self.labels.iter().all(has)
    }
}

impl Engine {
    /// Removes what is not in use, containers first, because they hold images.
    pub fn prune_system(&self, request: &SystemPrune) -> Result<SystemPruned> {
        let filters = ContainerFilters::parse(&request.filters)?;
        let image_filters = self.image_filters(&request.filters)?;
        let before = self.store_bytes()?;
        let containers = self.prune_containers_that(&|container| filters.admit(container))?;
        let volumes = match request.volumes {
            true => self.prune_volumes(false, &VolumeFilters::parse(&request.filters)?)?.0,
            false => Vec::new(),
        };
        let images = self.prune_images(&PruneImages { all: request.all, filters: image_filters })?.removed;
        let cache_entries = if request.filters.is_empty() { self.prune_build_cache()? } else { 0 };
        self.collect_garbage()?;
        let reclaimed_bytes = before.saturating_sub(self.store_bytes()?);
        Ok(SystemPruned { containers, volumes, images, cache_entries, reclaimed_bytes })
    }
}
