//! The size cap: after something was added, images that were not used for longest make room.
//!
//! Invariant: an image that a container was made of, and what was just added, are never removed.

use std::time::SystemTime;

use carrack_image::ImageRecord;
use carrack_oci::Digest;
use carrack_sys::lock::Lock;
use jiff::Timestamp;

use crate::event::{Event, Observer};
use crate::{Engine, Result};

impl Engine {
    /// Removes images until the store takes no more than `storage.max_size`, and tells of each one. While another
    /// operation is at work no space can be given back; then this is left to the next one that adds something.
    pub(crate) fn enforce_size_cap(&self, added: &[&Digest], observer: Observer<'_>) -> Result<()> {
        let Some(cap) = self.environment.settings.storage.max_size else { return Ok(()) };
        if Lock::try_exclusive(&self.operations_lock())?.is_none() {
            return Ok(());
        }
        let mut size_bytes = self.store_bytes()?;
        if size_bytes > cap.bytes() {
            // What nobody names goes first.
            self.collect_garbage()?;
            size_bytes = self.store_bytes()?;
        }
        while size_bytes > cap.bytes() {
            let Some((last_used, records)) = self.least_recently_used(added)? else {
                let text = format!(
                    "the store takes {size_bytes} bytes, above storage.max_size, and every image is in use"
                );
                observer(Event::Warning(&text));
                break;
            };
            for record in &records {
                self.images.delete(record)?;
            }
            self.collect_garbage()?;
            observer(Event::Status(&eviction_text(&records[0], last_used)));
            let before = std::mem::replace(&mut size_bytes, self.store_bytes()?);
            if size_bytes >= before {
                break;
            }
        }
        Ok(())
    }

    /// All records of the image that was not used for longest.
    fn least_recently_used(&self, added: &[&Digest]) -> Result<Option<(SystemTime, Vec<ImageRecord>)>> {
        let containers = self.containers.list()?;
        let is_used = |id: &Digest| containers.iter().any(|container| container.record.uses_image(id));
        let mut images: Vec<(SystemTime, Vec<ImageRecord>)> = Vec::new();
        for record in self.images.list()? {
            if added.contains(&record.id()) || is_used(record.id()) {
                continue;
            }
            let last_used = self.images.last_used(&record)?;
            match images.iter_mut().find(|(_, known)| known[0].id() == record.id()) {
                Some((latest, records)) => {
                    *latest = last_used.max(*latest);
                    records.push(record);
                }
                None => images.push((last_used, vec![record])),
            }
        }
        Ok(images.into_iter().min_by_key(|(last_used, _)| *last_used))
    }
}

fn eviction_text(record: &ImageRecord, last_used: SystemTime) -> String {
    let name =
        record.reference.as_ref().map_or_else(|| record.id().short().to_owned(), |name| name.familiar());
    let when = Timestamp::try_from(last_used)
        .map_or_else(|_| "long ago".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string());
    format!("Removed {name} (last used {when}) to stay below storage.max_size")
}
