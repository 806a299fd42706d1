//! When an image is pulled: always, only when it is missing, when the registry's differs, or never.
//!
//! Invariant: a reference by digest whose image is here never asks the network, whatever the policy; what a name meant
//! before never does.

use carrack_image::{ImageRecord, past_name};
use carrack_oci::{Digest, Platform, Reference};

use crate::error::OperationContext;
use crate::event::{Event, Observer};
use crate::origin::Origin;
use crate::pull::Pulled;
use crate::{Engine, Error, Result};

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Whether it is here or not.
    Always,
    /// When it is not here.
    Missing,
    /// When it is not here, or the registry has another one; what is here will do when the registry gives none.
    Newer,
    /// Not at all.
    Never,
}

impl Engine {
    /// The image that `name` names, pulled where `policy` says so. Without a platform, any that is here will do, and
    /// that of this machine is pulled.
    ///
    /// After a crash the image is recorded, or it is not and what was fetched is garbage.
    pub fn obtain(
        &self,
        name: &str,
        platform: Option<&Platform>,
        policy: PullPolicy,
        observer: Observer<'_>,
    ) -> Result<Pulled> {
        let here = self.find_for(name, platform)?;
        let keep = |record| {
            self.images.touch(&record);
            Ok(Pulled { record, is_new: false })
        };
        match (here, policy) {
            (Some(record), _) if names_digest(name) || past_name(name).is_some() => keep(record),
            (Some(record), PullPolicy::Missing | PullPolicy::Never) => keep(record),
            (None, PullPolicy::Never) => Err(self.not_here(name, platform)),
            // No registry knows images by their IDs.
            (None, _) if name.parse::<Digest>().is_ok() => Err(self.not_here(name, platform)),
            (None, _) => {
                if policy == PullPolicy::Missing {
                    observer(Event::Status(&format!("Unable to find image '{}' locally", with_tag(name))));
                }
                self.pull_name(name, platform, observer)
            }
            (Some(_), PullPolicy::Always) => self.pull_name(name, platform, observer),
            (Some(record), PullPolicy::Newer) => match self.pull_name(name, platform, observer) {
                Err(error) => {
                    let reason = error.with_causes();
                    observer(Event::Warning(&format!("the image that is here is used: {reason}")));
                    keep(record)
                }
                pulled => pulled,
            },
        }
    }

    /// Pulls the first image that `name` may stand for.
    fn pull_name(&self, name: &str, platform: Option<&Platform>, observer: Observer<'_>) -> Result<Pulled> {
        let pull = || {
            let names = self.image_names(name)?;
            if let Some(explanation) = &names.explanation {
                observer(Event::Status(explanation));
            }
            let origin = Origin::open_names(self, &names)?;
            self.pull_image(&origin, platform.unwrap_or(&Platform::host()), observer)
        };
        let pulled = self.clear_after_refusal(pull()).operation("pull", name)?;
        self.record_event("pull", &pulled.record);
        self.enforce_size_cap(&[pulled.record.id()], observer)?;
        Ok(pulled)
    }

    fn find_for(&self, name: &str, platform: Option<&Platform>) -> Result<Option<ImageRecord>> {
        let record = match self.images.find_record(name) {
            Ok((record, _)) => record,
            Err(carrack_image::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // A digest of a manifest, not of an index, leaves nothing to choose.
        let is_exact = names_digest(name) && record.target == record.manifest;
        let fits = platform.is_none_or(|wanted| wanted.distance(&record.platform).is_some());
        Ok((is_exact || fits).then_some(record))
    }

    /// Why an image that must not be pulled cannot be used.
    fn not_here(&self, name: &str, platform: Option<&Platform>) -> Error {
        match (self.find_image(name), platform) {
            (Ok(found), Some(wanted)) => {
                let message =
                    format!("the image {name} is here for {}, expected {wanted}", found.record.platform);
                Error::refused(message, "pull it for that platform first, or allow it with another --pull")
            }
            _ => carrack_image::Error::NotFound { text: with_tag(name) }.into(),
        }
    }
}

fn names_digest(name: &str) -> bool {
    name.parse::<Reference>().is_ok_and(|reference| reference.digest().is_some())
}

/// The name as Docker shows it: short, and with its tag.
fn with_tag(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.or_latest().familiar())
}
