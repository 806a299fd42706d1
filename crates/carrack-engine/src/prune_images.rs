//! Prune: images that nobody uses are removed, and what they alone held is deleted.

use carrack_image::ImageRecord;

use crate::garbage::Collected;
use crate::images::Removed;
use crate::{Engine, ImageFilters, Result};

/// Which images a prune is about.
#[derive(Clone, Debug, Default)]
pub struct PruneImages {
    /// Also images that have a name; else only those without one.
    pub all: bool,
    /// Which of them.
    pub filters: ImageFilters,
}

/// What a prune did.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Names and images, in order.
    pub removed: Vec<Removed>,
    /// What was deleted of the disk; also what others had left there.
    pub collected: Collected,
}

impl Engine {
    /// Removes the images that no container was made of. With `all` an image goes with every name that passes the
    /// filters, and stays as long as another one is left.
    pub fn prune_images(&self, request: &PruneImages) -> Result<Pruned> {
        let removed = self.prune_records(request)?;
        Ok(Pruned { removed, collected: self.collect_garbage()? })
    }

    fn prune_records(&self, request: &PruneImages) -> Result<Vec<Removed>> {
        let _operation = self.operation()?;
        let used = self.images_in_use()?;
        let mut removed = Vec::new();
        for record in self.filter_images(&request.filters)? {
            let is_meant = request.all || record.reference.is_none();
            if is_meant && !used.contains_key(record.id()) {
                removed.extend(self.prune_record(&record)?);
            }
        }
        Ok(removed)
    }

    fn prune_record(&self, record: &ImageRecord) -> Result<Vec<Removed>> {
        let mut removed = Vec::new();
        if !self.images.delete(record)? {
            return Ok(removed);
        }
        removed.extend(record.reference.as_ref().map(|name| Removed::Untagged(name.familiar())));
        if self.images.names_of(record.id())?.is_empty() {
            removed.push(Removed::Deleted(record.id().to_string()));
        }
        Ok(removed)
    }
}
