//! The images of this machine: list, tag, untag, remove.

use std::collections::BTreeSet;

use carrack_container::Container;
use carrack_image::{Found, Image, ImageRecord, LogEntry, MatchedBy};
use carrack_oci::{Digest, Reference};

use crate::error::OperationContext;
use crate::garbage::Collected;
use crate::{Engine, Error, Result};

/// What removing an image did, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone.
    Untagged(String),
    /// The image is gone, by ID.
    Deleted(String),
}

/// How images are removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Also an image that was named by ID and has several names, or that the log of another name has.
    pub force: bool,
    /// Leaves layers that nothing names any more to a later collection.
    pub no_prune: bool,
}

impl Engine {
    /// Every image record, by name.
    pub fn list_images(&self) -> Result<Vec<ImageRecord>> {
        Ok(self.images.list()?)
    }

    /// The image that `name` names, with its other names.
    pub fn find_image(&self, name: &str) -> Result<Found> {
        Ok(self.images.find(name)?)
    }

    /// What a name means and has meant, the newest first.
    pub fn image_log(&self, name: &str) -> Result<Vec<LogEntry>> {
        self.images.log_of(name).operation("show the log of", name)
    }

    /// The IDs of all images that are here.
    pub fn image_ids(&self) -> Result<BTreeSet<Digest>> {
        Ok(self.images.list()?.into_iter().map(|record| record.config_digest).collect())
    }

    /// Manifest and config of a record.
    pub fn load_image(&self, record: &ImageRecord) -> Result<Image> {
        Ok(Image::load(&self.content, &record.manifest)?)
    }

    /// Gives the image that `source` names the further name `target`.
    pub fn tag(&self, source: &str, target: &str) -> Result<()> {
        let _operation = self.operation()?;
        let reference: Reference = target.parse().operation("tag", source)?;
        check_new_name(&reference).operation("tag", source)?;
        let found = self.images.find(source).operation("tag", source)?;
        let record = ImageRecord { reference: Some(reference.or_latest()), ..found.record };
        self.images.put(&record)?;
        self.record_event("tag", &record);
        Ok(())
    }

    /// Takes names from the image that `name` names: those in `targets`, or all; the image stays.
    pub fn untag(&self, name: &str, targets: &[String]) -> Result<Vec<String>> {
        let _operation = self.operation()?;
        let found = self.images.find(name).operation("untag", name)?;
        let mut records = Vec::new();
        for target in targets {
            records.push(self.images.find(target).operation("untag", target)?.record);
        }
        if targets.is_empty() {
            records = found.names;
        }
        let mut untagged = Vec::new();
        for record in records {
            if let Some(reference) = &record.reference {
                untagged.push(reference.familiar());
                self.untag_record(&record)?;
                self.record_event("untag", &record);
            }
        }
        Ok(untagged)
    }

    /// Removes what `name` names, then deletes what nothing names any more.
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        let removed = self.remove_and_tell(name, force)?;
        self.collect_garbage()?;
        Ok(removed)
    }

    /// Removes what each of `names` names, then deletes what nothing names any more. Each result is told to `report`
    /// at once; one that fails does not keep the others.
    pub fn remove_images(
        &self,
        names: &[String],
        options: &RemoveOptions,
        report: &mut dyn FnMut(Result<Vec<Removed>>),
    ) -> Result<Collected> {
        for name in names {
            report(self.remove_and_tell(name, options.force));
        }
        match options.no_prune {
            true => Ok(Collected::default()),
            false => self.collect_garbage(),
        }
    }

    fn remove_and_tell(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        let id = self.images.find(name).map(|found| found.record.id().to_string());
        let removed = self.remove_records(name, force).operation("remove image", name)?;
        for removed in &removed {
            match removed {
                Removed::Untagged(name) => self.image_event("untag", id.as_deref().unwrap_or(name), name),
                Removed::Deleted(id) => self.image_event("delete", id, id),
            }
        }
        Ok(removed)
    }

    /// Removes a name; the image itself goes with its last name, unless the log of another name has it: then it stays
    /// without a name.
    fn remove_records(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        let _operation = self.operation()?;
        let Found { record, matched_by, names } = self.images.find(name)?;
        // A digest that is no name of its own means the image, whatever names it has.
        let has_name_of_its_own =
            || record.reference.as_ref().is_some_and(|reference| reference.digest().is_some());
        let by_id = match matched_by {
            MatchedBy::Name => false,
            MatchedBy::Digest => !has_name_of_its_own(),
            MatchedBy::Id => true,
        };
        let is_last = by_id || names.len() == 1;
        if is_last && !by_id && !force && self.images.is_in_another_log(&record)? {
            let untagged = record.reference.iter().map(|name| Removed::Untagged(name.familiar())).collect();
            self.untag_record(&record)?;
            return Ok(untagged);
        }
        if is_last {
            self.refuse_if_used(&record, force)?;
        }
        if by_id && names.len() > 1 && !force {
            let hint = "remove it by its names, or with --force";
            return Err(Error::refused(format!("it has {} names", names.len()), hint));
        }
        let mut removed = Vec::new();
        for record in if by_id { &names[..] } else { std::slice::from_ref(&record) } {
            if let Some(reference) = &record.reference {
                removed.push(Removed::Untagged(reference.familiar()));
            }
            self.images.delete(record)?;
        }
        if is_last {
            removed.push(Removed::Deleted(record.id().to_string()));
        }
        Ok(removed)
    }

    /// An image that a container is made of, or mounts, is not removed; by force, if the container does not run: it
    /// keeps its layers, and cannot be committed any more.
    fn refuse_if_used(&self, record: &ImageRecord, force: bool) -> Result<()> {
        self.refuse_if_mounted(record.id())?;
        let is_user = |container: &Container| {
            let mounts_it = container.record.image_id != *record.id();
            let is_in_the_way = !force || mounts_it || container.state.status.is_active();
            container.record.uses_image(record.id()) && is_in_the_way
        };
        let Some(container) = self.containers.list()?.into_iter().find(is_user) else { return Ok(()) };
        let id = container.record.id.short();
        let message = format!("image is in use by container {} ({id})", container.record.name);
        let hint = match container.state.status.is_active() {
            true => format!("stop and remove the container first: carrack rm --force {id}"),
            false => format!("remove the container first: carrack rm {id}"),
        };
        Err(Error::refused(message, hint))
    }

    /// Removes a name; an image that loses its last one stays without a name.
    fn untag_record(&self, record: &ImageRecord) -> Result<()> {
        if self.images.names_of(record.id())?.len() == 1 {
            self.images.put(&ImageRecord { reference: None, ..record.clone() })?;
        }
        self.images.delete(record)?;
        Ok(())
    }
}

/// Refuses a name with a digest for an image that is made here: what it is called must not say what it is.
pub(crate) fn check_new_name(name: &Reference) -> Result<()> {
    match name.digest() {
        None => Ok(()),
        Some(_) => Err(Error::refused(format!("expected a name with a tag, got {name} with a digest"), "")),
    }
}
